"""The comparison of two versions sees what differs, and only lets pass what it names."""

import json

import pytest

from tests.compare_versions import compare


def write(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize(
    ("name", "before", "after", "verdict"),
    [
        ("a.csv", "1", "1", "identical"),
        ("a.csv", "1", "2", "different"),
        ("run/report.html", "<p>", "<b>", "presentation"),
        ("run/scores.json", {"mean_f1": 0.5, "epoch": "last"}, {"mean_f1": 0.4}, "different"),
        (
            "run/scores.json",
            {"mean_f1": 0.5, "epoch": "last"},
            {"mean_f1": 0.5, "checkpoint": "last"},
            "equal but for named values",
        ),
        (
            "final.json",
            {"step": 2, "params_digest": "a", "seconds": {"train": 1.0}},
            {"step": 2, "params_digest": "a", "seconds": {"train": 2.0}},
            "equal but for named values",
        ),
        (
            "final.json",
            {"step": 2, "params_digest": "a", "seconds": 1},
            {"step": 2, "params_digest": "b", "seconds": 1},
            "different",
        ),
        (
            "model/config.json",
            {"aus": [1], "files_sha256": {"README.md": "a", "model.safetensors": "b"}},
            {"aus": [1], "files_sha256": {"README.md": "c", "model.safetensors": "b"}},
            "equal but for named values",
        ),
        (
            "model/config.json",
            {"aus": [1], "files_sha256": {"README.md": "a", "model.safetensors": "b"}},
            {"aus": [1], "files_sha256": {"README.md": "a", "model.safetensors": "c"}},
            "different",
        ),
        (
            "predicted/predictions.columns.json",
            {"predictions.csv": {"frame": "old words"}},
            {"predictions.csv": {"frame": "new words"}},
            "equal but for named values",
        ),
        ("run/checkpoints/8/params/d/a1", "1", "2", "stored arrays and logs"),
    ],
)
def test_verdicts(tmp_path, name, before, after, verdict):
    write(tmp_path / "before", name, before)
    write(tmp_path / "after", name, after)
    assert compare(tmp_path / "before", tmp_path / "after") == {verdict: [name]}


def test_safetensors_are_compared_whatever_the_order_of_their_metadata(tmp_path):
    def save(version, value, metadata):
        (tmp_path / version).mkdir(exist_ok=True)
        header = json.dumps({"__metadata__": metadata}).encode()
        content = len(header).to_bytes(8, "little") + header + value
        (tmp_path / version / "a.safetensors").write_bytes(content)

    save("before", b"12", {"a": "1", "b": "2"})
    save("after", b"12", {"b": "2", "a": "1"})
    found = compare(tmp_path / "before", tmp_path / "after")
    assert found == {"equal but for named values": ["a.safetensors"]}
    save("after", b"13", {"b": "2", "a": "1"})
    assert compare(tmp_path / "before", tmp_path / "after") == {"different": ["a.safetensors"]}
    save("after", b"12", {"b": "2", "a": "3"})
    assert compare(tmp_path / "before", tmp_path / "after") == {"different": ["a.safetensors"]}


def test_a_file_of_one_version_alone_is_missing(tmp_path):
    write(tmp_path / "before", "a.csv", "1")
    write(tmp_path / "after", "b.csv", "1")
    found = compare(tmp_path / "before", tmp_path / "after")
    assert found == {"missing": ["a.csv", "b.csv"]}
