"""A detected face.

Positions count from the picture's top left corner: the first pixel's centre is at (0.5, 0.5).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np


class Face(NamedTuple):
    """A face in source pixels; at least one of the two attributes is known.

    Attributes:
        box: left, top, width, height, or None.
        eyes: float64 [2, 2], x and y of the eye at the picture's left, then of the other, or None.
        confidence: the finder's own, 0-1; None if it states none.
        found: how many faces the finder found in the picture, of which this is the largest.
    """

    box: tuple[float, float, float, float] | None
    eyes: np.ndarray | None
    confidence: float | None = None
    found: int = 1


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes: left, top, width, height."""
    shared = _shared(a, b)
    return shared / max(a[2] * a[3] + b[2] * b[3] - shared, 1e-9)


def _shared(a: Sequence[float], b: Sequence[float]) -> float:
    width, height = (
        max(0.0, min(a[k] + a[k + 2], b[k] + b[k + 2]) - max(a[k], b[k])) for k in (0, 1)
    )
    return width * height


def distinct(faces: Iterable[Face], most: float = 0.5) -> list[Face]:
    """Those of the faces with boxes that lie apart, the first ones first, then by size.

    A face that shares more than `most` of the smaller one's area with one before it is the same, or
    a part of it; of them, the first is kept. `found` of each is then their number.
    """
    kept: list[Face] = []
    for face in faces:
        if all(
            _shared(face.box, other.box)
            <= most * min(face.box[2] * face.box[3], other.box[2] * other.box[3])
            for other in kept
        ):
            kept.append(face)
    kept.sort(key=lambda face: face.box[2] * face.box[3], reverse=True)
    return [face._replace(found=len(kept)) for face in kept]


def face_from_keypoints(
    box: Sequence[float], eyes: np.ndarray, confidence: float | None = None, found: int = 1
) -> Face | None:
    """The face of a detector that names the person's eyes; None if the two eyes coincide.

    Rules with keypoints turn heads by less than a right angle, so that the eye with the smaller x
    is the picture's left one.

    Args:
        box: left, top, width, height.
        eyes: [2, 2], x and y of each eye, in any order.
        confidence: see `Face`.
        found: see `Face`.
    """
    eyes = np.asarray(eyes, np.float64)
    eyes = eyes[np.argsort(eyes[:, 0], kind="stable")]
    if not np.isfinite(eyes).all() or math.dist(*eyes) < 1:
        return None
    return Face(tuple(float(v) for v in box), eyes, confidence, found)


def face_from_table(
    image: np.ndarray,
    box: tuple[float, float, float, float] | None = None,
    eyes: np.ndarray | None = None,
) -> Face | None:
    """The face that a table lists; None if it lists none, or one outside the picture."""
    if box is None and eyes is None:
        return None
    x, y = (box[0] + box[2] / 2, box[1] + box[3] / 2) if box else eyes.mean(0)
    height, width = image.shape[:2]
    return Face(box, eyes) if 0 <= x <= width and 0 <= y <= height else None
