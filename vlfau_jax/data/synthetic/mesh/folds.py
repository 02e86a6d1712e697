"""Where the skin folds when a muscle contracts: furrows and bulges on the texture of the face.

Each unit has creases, grooves from one point to another with ridges beside them, and dents or
swellings, as FACS describes the change of appearance. They are drawn once for each person and added
by how far the unit is contracted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlfau_jax.data.synthetic.head import Array, bell
from vlfau_jax.data.synthetic.identity import Identity
from vlfau_jax.data.synthetic.mesh.fields import crease_change, rows_between
from vlfau_jax.data.synthetic.mesh.muscles import SIDES
from vlfau_jax.data.synthetic.mesh.surface import BACK_COLUMNS, COLUMNS

Point = tuple[float, float]
FoldTable = tuple[Array, Array]  # `changes` and `table` of `fields.add_patches`


@dataclass(frozen=True)
class Crease:
    """A furrow from `start` to `end` (s, y), bowed by `bend`; `width` is its half width."""

    start: Point
    end: Point
    bend: float
    strength: float
    width: float = 0.017


@dataclass(frozen=True)
class Patch:
    """A piece of the texture that a unit changes: height in face units, occlusion 0 and more.

    row, column: its first texel; change: height and occlusion, float32 [r, c, 2].
    """

    row: int
    column: int
    change: Array

    @property
    def place(self) -> tuple[slice, slice]:
        """Where it lies on the texture."""
        rows, columns = self.change.shape[:2]
        return slice(self.row, self.row + rows), slice(self.column, self.column + columns)


def creases(face: Identity) -> dict[int, tuple[Crease, ...]]:
    """The furrows of each unit on one side of the face, at full effect."""
    brow, eye, half, nose = face.brow_height, face.eye_spacing, face.eye_width, face.nose_length
    mouth, width, wing, chin = face.mouth_height, face.mouth_width, face.nose_width, face.chin
    out = eye + half + 0.025
    forehead = ((0.14, 0.95), (0.23, 1.0), (0.33, 0.8))
    upper_fold = Crease((wing + 0.05, nose - 0.06), (wing + 0.15, nose + 0.12), -0.02, 1.0, 0.022)
    lower_fold = Crease((wing + 0.13, nose + 0.08), (width + 0.12, mouth), -0.03, 1.0, 0.022)
    return {
        1: tuple(
            Crease((-0.10, brow - up), (0.27, brow - up + 0.02), -0.012, w) for up, w in forehead
        ),
        2: tuple(
            Crease((0.20, brow - up), (0.62, brow - up + 0.04), -0.055, w) for up, w in forehead
        ),
        4: (
            Crease((0.055, brow + 0.10), (0.070, brow - 0.14), 0.012, 1.0, 0.019),
            Crease((0.12, brow + 0.06), (0.16, brow - 0.07), 0.010, 0.45, 0.016),
        ),
        6: (
            Crease((eye - 0.19, 0.12), (eye + 0.24, 0.12), 0.055, 1.0, 0.019),
            Crease((out, -0.03), (out + 0.16, -0.13), -0.01, 0.95, 0.014),
            Crease((out, 0.01), (out + 0.17, 0.01), -0.01, 0.95, 0.014),
            Crease((out, 0.05), (out + 0.16, 0.14), -0.01, 0.95, 0.014),
        ),
        7: (Crease((eye - 0.15, 0.085), (eye + 0.16, 0.085), 0.035, 0.75, 0.013),),
        9: (
            Crease((0.045, 0.05), (0.155, 0.02), -0.015, 0.95, 0.015),
            Crease((0.045, 0.11), (0.160, 0.09), -0.015, 0.95, 0.015),
            Crease((0.050, 0.17), (0.165, 0.17), -0.015, 0.7, 0.015),
            Crease((-0.075, -0.06), (0.075, -0.06), 0.0, 0.6, 0.016),
            Crease((0.055, brow + 0.10), (0.070, brow - 0.05), 0.012, 0.35, 0.017),
            upper_fold,
        ),
        10: (upper_fold, Crease(lower_fold.start, lower_fold.end, -0.02, 0.3, 0.022)),
        12: (
            Crease(upper_fold.start, upper_fold.end, -0.02, 0.45, 0.022),
            Crease(lower_fold.start, lower_fold.end, -0.05, 1.0, 0.022),
            Crease((eye - 0.15, 0.13), (eye + 0.18, 0.13), 0.045, 0.35, 0.017),
        ),
        14: (
            Crease(
                (width + 0.055, mouth - 0.12), (width + 0.055, mouth + 0.12), -0.035, 1.0, 0.020
            ),
            Crease((width - 0.05, mouth), (width + 0.04, mouth), 0.0, 0.7, 0.014),
        ),
        15: (
            Crease((width + 0.01, mouth), (width + 0.07, mouth + 0.18), -0.02, 1.0, 0.020),
            Crease((width - 0.03, mouth + 0.06), (width + 0.02, mouth + 0.17), 0.01, 0.4, 0.018),
        ),
        17: (
            Crease((-0.03, mouth + 0.135), (0.20, mouth + 0.19), -0.03, 1.1, 0.022),
            Crease((0.02, chin - 0.10), (0.05, chin - 0.19), 0.01, 0.4, 0.014),
        ),
        23: tuple(
            Crease((1.2 * at, mouth + edge), (0.8 * at, mouth + 0.35 * edge), 0.0, 0.7, 0.013)
            for at in (0.04, 0.10, 0.16)
            for edge in (-0.16, 0.20)
        ),
        24: (
            Crease((-0.05, mouth - 0.075), (width - 0.02, mouth - 0.03), -0.01, 1.0, 0.020),
            Crease((-0.05, mouth + 0.085), (width - 0.02, mouth + 0.04), 0.01, 1.0, 0.020),
            Crease((width - 0.01, mouth - 0.03), (width + 0.02, mouth + 0.04), 0.0, 0.5, 0.014),
        ),
    }


def ageing(face: Identity) -> tuple[Crease, ...]:
    """The lines of an old face at rest, on one side, at age 1."""
    brow, eye, mouth, width = (
        face.brow_height,
        face.eye_spacing,
        face.mouth_height,
        face.mouth_width,
    )
    table = creases(face)
    return (
        *(Crease(c.start, c.end, c.bend, 0.45 * c.strength, c.width) for c in table[1]),
        *(Crease(c.start, c.end, c.bend, 0.35 * c.strength, c.width) for c in table[2]),
        Crease((0.055, brow + 0.08), (0.065, brow - 0.10), 0.012, 0.45, 0.015),
        *(Crease(c.start, c.end, c.bend, 0.45 * c.strength, c.width) for c in table[6]),
        *(Crease(c.start, c.end, c.bend, 0.55, c.width) for c in table[10]),
        Crease((width + 0.02, mouth + 0.03), (width + 0.05, mouth + 0.20), -0.01, 0.5, 0.018),
        Crease((eye - 0.16, 0.10), (eye + 0.10, 0.17), 0.02, 0.4, 0.017),
    )


def _box(y: Array, points: Sequence[Point], pad: float) -> tuple[int, int, int, int]:
    """Where on the front of the head a mark about `points` may lie: rows and columns, from and to.

    y are the texture's rest places [h, w].
    """
    down, behind = [p[1] for p in points], y.shape[1] * BACK_COLUMNS // COLUMNS
    reach = (min(down) - pad - 0.09, max(down) + pad + 0.09)
    top, bottom = rows_between(y, *reach)
    return top, bottom, behind, y.shape[1] - behind


def draw_crease(x: Array, y: Array, crease: Crease, side: int) -> Patch:
    """Draws one furrow on the texture whose places at rest are x, y, float32 [h, w]."""
    pad = abs(crease.bend) + 3 * crease.width
    box = _box(y, (crease.start, crease.end), pad)
    dx, dy = crease.end[0] - crease.start[0], crease.end[1] - crease.start[1]
    length = math.hypot(dx, dy)
    numbers = np.float32(
        (
            *(side, *crease.start, dx / length, dy / length, length, crease.bend, crease.width),
            *(0.42 * crease.width * crease.strength, 0.60 * crease.strength),
        )
    )
    return Patch(*crease_change(x, y, box, numbers))


def draw_folds(face: Identity, x: Array, y: Array) -> dict[int, list[list[Patch]]]:
    """The patches of every unit that folds the skin, unit -> for each side of the face.

    x, y: places of the texels at rest, float32 [h, w].
    """
    table = {
        au: [[draw_crease(x, y, crease, side) for crease in marks] for side in SIDES]
        for au, marks in creases(face).items()
    }
    table[17][1].append(_pits(face, x, y))
    return table


def fold_table(folds: dict[int, list[list[Patch]]], aus: Sequence[int]) -> FoldTable:
    """Lays all patches one after the other, as `fields.add_patches` takes them.

    Of its amounts, flat [len(aus), 2], each patch has that of its unit on its side.
    """
    rows, changes, at = [], [], 0
    for au, sides in folds.items():
        for k, patches in enumerate(sides):
            for patch in patches:
                height, width = patch.change.shape[:2]
                rows.append((2 * aus.index(au) + k, patch.row, patch.column, height, width, at))
                changes.append(patch.change.reshape(-1, 2))
                at += height * width
    return np.concatenate(changes), np.array(rows, np.int32)


def _pits(face: Identity, x: Array, y: Array) -> Patch:
    """The pitted skin of a raised chin."""
    middle = (0.0, face.chin - 0.16)
    top, bottom, left, right = _box(y, (middle,), 0.2)
    s, v = x[top:bottom, left:right], y[top:bottom, left:right]
    region = bell(s, 0, 0.10) * bell(v, middle[1], 0.06)
    pits = np.sin(75 * s + 9 * np.sin(31 * v)) * np.sin(70 * v + 7 * np.sin(37 * s))
    change = np.stack([0.010 * region * pits, 0.7 * region * np.maximum(pits, 0)], -1)
    return Patch(top, left, change.astype(np.float32))
