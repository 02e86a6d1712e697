"""Tables of all kinds that are no tables: one line with the file and its line, in little memory."""

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from vlfau_jax.data.crop.box import box_in_table
from vlfau_jax.data.crop.landmarks import eyes_in_table
from vlfau_jax.data.crop.registry import crop_rule
from vlfau_jax.data.raw.bp4d_labels import read_intensity, read_occurrence
from vlfau_jax.data.raw.disfa_labels import read_levels
from vlfau_jax.data.raw.folder import index_folder
from vlfau_jax.data.raw.frames import Place
from vlfau_jax.data.raw.label_rows import LONGEST_LINE, read_rows
from vlfau_jax.errors import FileError, UserError
from vlfau_jax.facs import BP4D_AUS

EYES = "frame,left_eye_x,left_eye_y,right_eye_x,right_eye_y\n"
# Reader, name of its file, and two lines that it reads.
READERS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "occurrence": (
        lambda path: read_occurrence(path, BP4D_AUS),
        "F001_T1.csv",
        ",".join(["0", *map(str, BP4D_AUS)]) + "\n7" + ",0" * 12 + "\n",
    ),
    "intensity": (read_intensity, "F001_T1_AU06.csv", "7,0\n8,1\n"),
    "levels": (read_levels, "SN001_au1.txt", "1,0\n2,1\n"),
    "list": (lambda path: list(read_rows(path)), "BP4D_train_label_fold1.txt", "0 1\n1 0\n"),
    "folder": (
        lambda path: index_folder(path.parent),
        "labels.csv",
        "image,subject,AU1\na.jpg,anna,1\n",
    ),
    "landmarks": (
        lambda path: eyes_in_table(Place(str(path.parent / "1.jpg"))),
        "landmarks.csv",
        EYES + "1,10,20,30,21\n",
    ),
    "box": (
        lambda path: box_in_table(Place(str(path.parent / "a")), str(path), str(path.parent)),
        "boxes.csv",
        "source,left,top,width,height\na,1,2,3,4\n",
    ),
}


def sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def insert(path: Path, text: str, line: bytes) -> None:
    """The two lines, and a third one."""
    path.write_bytes(text.encode() + line + b"\n")


SPECIAL = {
    "fifo": (lambda path, _: os.mkfifo(path), "no regular file"),
    "device": (lambda path, _: path.symlink_to("/dev/zero"), "no regular file"),
    "folder": (lambda path, _: path.mkdir(), "is a folder"),
    "10 GB": (lambda path, _: sparse(path, 10 << 30), "10737418240 bytes; at most"),
}
WRONG = {
    "900 MB": (lambda path, _: sparse(path, 900 << 20), ":1: a line of more than"),
    "long line": (lambda path, text: insert(path, text, b"1" * (LONGEST_LINE + 1)), ":3: a line"),
    "many columns": (lambda path, text: insert(path, text, b"1," * 1_000_000), ":3: a line of"),
    "columns": (lambda path, text: insert(path, text, b"1," * 100_000 + b"1"), ":3: "),
    "bytes": (lambda path, text: insert(path, text, b"\xff\xfe\x80,1"), ":3: another encoding"),
    "NUL": (lambda path, text: insert(path, text, b"\0\0,\0"), ":3: "),
    "quote": (lambda path, text: insert(path, text, b'"1,2'), ":3: not a readable table"),
    "number": (lambda path, text: insert(path, text, b"9" * 5000 + b",1"), ":3: "),
}


@pytest.fixture
def table(tmp_path, request) -> tuple[Callable[[Path], object], Path, str]:
    """A reader, the place of its table, and a text for it."""
    read, name, text = READERS[request.param]
    (tmp_path / "a.jpg").touch()
    return read, tmp_path / name, text


@pytest.mark.parametrize("table", READERS, indirect=True)
def test_a_table_of_each_kind_is_read(table):
    read, path, text = table
    path.write_text(text)
    assert read(path) is not None


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("table", READERS, indirect=True)
def test_what_is_no_table_is_refused_by_its_name(table, kind):
    read, path, text = table
    write, message = SPECIAL[kind]
    write(path, text)
    if path.name == "labels.csv" and kind != "10 GB":
        message = "holds no labels.csv"
    with pytest.raises(UserError, match=message) as error:
        read(path)
    assert path.name in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("table", READERS, indirect=True)
def test_lines_that_are_none_are_named_and_take_little_memory(table, kind):
    read, path, text = table
    write, message = WRONG[kind]
    if path.name.startswith("BP4D_train") and kind in ("columns", "NUL", "number"):
        return  # lists are checked by their own reader
    write(path, text)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=f"{path.name}{message}") as error:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()
    assert "\n" not in str(error.value) and len(str(error.value)) < len(str(path)) + 300


@pytest.mark.parametrize("rule", ["box", "yunet"])
@pytest.mark.parametrize("kind", SPECIAL)
def test_the_file_of_a_crop_rule_is_a_regular_one(rule, kind, tmp_path):
    SPECIAL[kind][0](tmp_path / "file", "")
    with pytest.raises(UserError, match=rf"--crop_file=.*{SPECIAL[kind][1]}.*; expected ") as error:
        crop_rule(rule, 64, str(tmp_path / "file"))
    assert "\n" not in str(error.value)


def test_a_table_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileError, match=r"none\.csv: cannot be read: No such file"):
        next(read_rows(tmp_path / "none.csv"))


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_any_system(ending, tmp_path):
    (tmp_path / "a.csv").write_bytes(ending.join(["a,b", " 1 ,\u00e9", "", ""]).encode())
    assert list(read_rows(tmp_path / "a.csv")) == [(1, ["a", "b"]), (2, ["1", "\u00e9"])]
