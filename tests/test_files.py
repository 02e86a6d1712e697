"""Where output goes: one line for a place that cannot be used, nothing left of what failed."""

import errno
import os
from pathlib import Path

import pytest

from vlfau_jax import files
from vlfau_jax.errors import FileError, UserError, outcome
from vlfau_jax.files import (
    absolute_folder,
    claimed,
    clear,
    created,
    named,
    partial_name,
    read_bytes,
    regular_size,
    replaced_folder,
    written_together,
    written_whole,
)


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


def kinds_of_no_file(folder):
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    with (folder / "sparse").open("wb") as file:
        file.truncate(10 << 30)
    return {
        folder / "pipe": "is no regular file",
        folder / "folder": "is a folder; expected a file",
        folder / "sparse": "has 10737418240 bytes; at most 100 are read",
        folder / "none": "cannot be read: No such file",
        folder / "nul\0": "cannot be read: ",
        Path("/dev/zero"): "is no regular file",
    }


def test_only_regular_files_of_bounded_size_are_read(tmp_path):
    for path, message in kinds_of_no_file(tmp_path).items():
        with pytest.raises(FileError, match=message):
            read_bytes(path, 100)
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    assert read_bytes(tmp_path / "link", 3) == b"abc"


@pytest.fixture
def place(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text("old")
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_being_written_is_refused_to_others_and_swept_after_a_death(place):
    with written_whole(place) as partial:
        partial.write_text("new")
        with pytest.raises(UserError, match="is being written by another process"):
            written_whole(place).__enter__()
    assert place.read_text() == "new"
    partial_name(place).write_text("of a dead process")
    with written_whole(place) as partial:
        assert partial.read_text() == ""
    assert names(place.parent) == ["scores.json"]


def test_a_link_in_the_way_is_not_followed(place, tmp_path):
    other = tmp_path / "other"
    other.write_text("precious")
    partial_name(place).symlink_to(other)
    with pytest.raises(UserError, match="is in the way"), written_whole(place):
        pass
    assert other.read_text() == "precious"
    assert place.read_text() == "old"


RESULT = ("a", "b", "c")


def test_files_of_one_result_change_together(tmp_path):
    for name in RESULT:
        (tmp_path / name).write_text("old")
    with pytest.raises(ZeroDivisionError), written_together(tmp_path, RESULT) as new:
        (new / "a").write_text("new")
        1 / 0  # noqa: B018
    assert {name: (tmp_path / name).read_text() for name in names(tmp_path)} == dict.fromkeys(
        RESULT, "old"
    )
    with written_together(tmp_path, RESULT) as new:
        (new / "a").write_text("new")
        (new / "c").write_text("new")
        with pytest.raises(UserError, match="is being written by another process"):
            written_together(tmp_path, RESULT).__enter__()
    assert names(tmp_path) == ["a", "c"]


@pytest.mark.parametrize("renames", range(3))
def test_a_death_between_the_renames_is_made_good_by_the_next_call(tmp_path, monkeypatch, renames):
    for name in RESULT:
        (tmp_path / name).write_text("old")
    replace, done = os.replace, []

    def dies(*names):
        if len(done) == renames:
            raise SystemExit
        done.append(names)
        replace(*names)

    with pytest.raises(SystemExit), written_together(tmp_path, RESULT) as new:
        for name in RESULT:
            (new / name).write_text("new")
        monkeypatch.setattr(os, "replace", dies)
    monkeypatch.undo()
    with pytest.raises(ZeroDivisionError), written_together(tmp_path, RESULT):
        1 / 0  # noqa: B018
    assert {name: (tmp_path / name).read_text() for name in names(tmp_path)} == dict.fromkeys(
        RESULT, "new"
    )


def test_an_interrupted_result_is_kept_for_those_who_ask(tmp_path):
    for keep, found in [(True, []), (True, ["a"]), (False, []), (True, [])]:
        with (
            pytest.raises(KeyboardInterrupt),
            written_together(tmp_path, RESULT, keep=keep) as new,
        ):
            assert names(new) == found
            (new / "a").touch()
            raise KeyboardInterrupt


def ours(folder):
    return next((path.name for path in folder.iterdir() if path.name != "ours"), None)


def test_a_folder_is_replaced_whole(tmp_path):
    folder = tmp_path / "model"
    for content in ("1", "2"):
        with replaced_folder(folder, ours) as new:
            (new / "ours").write_text(content)
        assert (folder / "ours").read_text() == content
    with pytest.raises(ZeroDivisionError), replaced_folder(folder, ours) as new:
        (new / "ours").write_text("3")
        1 / 0  # noqa: B018
    assert (folder / "ours").read_text() == "2"
    assert names(tmp_path) == ["model"]


def test_a_foreign_entry_stops_it_by_name_whenever_it_comes(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(UserError, match=r"holds thesis\.tex"), replaced_folder(folder, ours):
        (folder / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"holds thesis\.tex"), replaced_folder(folder, ours):
        pytest.fail("nothing is to be done before")
    assert names(tmp_path) == ["model"]
    assert names(folder) == ["thesis.tex"]


def test_the_old_folder_is_put_back_after_a_death(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "ours").write_text("old")
    rename = os.rename

    def dies(source, target):
        if target == folder:
            raise SystemExit
        rename(source, target)

    with pytest.raises(SystemExit), replaced_folder(folder, ours):
        monkeypatch.setattr(os, "rename", dies)
    assert not folder.exists()
    monkeypatch.undo()
    with pytest.raises(ZeroDivisionError), replaced_folder(folder, ours):
        1 / 0  # noqa: B018
    assert (folder / "ours").read_text() == "old"
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("keep", [False, True])
def test_a_file_in_the_place_of_the_hidden_folder_is_swept(tmp_path, keep):
    partial_name(tmp_path / "a").write_text("of an earlier version")
    with written_together(tmp_path, RESULT, keep=keep) as new:
        (new / "a").write_text("new")
    assert names(tmp_path) == ["a"]


def test_an_empty_folder_is_not_kept(tmp_path):
    with pytest.raises(KeyboardInterrupt), written_together(tmp_path, RESULT, keep=True):
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_clear_follows_no_link(tmp_path):
    folder, other = tmp_path / "folder", tmp_path / "other"
    (folder / "deep").mkdir(parents=True)
    other.mkdir()
    (other / "precious").touch()
    (folder / "link").symlink_to(other)
    (folder / "a").symlink_to(other / "precious")
    (folder / "b").touch()
    clear(folder, but=("a", "b", "deep"))
    assert names(folder) == ["b"] and names(other) == ["precious"]


def test_a_place_is_claimed_by_one_and_removed_by_its_owner_alone(tmp_path):
    folder = tmp_path / "a/b"
    with claimed("--out", folder):
        with (
            pytest.raises(UserError, match="by another process"),
            claimed("--out", folder),
        ):
            pass
        assert folder.is_dir()  # the one that was refused has not removed it
    assert not (tmp_path / "a").exists()
    with claimed("--out", folder):
        (folder / "file").touch()
    assert (folder / "file").exists()


def test_a_place_that_vanishes_while_it_is_claimed_is_made_again(tmp_path, monkeypatch):
    folder = tmp_path / "a/b"
    original, calls = files.lock, []

    def lock(*arguments) -> None:
        calls.append(arguments)
        if len(calls) < 3:  # another process, which had made it, ends
            folder.rmdir()
            folder.parent.rmdir()
        original(*arguments)

    monkeypatch.setattr(files, "lock", lock)
    with claimed("--out", folder):
        assert folder.is_dir() and len(calls) == 3


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EMFILE", "EIO"])
def test_an_exhausted_machine_is_no_mistake_in_the_name_of_a_place(tmp_path, monkeypatch, name):
    def mkdir(path, *_: object, **__: object) -> None:
        number = getattr(errno, name)
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    for make in (created, claimed):
        with pytest.raises(OSError) as error, make("--out", tmp_path / "new"):
            pass
        assert outcome(error.value)[1] == 1


def test_an_error_without_a_place_gets_one():
    with (
        pytest.raises(OSError, match=r"No space left on device: 'here'"),
        named(Path("here")),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="there"), named(Path("here")):
        raise OSError(errno.ENOSPC, "No space left on device", "there")


def test_the_size_of_a_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    assert regular_size(tmp_path / "link", 5) == 5
    os.mkfifo(tmp_path / "pipe")
    for name, message in (
        ("file", "has 5 bytes"),
        ("pipe", "is no regular file"),
        ("none", "cannot be read: No such file"),
        ("", "is a folder"),
        ("nul\0", "cannot be read: embedded null"),
    ):
        with pytest.raises(FileError, match=message):
            regular_size(tmp_path / name, 4)
