"""Faces that somebody else has found: tables of landmarks beside pictures, tables of boxes.

Nothing is opened that a table names: its entries are only compared with the pictures' own names.
"""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from vlfau_jax.data.raw.frames import Place
from vlfau_jax.errors import UserError

LANDMARKS = "landmarks.csv"
_EYES = ("left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y")
# The 68 points of iBUG 300-W, which OpenFace writes: 36-41 surround the eye at the picture's left.
_EYE_POINTS = (range(36, 42), range(42, 48))
_OPENFACE = tuple(f"{axis}_{k}" for points in _EYE_POINTS for axis in "xy" for k in points)
_BOX = ("left", "top", "width", "height")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_FURTHEST = 1e5  # pixels; no picture is larger
T = TypeVar("T")


class NotInTable(LookupError):
    """The crop rule's table says nothing about a picture."""


class _Row(NamedTuple):
    where: str  # file and line, for messages
    cells: dict[str, str]

    def number(self, column: str) -> float:
        text = self.cells[column]
        value = float(text) if _NUMBER.fullmatch(text) else math.nan
        if not abs(value) <= _FURTHEST:
            raise UserError(f"{self.where}: {column} is {text!r}; expected a position in pixels")
        return value


def _rows(path: str, choices: Sequence[Sequence[str]]) -> Iterator[_Row]:
    """The rows of a CSV file whose header has all columns of one of `choices`.

    Raises:
        UserError: a file that is missing, no text, or has no such header; a row of another length.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, strict=True)
            header = [name.strip() for name in next(lines, [])]
            if len(set(header)) < len(header) or not any(set(c) <= set(header) for c in choices):
                wanted = " or ".join(_short(columns) for columns in choices)
                raise UserError(f"{path}:1: expected a header with each of the columns {wanted}")
            for cells in filter(None, lines):
                where = f"{path}:{lines.line_num}"
                if len(cells) != len(header):
                    raise UserError(f"{where}: {len(cells)} cells, its header has {len(header)}")
                yield _Row(where, {k: v.strip() for k, v in zip(header, cells, strict=True)})
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such file; expected the CSV that the crop rule reads"
        ) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a readable CSV file ({error})") from error


def _short(columns: Sequence[str]) -> str:
    return ",".join(columns if len(columns) < 8 else (*columns[:3], "...", columns[-1]))


def _kept(read: Callable[[str], T]) -> Callable[[str], T]:
    """Reads a file again only when it has changed."""

    @lru_cache(maxsize=4)
    def remembered(path: str, changed: int, size: int) -> T:
        return read(path)

    def newest(path: str) -> T:
        try:
            now = os.stat(path)
        except OSError:
            return read(path)  # which says what is wrong
        return remembered(path, now.st_mtime_ns, now.st_size)

    return newest


@_kept
def _landmarks(path: str) -> dict[int, np.ndarray | None]:
    """Frame -> eyes float64 [2, 2], None where the tracker says that it failed."""
    found: dict[int, np.ndarray | None] = {}
    for row in _rows(path, [("frame", *_EYES), ("frame", *_OPENFACE)]):
        text = row.cells["frame"]
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
            raise UserError(f"{row.where}: frame is {text!r}; expected a whole number")
        if int(text) in found:
            raise UserError(f"{row.where}: frame {text} once more; expected one face a frame")
        found[int(text)] = _eyes(row)
    return found


def _eyes(row: _Row) -> np.ndarray | None:
    success = row.cells.get("success", "1")
    if success not in ("0", "1"):
        raise UserError(f"{row.where}: success is {success!r}; expected 0 or 1")
    if success == "0":
        return None
    if set(_EYES) <= row.cells.keys():
        eyes = np.array([row.number(column) for column in _EYES]).reshape(2, 2)
    else:
        eyes = np.array(
            [
                [np.mean([row.number(f"{axis}_{k}") for k in points]) for axis in "xy"]
                for points in _EYE_POINTS
            ]
        )
    if math.dist(*eyes) < 1:
        raise UserError(f"{row.where}: both eyes at the same place; expected two places in pixels")
    # Some tables name the person's eyes and some the picture's: left is where x is smaller.
    return eyes[np.argsort(eyes[:, 0], kind="stable")]


def table_beside(place: Place) -> Path:
    """Where the landmarks of a picture are: landmarks.csv, or the CSV named like the video."""
    path = Path(place.path)
    return path.parent / LANDMARKS if place.position is None else path.with_suffix(".csv")


def find_in_landmarks(place: Place) -> np.ndarray | None:
    """The eyes [2, 2], left to right, by the table beside the picture; None where success is 0.

    Whichever eye a table calls left, the one with the smaller x is the picture's left one; a head
    turned by more than a right angle comes out upside down.

    For picture files that is landmarks.csv in their folder, its `frame` the number at the end of
    the picture's name; for a video, the CSV of the same name beside it, as OpenFace writes one,
    its `frame` counting from 1.

    Raises:
        NotInTable: it has no row for this picture.
        UserError: the table is missing or malformed, or the picture's name has no number.
    """
    path, table = Path(place.path), table_beside(place)
    if place.position is None:
        numbers = re.findall(r"\d+", path.stem, re.ASCII)
        if not numbers:
            raise UserError(f"{path}: no number in its name to look for in {table}")
        frame = int(numbers[-1])
    else:
        frame = place.position + 1
    found = _landmarks(str(table))
    if frame not in found:
        raise NotInTable
    return found[frame]


@_kept
def _boxes(path: str) -> dict[str, tuple[float, float, float, float]]:
    """Source -> left, top, width, height."""
    found: dict[str, tuple[float, float, float, float]] = {}
    for row in _rows(path, [("source", *_BOX)]):
        source = row.cells["source"]
        if not source or source in found:
            raise UserError(f"{row.where}: source {source!r} is empty or there already")
        left, top, width, height = (row.number(column) for column in _BOX)
        if min(width, height) < 1:
            raise UserError(
                f"{row.where}: a box of {width:g} by {height:g} pixels; expected a face"
            )
        found[source] = (left, top, width, height)
    return found


def find_in_boxes(place: Place, file: str, root: str = "") -> tuple[float, float, float, float]:
    """The box by the table `file`.

    A row's `source` is the picture's path, `path#position` in a video, with `/`: relative to
    `root` (the raw tree, or the folder that `predict` was given), else relative to the table's own
    folder, else absolute. Where several rows name one picture, the first of these ways counts.

    Raises:
        NotInTable: it has no row for this picture.
        UserError: the table is missing or malformed.
    """
    boxes = _boxes(file)
    for name in _names(place, file, root):
        if name in boxes:
            return boxes[name]
    raise NotInTable


def _names(place: Place, file: str, root: str) -> Iterator[str]:
    path = Path(os.path.abspath(place.path))
    mark = "" if place.position is None else f"#{place.position}"
    for folder in (root, os.path.dirname(file) or "."):
        folder = folder and os.path.abspath(folder)
        if folder and path.is_relative_to(folder):
            yield path.relative_to(folder).as_posix() + mark
    yield path.as_posix() + mark


def check_boxes(places: Iterable[Place], file: str, root: str) -> None:
    """Refuses a table of boxes without a row for any of the pictures.

    Raises:
        UserError: such a table, or one that is missing or malformed.
    """
    boxes = _boxes(file)
    if any(name in boxes for place in places for name in _names(place, file, root)):
        return
    example = next(iter(boxes), "")
    raise UserError(
        f"--crop_file={file}: no row is about a picture below {root} (the first is about "
        f"{example!r}); expected sources relative to that folder, to the table's own, or absolute"
    )
