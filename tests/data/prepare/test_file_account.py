"""Every file of a raw tree is read, or counted with the reason; the sums are checked."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.data.builds import build
from tests.data.tree_writers import write_disfa, write_images, write_lists, write_table
from vlfau_jax.data.raw.file_account import account_files


def report_of(folder: Path) -> dict:
    report = json.loads((folder / "integrity.json").read_text())
    files = report["files"]
    assert files["found"] == files["used"] + sum(files["passed_over"].values())
    assert report["labelled_frames"] == report["written"] + report["lost"]
    assert files["not_found_again"] == 0
    return report


def test_files_of_a_folder(tmp_path):
    rows = ["image,subject,AU1", *(f"{who}/{k}.jpg,{who},1" for who in "abc" for k in (1, 2, 3))]
    root = write_table(tmp_path / "raw", rows)
    shutil.move(root / "c", tmp_path / "elsewhere")
    (root / "c").symlink_to(tmp_path / "elsewhere")  # read behind a link
    (tmp_path / "elsewhere/extra.JPG").touch()
    (root / "unread").symlink_to(tmp_path)
    (root / "loop").symlink_to(root)
    (root / "gone.jpg").symlink_to(root / "none")
    os.mkfifo(root / "pipe.png")
    (root / ".hidden").mkdir()
    (root / ".hidden/a.jpg").touch()
    (root / "old/deep").mkdir(parents=True)
    for name in ("a.HEIC", "b.heic", "c.mov", "notes", "d.x\ny", "e." + "z" * 99):
        (root / "old/deep" / name).touch()
    (root / "a/3.jpg").write_bytes(b"")
    report = report_of(build(root, tmp_path / "set", "folder"))
    assert report["files"]["passed_over"] == {
        "*.heic": 2,
        "links to folders in which nothing was read": 2,
        "links that lead nowhere, pipes and devices": 2,
        "other endings": 2,
        "hidden names": 1,
        "pictures without a label": 1,
        "*.mov": 1,
        "names without an ending": 1,
    }
    assert report["files"]["used"] == 10 and report["lost"] == 1
    text = (tmp_path / "set/folder/none_32/2.0.0/integrity.txt").read_text()
    assert "files     22 found: 10 read, passed over 2 " in text


def test_files_of_disfa(tmp_path):
    root = tmp_path / "raw"
    write_disfa(root, ("SN001", "SN002"), 3)
    shutil.copytree(root / "ActionUnit_Labels/SN001", root / "backup")
    tables = [*(root / "ActionUnit_Labels").rglob("*.txt")]
    report = report_of(build(root, tmp_path / "set", "disfa"))
    assert report["files"]["used"] == len(tables) + 2
    assert report["files"]["passed_over"]["*.txt"] == len([*(root / "backup").iterdir()])


def test_files_of_bp4d(write_tree, tmp_path):
    root = write_tree(("F001",))
    unlabelled = next((root / "Sequences(2D+3D)").rglob("*.jpg")).parent / "99999.jpg"
    unlabelled.touch()
    unlabelled.with_suffix(".obj").touch()
    report = report_of(build(root, tmp_path / "set"))
    assert report["files"]["passed_over"].get("*.obj") == 1
    assert report["files"]["passed_over"]["pictures without a label"] >= 1


def test_files_of_lists(tmp_path, rng):
    root = tmp_path / "raw"
    write_images(root / "img/F001/T1", ["1.jpg", "2.jpg"], rng)
    write_lists(root, "BP4D_train_{}_fold1", [("F001/T1/1.jpg", " ".join("0" * 12))])
    report = report_of(build(root, tmp_path / "set"))
    assert report["files"] == {
        "found": 4,
        "used": 3,
        "passed_over": {"pictures without a label": 1},
        "not_found_again": 0,
    }


def test_files_that_have_gone_and_relative_roots(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.jpg").touch()
    monkeypatch.chdir(tmp_path)
    for root in (tmp_path, Path()):
        used = {str(root / "a/1.jpg"), str(root / "a/2.jpg"), "/elsewhere/3.csv"}
        files = account_files(root, used)
        assert (files["found"], files["used"], files["not_found_again"]) == (1, 1, 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list any folder")
def test_a_folder_that_may_not_be_listed(tmp_path):
    (tmp_path / "a").mkdir(mode=0)
    assert account_files(tmp_path, ())["passed_over"] == {"folders that cannot be listed": 1}
