"""The crop rule landmarks: the eyes are listed in tables beside the pictures."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vlfau_jax.data.crop.alignment import EYE_POSITIONS
from vlfau_jax.data.crop.face import Face, face_from_table
from vlfau_jax.data.crop.rule import CropRule
from vlfau_jax.data.crop.smoothing import SMOOTHING
from vlfau_jax.data.crop.tables import NotInTable, Row, cached_until_changed, read_rows
from vlfau_jax.data.raw.frames import Place
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
    writes one, and its `frame` counts from 1.

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
    else:
        frame = place.position + 1
    eyes = _read(str(table))
    if frame not in eyes:
        raise NotInTable
    return eyes[frame]


@cached_until_changed
def _read(path: str) -> dict[int, np.ndarray | None]:
    """Frame -> eyes float64 [2, 2], None where the table says that the tracker failed."""
    eyes: dict[int, np.ndarray | None] = {}
    for row in read_rows(path, [("frame", *_EYES), ("frame", *_OPENFACE)]):
        text = row.cells["frame"]
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
            raise UserError(f"{row.where}: frame is {text[:40]!r}; expected a whole number")
        if int(text) in eyes:
            raise UserError(f"{row.where}: frame {text} is listed twice; expected one row a frame")
        eyes[int(text)] = _eyes(row)
    return eyes


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
