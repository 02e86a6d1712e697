"""The crop rule box: the faces' boxes are listed in a table of the user's."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vlfau_jax.data.crop.face import Face, face_from_table
from vlfau_jax.data.crop.rule import CropRule
from vlfau_jax.data.crop.smoothing import SMOOTHING
from vlfau_jax.data.crop.tables import NotInTable, cached_until_changed, read_rows
from vlfau_jax.data.raw.frame_numbers import shift
from vlfau_jax.data.raw.frames import Place, video_length
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

    def check_table(self, places: Iterable[Place], root: str) -> list[str]:
        boxes = _read(self.file)
        known = False
        videos: dict[str, None] = {}
        for place in places:
            known = known or any(name in boxes for name in _names(place, self.file, root))
            if place.position is not None:
                videos[place.path] = None
            elif known:
                break
        remarks = _check_videos(videos, boxes, self.file, root)
        if known:
            return remarks
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


def _check_videos(
    videos: Iterable[str], boxes: Mapping[str, Box], file: str, root: str
) -> list[str]:
    """Remarks on rows beyond the end of videos; UserError where a table counts from 1."""
    positions: dict[str, set[int]] = {}
    for source in boxes if videos else ():
        match = re.fullmatch(r"(.*)#(\d{1,9})", source, re.ASCII | re.DOTALL)
        if match:
            positions.setdefault(match[1], set()).add(int(match[2]))
    remarks = []
    for video in videos:
        found = next((positions[n] for n in _names(Place(video), file, root) if n in positions), ())
        length = video_length(video) if found else 0
        if found and shift(found, range(length)) == 1:
            raise UserError(
                f"--crop_file={file}: the rows of {os.path.relpath(video, root)} are #1 to "
                f"#{length}, of {length} frames; expected positions that count from 0"
            )
        beyond = sum(position >= length for position in found)
        if beyond:
            remarks.append(
                f"{os.path.basename(file)}: {beyond} rows beyond the {length} frames of "
                f"{os.path.relpath(video, root)}"
            )
    return remarks


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
