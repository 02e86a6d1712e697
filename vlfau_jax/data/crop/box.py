"""The crop rule box: the faces' boxes are listed in a table of the user's."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vlfau_jax.data.crop.face import Face, face_from_table
from vlfau_jax.data.crop.rule import CropRule
from vlfau_jax.data.crop.smoothing import SMOOTHING
from vlfau_jax.data.crop.tables import NotInTable, cached_until_changed, read_rows
from vlfau_jax.data.raw.frames import Place
from vlfau_jax.errors import UserError

Box = tuple[float, float, float, float]

_SIDES = ("left", "top", "width", "height")
_COLUMNS = ("source", *_SIDES)


class BoxTable(CropRule):
    """A table gives the face's box; the crop is upright."""

    name = "box"
    version = 1
    PARAMETERS: ClassVar[dict[str, Any]] = {"zoom": 1.1, "shift_down": 0.0, **SMOOTHING}
    FILE = f"a CSV with the columns {','.join(_COLUMNS)}"
    READS_TABLE = True

    def find(self, image: np.ndarray, place: Place, root: str) -> Face | None:
        return face_from_table(image, box=box_in_table(place, self.file, root))

    def confidence(self, face: Face, place: Place, root: str) -> float | None:
        known = _read_confidences(self.file)
        return next((known[n] for n in _names(place, self.file, root) if n in known), None)

    def check_table(self, places: Iterable[Place], root: str) -> None:
        boxes = _read(self.file)
        if any(name in boxes for place in places for name in _names(place, self.file, root)):
            return
        example = next(iter(boxes), "")
        raise UserError(
            f"--crop_file={self.file}: no row is about a picture below {root} (the first is about "
            f"{example[:60]!r}); expected sources relative to that folder, to the table's own, or "
            "absolute"
        )


def box_in_table(place: Place, file: str, root: str) -> Box:
    """The box of a picture by the table `file`.

    A row's `source` is the picture's path, `path#position` in a video, with `/`: relative to
    `root` (the raw tree, or the folder that `predict` was given), else relative to the table's own
    folder, else absolute. Where several rows name one picture, the first of these ways counts.

    Raises:
        NotInTable: it has no row for this picture.
        UserError: the table is missing or malformed.
    """
    boxes = _read(file)
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


@cached_until_changed
def _read_confidences(path: str) -> dict[str, float | None]:
    """Source -> confidence, for `predict` only."""
    return {row.cells["source"]: row.confidence() for row in read_rows(path, [_COLUMNS])}


@cached_until_changed
def _read(path: str) -> dict[str, Box]:
    """Source -> left, top, width, height."""
    boxes: dict[str, Box] = {}
    for row in read_rows(path, [_COLUMNS]):
        source = row.cells["source"]
        if not source:
            raise UserError(f"{row.where}: source '' is empty; expected a picture's path")
        if source in boxes:
            raise UserError(
                f"{row.where}: source {source[:60]!r} is listed twice; expected one row a picture"
            )
        left, top, width, height = (row.pixels(column) for column in _SIDES)
        if min(width, height) < 1:
            raise UserError(
                f"{row.where}: a box of {width:g} by {height:g} pixels; expected at least 1 by 1"
            )
        boxes[source] = (left, top, width, height)
    return boxes
