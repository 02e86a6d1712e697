"""The crop rule landmarks: the eyes are listed in tables beside the pictures."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vlfau_jax.data.crop.alignment import EYE_POSITIONS
from vlfau_jax.data.crop.face import Face, face_from_table
from vlfau_jax.data.crop.rule import CropRule
from vlfau_jax.data.crop.smoothing import SMOOTHING
from vlfau_jax.data.crop.tables import NotInTable, Row, cached_until_changed, read_rows
from vlfau_jax.data.raw.frame_numbers import shift
from vlfau_jax.data.raw.frames import Place, video_length
from vlfau_jax.errors import UserError

TABLE = "landmarks.csv"
_EYES = ("left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y")
# The 68 points of iBUG 300-W, which OpenFace writes: 36-41 surround the eye at the picture's left.
_EYE_POINTS = (range(36, 42), range(42, 48))
_OPENFACE = tuple(f"{axis}_{k}" for points in _EYE_POINTS for axis in "xy" for k in points)


class LandmarkTables(CropRule):
    """The table beside the pictures or the video, as OpenFace writes one, gives the eyes."""

    name = "landmarks"
    version = 1
    PARAMETERS: ClassVar[dict[str, Any]] = {"max_angle": 90.0, **EYE_POSITIONS, **SMOOTHING}
    READS_TABLE = True

    def find(self, image: np.ndarray, place: Place, root: str) -> Face | None:
        return face_from_table(image, eyes=eyes_in_table(place))

    def confidence(self, face: Face, place: Place, root: str) -> float | None:
        number = re.findall(r"\d+", Path(place.path).stem, re.ASCII)[-1]
        return _read_confidences(str(table_beside(place))).get(int(number))

    def check_table(self, places: Iterable[Place], root: str) -> list[str]:
        of_video, remarks = {}, []
        for place in places:
            of_video.setdefault(str(table_beside(place)), place.position is not None and place.path)
        for table, video in sorted(of_video.items()):
            frames = {frame for frame, _ in _rows(table)}
            if video:
                begin = _begin(frames)
                expected = set(range(begin, begin + video_length(video)))
            else:
                expected = set(_numbers_beside(table))
                if shift(frames, expected):
                    raise UserError(
                        f"{table}: counts frames from {min(frames)} to {max(frames)}, but the "
                        f"pictures beside it are numbered {min(expected)} to {max(expected)}; "
                        "expected the pictures' own numbers"
                    )
            where = os.path.relpath(table, root)
            counts = ""
            if video and min(frames, default=1) != 1:  # where it begins later, it may be one off
                counts = f" (begins at frame {min(frames)}, counted from {begin})"
            if counts or frames != expected:
                remarks.append(
                    f"{where}{counts}: {len(frames - expected)} rows without a "
                    f"{'frame' if video else 'picture'}, {len(expected - frames)} without a row"
                )
        return remarks

    def tables(self, places: Iterable[Place]) -> list[str]:
        return sorted({str(table_beside(place)) for place in places})


def table_beside(place: Place) -> Path:
    """Where the landmarks of a picture are: landmarks.csv, or the CSV named like the video."""
    path = Path(place.path)
    return path.parent / TABLE if place.position is None else path.with_suffix(".csv")


def eyes_in_table(place: Place) -> np.ndarray | None:
    """The eyes [2, 2], left to right, by the table beside the picture; None where success is 0.

    Whichever eye a table calls left, the one with the smaller x is the picture's left one; a head
    turned by more than a right angle is cropped upside down.

    For picture files the table is landmarks.csv in their folder, and its `frame` is the number at
    the end of the picture's name. For a video it is the CSV of the same name beside it, as OpenFace
    writes one, and its `frame` counts from 1, or from 0 if there is a frame 0.

    Raises:
        NotInTable: it has no row for this picture.
        UserError: the table is missing or malformed, or the picture's name has no number.
    """
    path, table = Path(place.path), table_beside(place)
    if place.position is None:
        numbers = re.findall(r"\d+", path.stem, re.ASCII)
        if not numbers:
            raise UserError(
                f"{path}: no number in its name; expected the number of its frame in {table}"
            )
        frame = int(numbers[-1])
        eyes, _ = _read(str(table))
    else:
        eyes, first = _read(str(table))
        frame = place.position + _begin(first)
    if frame not in eyes:
        raise NotInTable
    return eyes[frame]


def _begin(frames: Collection[int]) -> int:
    """The number of a video's first frame in its table, of which any frames are given."""
    return 0 if 0 in frames else 1


def _numbers_beside(table: str) -> Iterator[int]:
    """The frame numbers of the files beside a table."""
    with os.scandir(os.path.dirname(table) or ".") as entries:
        for entry in entries:
            numbers = re.findall(r"\d{1,9}", os.path.splitext(entry.name)[0], re.ASCII)
            if numbers and not entry.name.startswith(".") and not entry.name.endswith(".csv"):
                yield int(numbers[-1])


def _rows(path: str) -> Iterator[tuple[int, Row]]:
    """The rows of a table with their frame numbers, each once."""
    seen: set[int] = set()
    for row in read_rows(path, [("frame", *_EYES), ("frame", *_OPENFACE)]):
        text = row.cells["frame"]
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
            raise UserError(f"{row.where}: frame is {text[:40]!r}; expected a whole number")
        if int(text) in seen:
            raise UserError(f"{row.where}: frame {text} is listed twice; expected one row a frame")
        seen.add(int(text))
        yield int(text), row


@cached_until_changed
def _read(path: str) -> tuple[dict[int, np.ndarray | None], tuple[int, ...]]:
    """Frame -> eyes float64 [2, 2], None where the tracker failed; and the lowest frame, if any."""
    eyes = {frame: _eyes(row) for frame, row in _rows(path)}
    return eyes, tuple(sorted(eyes)[:1])


@cached_until_changed
def _read_confidences(path: str) -> dict[int, float | None]:
    """Frame -> confidence, for `predict`, which reads pictures; OpenFace's tables have them."""
    headers = [("frame", *_EYES), ("frame", *_OPENFACE)]
    return {int(row.cells["frame"]): row.confidence() for row in read_rows(path, headers)}


def _eyes(row: Row) -> np.ndarray | None:
    success = row.cells.get("success", "1")
    if success not in ("0", "1"):
        raise UserError(f"{row.where}: success is {success[:40]!r}; expected 0 or 1")
    if success == "0":
        return None
    if set(_EYES) <= row.cells.keys():
        eyes = np.array([row.pixels(column) for column in _EYES]).reshape(2, 2)
    else:
        eyes = np.array(
            [
                [np.mean([row.pixels(f"{axis}_{k}") for k in points]) for axis in "xy"]
                for points in _EYE_POINTS
            ]
        )
    if math.dist(*eyes) < 1:
        raise UserError(f"{row.where}: both eyes at one position; expected two, in pixels")
    # Some tables name the person's eyes and some the picture's: left is where x is smaller.
    return eyes[np.argsort(eyes[:, 0], kind="stable")]
