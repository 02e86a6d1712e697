"""Where output goes: one line for a place that cannot be used, nothing left of what failed."""

import errno
from pathlib import Path

import pytest

from vlfau_jax.errors import UserError
from vlfau_jax.files import absolute_folder, created, written_whole


def test_a_name_that_is_too_long_is_refused_at_once(tmp_path):
    with pytest.raises(UserError, match=r"^--out=.*: File name too long; name another place$"):
        absolute_folder("--out", tmp_path / ("x" * 300))
    assert absolute_folder("--out", tmp_path / "x" / "y") == tmp_path / "x" / "y"


def test_a_folder_that_cannot_be_created_is_one_line(tmp_path, monkeypatch):
    def mkdir(path, *_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with (
        pytest.raises(UserError, match=r"^--data_dir=.*/new: Read-only file system; name another"),
        created("--data_dir", tmp_path / "new"),
    ):
        pass


def test_created_folders_that_stay_empty_are_removed(tmp_path):
    (tmp_path / "old").mkdir()
    with created("--out", tmp_path / "old/a/b"):
        assert (tmp_path / "old/a/b").is_dir()
    assert list((tmp_path / "old").iterdir()) == []
    with created("--out", tmp_path / "old/a/b"):
        (tmp_path / "old/a/file").touch()
    assert sorted(path.name for path in (tmp_path / "old").rglob("*")) == ["a", "file"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / "a.json"
    with written_whole(file) as partial:
        partial.write_text("1")
        assert not file.exists()
    with pytest.raises(KeyError), written_whole(file) as partial:
        partial.write_text("2")
        raise KeyError
    assert file.read_text() == "1" and list(tmp_path.iterdir()) == [file]
