"""Broken files of every kind: one line that says what is wrong, or labels that the file holds.
A tree has bytes, cells, rows or names changed at random; simpler readers are the oracles."""

import csv
import io
import os
import tempfile
import tracemalloc
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.data.tree_writers import (
    DISFA_CODED,
    HEADER,
    facts_of,
    write_disfa,
    write_labels,
    write_levels,
    write_lists,
    write_video,
)
from vlfau_jax.data.raw.bp4d import index_bp4d
from vlfau_jax.data.raw.disfa import index_disfa
from vlfau_jax.data.raw.folder import index_folder
from vlfau_jax.data.raw.frames import read_frames
from vlfau_jax.data.raw.integrity_text import format_report
from vlfau_jax.data.raw.tree import ImageFiles, RawTree
from vlfau_jax.errors import UserError
from vlfau_jax.facs import BP4D_AUS, DISFA_AUS


def fuzz(examples: int) -> settings:
    """The same examples in every run, and none kept from earlier ones."""
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None)


@contextmanager
def tree():
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "raw"


def read(index, root: Path, **options) -> RawTree | None:
    """The tree, or None for a user's mistake, which must be one printable line."""
    try:
        found = index(root, **options)
    except UserError as error:
        event("refused")
        assert len(str(error).splitlines()) == 1, str(error)
        str(error).encode()
        return None
    event("read")
    text = format_report(found.report).encode("utf-8", "backslashreplace")
    assert text and found.report.as_json()
    for sequence in found.sequences:
        frames = len(sequence.frames)
        shape = (frames, len(found.aus))
        assert frames and list(sequence.frames) == sorted(set(sequence.frames))
        assert sequence.occurrence.shape == sequence.intensity.shape == shape
        assert sequence.occurrence.dtype == sequence.intensity.dtype == np.int8
        assert np.isin(sequence.occurrence, (-1, 0, 1)).all()
        assert np.isin(sequence.intensity, (-1, 0, 1, 2, 3, 4, 5)).all()
        pictures = sequence.pictures
        named = pictures.paths if isinstance(pictures, ImageFiles) else pictures.positions
        assert len(named) == frames
    return found


# How a file gets broken: bytes, cells and lines are changed, and the whole is encoded anew.

TOKENS = [
    *("", "9", "7", "-1", "1.0", "+1", "1e3", "0x1", "x", "\u00b2", "\u0661", "NaN", " 1 ", "01"),
    *('"', '""', '"1', "'", "\x00", "\ufeff", "\x1a", "\u2028", "=1+1", "1;0", "\t", "9" * 40),
    *("999999999", "1000000000", "2147483648", "99999999999999999999", "\\", "../..", "é"),
]

HARMLESS = [*(["code"] * 3), "drop line", "swap", "quotes", "column"]
ACCIDENTS = [
    *("cell", "token", "drop cell", "extra cell", "repeat line", "blank"),
    *("cut", "delete", "insert"),
]


@st.composite
def broken(draw, text: str, separator: str) -> bytes:
    """`text` after some accidents; many leave labels that can be read, but other ones."""
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 3]))):
        lines = text.split("\n")
        i = draw(st.integers(0, len(lines) - 1))
        kind = draw(st.sampled_from(HARMLESS) | st.sampled_from(ACCIDENTS))
        cells = lines[i].split(separator)
        j = draw(st.integers(0, len(cells) - 1))
        token = draw(st.sampled_from(TOKENS) | st.text(max_size=4))
        at = draw(st.integers(0, len(text)))
        if kind == "code":
            cells[j] = draw(st.sampled_from(["0", "1", " 1", "9", "3", "5", ""]))
        elif kind == "cell":
            cells[j] = token
        elif kind == "token":
            cells[j] += token
        elif kind == "drop cell":
            del cells[j]
        elif kind == "extra cell":
            cells.insert(j, token)
        elif kind == "quotes":
            cells[j] = f'"{cells[j]}"'
        lines[i] = separator.join(cells)
        if kind == "drop line":
            del lines[i]
        elif kind == "repeat line":
            lines.insert(draw(st.integers(0, len(lines))), lines[i])
        elif kind == "swap":
            k = draw(st.integers(0, len(lines) - 1))
            lines[i], lines[k] = lines[k], lines[i]
        elif kind == "blank":
            lines.insert(i, draw(st.sampled_from(["", " ", separator * 3])))
        elif kind == "column":
            rows = [line.split(separator) for line in lines]
            lines = [separator.join(row[:j] + row[j + 1 :]) for row in rows]
        text = "\n".join(lines)
        if kind == "cut":
            text = text[:at]
        elif kind == "delete":
            text = text[:at] + text[at + draw(st.integers(1, 9)) :]
        elif kind == "insert":
            text = text[:at] + token + text[at:]
    text = text.replace("\n", draw(st.sampled_from(["\n"] * 12 + ["\r\n", "\r", "\n\r", "\x0b"])))
    encoding = draw(st.sampled_from(["utf-8"] * 12 + ["utf-8-sig", "utf-16", "latin-1"]))
    content = bytearray(text.encode(encoding, "replace"))
    if content and draw(st.integers(0, 9)) == 9:
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content)


def rows_of(content: bytes) -> list[list[str]]:
    """The oracle's view of a CSV file: stripped cells, empty rows left out."""
    text = content.decode("utf-8-sig")
    rows = csv.reader(io.StringIO(text, newline=""))
    return [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]


def code(cell: str, unknown: str) -> int:
    return -1 if cell == unknown else {str(k): k for k in range(6)}[cell]


# BP4D

FRAMES = range(8, 13)


@cache
def occurrence_text() -> str:
    rng = np.random.default_rng(5)
    rows = [[n, *rng.choice([0, 0, 1, 9], 39)] for n in FRAMES]
    return "".join(",".join(map(str, row)) + "\n" for row in [HEADER, *rows])


def write_sequence(root: Path, labels: bytes, place: str = "F001/T1") -> None:
    images = root / "Sequences(2D+3D)" / place
    images.mkdir(parents=True)
    for n in (*FRAMES, 0, 999_999_999):
        (images / f"{n}.jpg").touch()
    path = root / "AUCoding/AU_OCC/F001_T1.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(labels)


@fuzz(300)
@given(content=broken(occurrence_text(), ","))
def test_occurrence_files(content):
    with tree() as root:
        write_sequence(root, content)
        found = read(index_bp4d, root)
        if found is None:
            return
        header, *rows = rows_of(content)
        by_frame = {int(row[0]): row for row in rows}
        assert len(by_frame) == len(rows) == facts_of(found.report, "F001", 1).labelled
        for frame, codes in zip(
            found.sequences[0].frames, found.sequences[0].occurrence, strict=True
        ):
            cells = {int(name): cell for name, cell in zip(header, by_frame[frame], strict=True)}
            assert codes.tolist() == [code(cells[au], "9") for au in BP4D_AUS]


@fuzz(160)
@given(content=broken("".join(f"{n},{n % 6}\n" for n in range(7, 14)), ","))
def test_intensity_files(content):
    with tree() as root:
        write_sequence(root, occurrence_text().encode())
        path = root / "AUCoding/AU_INT/AU10/F001_T1_AU10.csv"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        found = read(index_bp4d, root)
        if found is None:
            return
        (sequence,) = found.sequences
        levels = {int(frame): code(cell, "9") for frame, cell in rows_of(content)}
        expected = [levels.get(frame, -1) for frame in sequence.frames]
        assert sequence.intensity[:, BP4D_AUS.index(10)].tolist() == expected
        assert (np.delete(sequence.intensity, BP4D_AUS.index(10), 1) == -1).all()


# Names that are nearly, or also, those of what belongs into a folder.
SUBJECTS = ["F01", "F0001", "f001", "M001", "F001 ", " F001", ".F001", "F00\u0661", "\u24bb001"]
TASKS = ["T2", "T01", "T001", "T0001", "T", "t1", "T1 ", "T\u0661", "..T1", "T-1", "T1.jpg"]
PICTURES = [
    *("13.jpg", "008.jpg", "0000000008.jpg", "8.JPEG", "8 .jpg", "8.jpg~", "8", "\u0668.jpg"),
    *("9.png", "-8.jpg", "+8.jpg", "8.5.jpg", "99999999.jpg", "9999999999.jpg", "._8.jpg"),
]
FILES = ["F001_T2.csv", "F001_T01.csv", "F001_T1.CSV", "F001_T1 (1).csv", "M001_T2.csv", "T1.csv"]
VIDEOS = [
    *("leftvideosn001_COMP.avi", "LeftVideoSN001_comp.avi.part", "LeftVideoSN002_comp.avi"),
    *("LeftVideo\u017fN001_comp.avi", "RightVideoSN001_comp.avi", "LeftVideoSN01_comp.avi"),
]
FOLDERS = ["SN002", "sn001", "\u017fn001", "SN01", "SN001 ", "sN003"]
UNITS = ["SN001_au01.txt", "sn001_AU2.TXT", "SN001_au5.txt", "SN002_au5.txt", "SN001_au3.txt"]
ROOTS = ["img", "list", "AUCoding ", "actionunit_labels", "Video_LeftCamera", "labels.csv"]
ANY = st.sampled_from(["a\nb", "\u202etxt", "x" * 200, "\u00e9\u0301", "\udcff", "\x7f"]) | st.text(
    st.characters(exclude_characters="/\x00"), min_size=1, max_size=8
).filter(lambda name: name not in (".", ".."))
KINDS = ("file", "file", "folder", "folder", "loop", "dangling", "parent", "copy")


def other_names_in(*pools: list[str]) -> st.SearchStrategy[list[tuple[int, str, str]]]:
    """Up to six things to plant: number of the place, name (often of that place's kind), kind."""
    one = st.integers(0, len(pools) - 1).flatmap(
        lambda i: st.tuples(
            st.just(i) | st.integers(0, 9), st.sampled_from(pools[i]) | ANY, st.sampled_from(KINDS)
        )
    )
    return st.lists(one, min_size=1, max_size=6)


def plant(folder: Path, name: str, kind: str, content: bytes) -> Path:
    """Puts something where nothing is yet; a name that this system cannot hold stays away."""
    path = folder / name
    try:
        if os.path.lexists(path):
            return folder
        if kind == "file" or (kind == "copy" and not content):
            path.touch()
        elif kind == "copy":
            path.write_bytes(content)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to({"loop": path, "dangling": folder / "gone", "parent": ".."}[kind])
    except (OSError, UnicodeEncodeError):
        return folder
    return path if kind == "folder" else folder


@fuzz(250)
@given(others=other_names_in(SUBJECTS, TASKS, PICTURES, FILES, ROOTS))
def test_names_in_a_bp4d_tree(others):
    with tree() as root:
        labels = occurrence_text().encode()
        write_sequence(root, labels)
        places = [
            *(root / "Sequences(2D+3D)" / place for place in ("", "F001", "F001/T1")),
            root / "AUCoding/AU_OCC",
            root,
        ]
        for where, name, kind in others:
            places.append(plant(places[where % len(places)], name, kind, labels))
        found = read(index_bp4d, root)
        if found is None:
            return
        header, *rows = rows_of(labels)
        cells = {int(row[0]): dict(zip(header, row, strict=True)) for row in rows}
        for sequence in found.sequences:
            assert sequence.subject in ("F001", "M001") and sequence.task in (0, 1, 2)
            for i, frame in enumerate(sequence.frames):
                expected = [code(cells[frame][str(au)], "9") for au in BP4D_AUS]
                assert sequence.occurrence[i].tolist() == expected
                assert int(Path(sequence.pictures.paths[i]).stem) == frame


# DISFA


@cache
def video_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "v.avi"
        write_video(path, 7, np.random.default_rng(0))
        return path.read_bytes()


def write_subject(root: Path, video: bytes) -> None:
    folder = root / "Videos_LeftCamera"
    folder.mkdir(parents=True)
    (folder / "LeftVideoSN001_comp.avi").write_bytes(video)
    for au in DISFA_CODED[:4]:
        path = root / "ActionUnit_Labels" / "SN001" / f"SN001_au{au}.txt"
        write_levels(path, [(au + k) % 6 for k in range(7)])


@fuzz(200)
@given(content=broken("".join(f"{n},{n % 6}\n" for n in range(1, 8)), ","))
def test_disfa_label_files(content):
    with tree() as root:
        write_subject(root, video_bytes())
        (root / "ActionUnit_Labels/SN001/SN001_au2.txt").write_bytes(content)
        found = read(index_disfa, root)
        if found is None:
            return
        (sequence,) = found.sequences
        levels = {int(frame): code(cell, "none") for frame, cell in rows_of(content)}
        assert list(levels) == list(range(1, len(levels) + 1))
        expected = [levels.get(frame, -1) for frame in sequence.frames]
        assert sequence.intensity[:, 1].tolist() == expected
        assert sequence.intensity[:, 0].tolist() == [(1 + k) % 6 for k in range(7)]
        assert (sequence.occurrence == -1).all()


@fuzz(120)
@given(others=other_names_in(ROOTS, VIDEOS, FOLDERS, UNITS))
def test_names_in_a_disfa_tree(others):
    with tree() as root:
        write_subject(root, video_bytes())
        labels = root / "ActionUnit_Labels"
        places = [root, root / "Videos_LeftCamera", labels, labels / "SN001"]
        for where, name, kind in others:
            places.append(plant(places[where % len(places)], name, kind, b"1,3\n"))
        found = read(index_disfa, root)
        if found is None:
            return
        for sequence in found.sequences:
            assert sequence.subject == "SN001"
            for i, au in enumerate(DISFA_CODED[:4]):
                assert sequence.intensity[:, i].tolist() == [(au + k) % 6 for k in range(7)]


@fuzz(120)
@given(
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=6))),
    end=st.none() | st.integers(0, 10**6),
)
def test_video_bytes(changes, end):
    content = bytearray(video_bytes())
    for at, data in changes:
        at %= len(content)
        content[at : at + len(data)] = data
    with tree() as root:
        write_subject(root, bytes(content[: None if end is None else end % len(content)]))
        write_disfa(root, ("SN002",), 2)  # so that the tree is usable whatever happened
        found = read(index_disfa, root)
        assert found is not None
        for sequence in found.sequences:
            try:
                pictures = list(read_frames(sequence.pictures))
            except UserError as error:
                assert len(str(error).splitlines()) == 1
                continue
            assert len(pictures) == len(sequence.frames)
            for picture in pictures:
                assert isinstance(picture, str) or (
                    picture.dtype == np.uint8 and picture.shape[2] == 3
                )
        facts = facts_of(found.report, "SN001", 1)
        with_image = sum(len(s.frames) for s in found.sequences if s.subject == "SN001")
        assert facts.labelled == 7 == with_image + found.report.lost


@cache
def picture_bytes(suffix: str) -> bytes:
    picture = np.random.default_rng(1).integers(0, 256, (16, 20, 3), np.uint8)
    return cv2.imencode(suffix, picture)[1].tobytes()


@fuzz(250)
@given(
    suffix=st.sampled_from([".jpg", ".png", ".bmp"]),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=6))),
    end=st.none() | st.integers(0, 10**6),
)
def test_image_bytes(suffix, changes, end):
    content = bytearray(picture_bytes(suffix))
    for at, data in changes:
        at %= len(content)
        content[at : at + len(data)] = data
    cut = content[: None if end is None else end % len(content)]
    with tree() as root:
        root.mkdir()
        path = root / f"a{suffix}"
        path.write_bytes(bytes(cut))
        (picture,) = read_frames(ImageFiles((str(path),)))
        assert isinstance(picture, str) or (picture.dtype == np.uint8 and picture.shape[2] == 3)
        whole = bytes(cut) == picture_bytes(suffix)
        assert not isinstance(picture, str) if whole else True


# ME-GraphAU's lists


def list_rows() -> list[tuple[str, str]]:
    rng = np.random.default_rng(6)
    return [(f"SN001/{i}.png", " ".join(map(str, rng.integers(0, 2, 8)))) for i in range(6)]


def oracle_lines(content: bytes) -> list[str]:
    text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    lines = [line.strip() for line in text.split("\n")]
    while lines and not lines[-1].replace('""', ""):  # an empty cell may be quoted
        lines.pop()
    return lines


@fuzz(250)
@given(data=st.data(), which=st.sampled_from(["paths", "labels", "both"]))
def test_lists_of_a_prepared_tree(data, which):
    rows = list_rows()
    with tree() as root:
        paths, labels = write_lists(root, "DISFA_train_{}_fold1", rows)
        if which != "labels":
            paths.write_bytes(data.draw(broken(paths.read_text(), "/")))
        if which != "paths":
            labels.write_bytes(data.draw(broken(labels.read_text(), " ")))
        (root / "img/SN001").mkdir(parents=True)
        for i in range(10):
            (root / f"img/SN001/{i}.png").touch()
        found = read(index_disfa, root)
        if found is None:
            return
        names, codes = oracle_lines(paths.read_bytes()), oracle_lines(labels.read_bytes())
        expected = {
            name.removeprefix("img/"): list(map(int, row.split()))
            for name, row in zip(names, codes, strict=True)
        }
        (sequence,) = found.sequences
        columns = [DISFA_CODED.index(au) for au in DISFA_AUS]
        for i, path in enumerate(sequence.pictures.paths):
            name = Path(path).relative_to(root / "img").as_posix()
            assert sequence.occurrence[i, columns].tolist() == expected[name]
            assert sequence.frames[i] == int(Path(name).stem) + 1


# One's own folder

TABLE = """image,subject,task,frame,sex,fold,AU12,AU01,AU12_intensity
a/1.jpg,anna,1,30,F,1,1,0,4
a/2.jpg,anna,1,20,F,1,,1,
a/3.jpg,anna,2,1,F,1,0,,0
4.jpg,bob,1,7,male,3,1,1,5
"""


@fuzz(300)
@given(content=broken(TABLE, ","))
def test_tables_of_a_folder(content):
    with tree() as root:
        (root / "a").mkdir(parents=True)
        for name in ("a/1.jpg", "a/2.jpg", "a/3.jpg", "4.jpg"):
            (root / name).touch()
        (root.parent / "out.jpg").touch()
        (root / "labels.csv").write_bytes(content)
        found = read(index_folder, root)
        if found is None:
            return
        header, *rows = rows_of(content)
        by_image = {row[header.index("image")]: dict(zip(header, row, strict=True)) for row in rows}
        assert len(by_image) == len(rows) == sum(s.labelled for s in found.report.sequences)
        for sequence in found.sequences:
            for i, path in enumerate(sequence.pictures.paths):
                cells = by_image[Path(path).relative_to(root).as_posix()]
                assert cells["subject"] == sequence.subject
                for k, au in enumerate(found.aus):
                    for suffix, codes in (("", "occurrence"), ("_intensity", "intensity")):
                        names = (f"AU{au}{suffix}", f"AU{au:02d}{suffix}")
                        cell = next((cells[name] for name in names if name in cells), "")
                        cell = cell.removesuffix(".0").replace("NaN", "")
                        assert getattr(sequence, codes)[i, k] == code(cell, "")


def test_huge_numbers_take_no_memory():
    huge = 999_999_999
    with tree() as root:
        tracemalloc.start()
        write_sequence(root / "bp4d", b"")
        write_labels(root / "bp4d/AUCoding/AU_OCC/F001_T1.csv", {8: {}, huge: {}})
        assert index_bp4d(root / "bp4d").sequences[0].frames == (8, huge)
        write_subject(root / "disfa", video_bytes())
        path = root / "disfa/ActionUnit_Labels/SN001/SN001_au1.txt"
        path.write_text(f"1,0\n{huge},0\n")
        with pytest.raises(UserError, match="expected 2"):
            index_disfa(root / "disfa")
        write_levels(path, [0] * 7)
        with pytest.raises(UserError, match="no frame with both"):
            index_disfa(root / "disfa", frame_offset=huge)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
        tracemalloc.stop()
