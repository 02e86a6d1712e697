"""A raw BP4D tree with every trap, prepared and read back."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.data.builds import IMAGES, build
from vlfau_jax.facs import BP4D_AUS

LABELS = "AUCoding/AU_OCC"
LEVELS = "AUCoding/AU_INT/AU12/F001_T1_AU12.csv"


def edit_labels(path: Path, line: int, column: str, cell: str) -> None:
    rows = list(csv.reader(path.read_text().splitlines()))
    rows[line][rows[0].index(column)] = cell
    path.write_text("\n".join(",".join(row) for row in rows) + "\n")


def csv_codes(raw: Path, subject: str, task: int, frame: int) -> list[int]:
    """Reads a label file in another way than the builder does."""
    with (raw / LABELS / f"{subject}_T{task}.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if int(row["0"]) == frame)
    return [{"0": 0, "1": 1, "9": -1}[row[str(au)]] for au in BP4D_AUS]


def claiming_65500_pixels(jpeg: bytes) -> bytes:
    size = jpeg.index(b"\xff\xc0") + 5  # height and width, two bytes each
    return jpeg[:size] + b"\xff\xdc" * 2 + jpeg[size + 4 :]


@pytest.fixture
def trapped(write_tree) -> Path:
    raw = write_tree(("F001", "M003", "F024"))
    edit_labels(raw / LABELS / "F001_T1.csv", 2, "14", "9")
    image = raw / IMAGES / "M003/T1/9.jpg"
    image.write_bytes(image.read_bytes()[:1500])
    (raw / IMAGES / "M003/T1/10.jpg").write_bytes(b"no picture")
    (raw / IMAGES / "M003/T2/0011.jpg").unlink()
    shutil.copy(raw / IMAGES / "F001/T1/8.jpg", raw / IMAGES / "F001/T1/99.jpg")
    shutil.copytree(raw / IMAGES / "F001/T1", raw / IMAGES / "F001/T7")
    shutil.copy(raw / LABELS / "F001_T1.csv", raw / LABELS / "F001_T8.csv")
    (raw / IMAGES / "F001/T1/Thumbs.db").touch()
    gap = raw / LABELS / "F024_T1.csv"
    lines = gap.read_text().splitlines(keepends=True)
    gap.write_text("".join(lines[:3] + lines[4:]))
    levels = raw / LEVELS
    levels.parent.mkdir(parents=True)
    levels.write_text("8,3\n9,9\n10,0\n77,2\n")
    return raw


def test_every_trap_is_found_and_every_label_equals_its_cell(trapped, tmp_path):
    folder = build(trapped, tmp_path / "set")
    report = json.loads((folder / "integrity.json").read_text())
    assert report["losses"] == {
        "image_missing": [
            *(f"{IMAGES}/F001/T8/{n}.jpg" for n in range(8, 13)),  # labels without a folder
            f"{IMAGES}/M003/T2/11.jpg",
        ],
        "image_unreadable": [f"{IMAGES}/M003/T1/9.jpg", f"{IMAGES}/M003/T1/10.jpg"],
        "image_incomplete": [],
        "image_too_large": [],
        "no_face": [],
        "not_in_table": [],
    }
    facts = {(s["subject"], s["task"]): s for s in report["sequences"]}
    assert facts["F001", 1]["unlabelled_images"] == 1 and facts["F001", 1]["unknown_labels"] == 1
    assert facts["M003", 1]["written"] == 3
    assert report["written"] == 30 - 4 and report["lost"] == 8

    seen = 0
    for example in tfds.builder_from_directory(folder).as_data_source("F001+F024+M003"):
        subject = example["subject"].decode()
        expected = csv_codes(trapped, subject, example["task"], example["frame"])
        assert example["occurrence"].tolist() == expected
        level = {8: 3, 9: -1, 10: 0}.get(example["frame"], -1)
        place = (subject, example["task"])
        assert example["intensity"][6] == (level if place == ("F001", 1) else -1)
        assert (np.delete(example["intensity"], 6) == -1).all()
        assert (trapped / example["source"].decode()).is_file()
        assert example["sex"].decode() == {"F": "female", "M": "male"}[subject[0]]
        seen += 1
    assert seen == 26

    table = (folder / "integrity.txt").read_text()
    for place in [*report["losses"]["image_unreadable"], "F024_T1.csv: 10 to 10", "26 frames"]:
        assert place in table


def test_metadata_describes_what_was_written(trapped, tmp_path):
    (trapped / "SYNTHETIC.json").write_text("{}")
    folder = build(trapped, tmp_path / "set")
    metadata = json.loads((folder / "metadata.json").read_text())
    crop = metadata.pop("crop")
    assert metadata.pop("opencv") and metadata.pop("crop_table_sha256") == ""
    assert (crop["name"], crop["size"], len(crop["digest"])) == ("none", 32, 16)
    assert metadata == {
        "aus": list(BP4D_AUS),
        "benchmark": list(BP4D_AUS),
        "synthetic": True,
        "layout": "raw",
        "camera": "",
        "frame_offset": 0,
        "tasks": [1, 2],
        "subjects": {
            "F001": {"frames": 10, "sex": "female", "fold": 0},
            "F024": {"frames": 9, "sex": "female", "fold": 0},
            "M003": {"frames": 7, "sex": "male", "fold": 0},
        },
        "list_folds": {},
    }
    report = json.loads((folder / "integrity.json").read_text())
    for subject, about in metadata["subjects"].items():
        source = tfds.builder_from_directory(folder).as_data_source(subject)
        codes = np.array([example["occurrence"] for example in source])
        counted = report["subjects"][subject]
        assert counted["frames"] == about["frames"] == len(codes)
        assert counted["positives"] == (codes == 1).sum(0).tolist()
        assert counted["known"] == (codes >= 0).sum(0).tolist()


def test_a_frame_offset_is_in_the_name_and_the_sources(write_tree, tmp_path):
    folder = build(write_tree(("F001",)), tmp_path / "set", frame_offset=1)
    assert folder.parent.name == "none_32_offset1"
    source = tfds.builder_from_directory(folder).as_data_source("F001")
    assert [(e["frame"], e["source"].decode()) for e in source][:4] == [
        (n, f"{IMAGES}/F001/T1/{n + 1}.jpg") for n in range(8, 12)
    ]


def test_files_that_cannot_be_read_cost_only_their_frames(write_tree, tmp_path):
    raw = write_tree(("F001",))
    images = raw / IMAGES / "F001/T1"
    for name in ("8.jpg", "9.jpg", "10.jpg"):
        whole = (images / name).read_bytes()
        (images / name).unlink()
    (images / "8.jpg").symlink_to("nowhere.jpg")
    (images / "9.jpg").mkdir()
    (images / "10.jpg").write_bytes(claiming_65500_pixels(whole))
    folder = build(raw, tmp_path / "set")
    report = json.loads((folder / "integrity.json").read_text())
    eighth, ninth, tenth = (f"{IMAGES}/F001/T1/{n}.jpg" for n in (8, 9, 10))
    assert report["losses"]["image_unreadable"] == [eighth, ninth]
    assert report["losses"]["image_too_large"] == [tenth] and report["written"] == 7
