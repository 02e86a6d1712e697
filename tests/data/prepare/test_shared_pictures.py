"""The same picture under two people is said, whatever the layout; the same one twice is not."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.data.builds import build
from tests.data.tree_writers import write_disfa, write_images, write_lists
from vlfau_jax.data.raw.picture_digest import NO_DIGEST, digest_bytes, digest_file


def remarks(folder: Path) -> tuple[int, list[str]]:
    report = json.loads((folder / "integrity.json").read_text())
    return report["shared_pictures"], report["remarks"]["picture_shared"]


def write_folder(root: Path, people: dict[str, str]) -> Path:
    """Three pictures a subject; `people` is subject -> the folder of its pictures."""
    rng = np.random.default_rng(0)
    for name in set(people.values()):
        write_images(root / name, ["1.jpg", "2.jpg", "3.jpg"], rng)
    rows = [f"{folder}/{k}.jpg,{who},1" for who, folder in people.items() for k in (1, 2, 3)]
    (root / "labels.csv").write_text("\n".join(["image,subject,AU12", *rows]))
    return root


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_folder(tmp_path / "raw", {"anna": "a", "bea": "b", "carl": "c"})


def test_copies_and_links_under_other_names_are_found(folder, tmp_path, capsys):
    shutil.copy(folder / "a/1.jpg", folder / "b/2.jpg")
    shutil.copy(folder / "a/3.jpg", folder / "b/3.jpg")
    (folder / "c/1.jpg").unlink()
    (folder / "c/1.jpg").symlink_to(folder / "a/2.jpg")
    found = remarks(build(folder, tmp_path / "set", "folder"))
    expected = [
        "anna, bea: 2 files, the first is a/1.jpg and b/2.jpg",
        "anna, carl: 1 file, the first is a/2.jpg and c/1.jpg",
    ]
    assert found == (3, expected)
    assert f"3 picture or video files under two people ({expected[0]})" in capsys.readouterr().out


def test_one_picture_under_three_people_counts_once(folder, tmp_path):
    for name in ("b", "c"):
        shutil.copy(folder / "a/1.jpg", folder / name / "1.jpg")
    line = "anna, bea, carl: 1 file, the first is a/1.jpg and b/1.jpg and c/1.jpg"
    assert remarks(build(folder, tmp_path / "set", "folder")) == (1, [line])


def test_a_person_may_have_a_picture_twice_and_damaged_ones_do_not_count(folder, tmp_path):
    shutil.copy(folder / "a/1.jpg", folder / "a/2.jpg")
    for name in ("b", "c"):
        (folder / name / "1.jpg").write_bytes(b"")
    assert remarks(build(folder, tmp_path / "set", "folder")) == (0, [])


def test_pictures_that_agree_in_the_digested_parts_only_are_compared(folder, tmp_path):
    """The digest leaves out what lies between its three parts: here a comment of the JPEG."""
    data = (folder / "a/1.jpg").read_bytes()
    for name, text in (("b", b"x"), ("c", b"y")):
        comments = b"\xff\xfe" + (5002).to_bytes(2) + bytes(5000)
        comments += b"\xff\xfe" + (12_002).to_bytes(2) + text * 2000 + bytes(10_000)
        (folder / name / "1.jpg").write_bytes(data[:2] + comments + data[2:])
    same = [digest_file(str(folder / name / "1.jpg")) for name in ("b", "c")]
    assert same[0] == same[1] == digest_bytes((folder / "b/1.jpg").read_bytes()) != NO_DIGEST
    assert remarks(build(folder, tmp_path / "set", "folder")) == (0, [])


def test_videos(tmp_path):
    write_disfa(tmp_path / "raw", ("SN001", "SN002", "SN003"), 3)
    videos = sorted((tmp_path / "raw").rglob("*.avi"))
    shutil.copy(videos[0], videos[2])
    number, (line,) = remarks(build(tmp_path / "raw", tmp_path / "set", "disfa"))
    assert number == 1 and line.startswith("SN001, SN003: 1 file, the first is Video")


def test_lists(tmp_path, rng):
    root = tmp_path / "raw"
    for subject in ("F001", "M001"):
        write_images(root / f"img/{subject}/T1", ["1.jpg"], rng)
    shutil.copy(root / "img/F001/T1/1.jpg", root / "img/M001/T1/1.jpg")
    zeros = " ".join("0" * 12)
    write_lists(root, "BP4D_train_{}_fold1", [(f"{s}/T1/1.jpg", zeros) for s in ("F001", "M001")])
    number, (line,) = remarks(build(root, tmp_path / "set"))
    assert number == 1 and "img/F001/T1/1.jpg and img/M001/T1/1.jpg" in line


def test_a_file_that_is_none_has_no_digest(tmp_path):
    assert digest_file(str(tmp_path / "none.avi")) == digest_file(str(tmp_path)) == NO_DIGEST
