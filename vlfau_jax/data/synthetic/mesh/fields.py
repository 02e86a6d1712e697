"""Marks on the texture of a face and fields over its surface; compiled by numba."""

from __future__ import annotations

import numpy as np

from vlfau_jax.data.synthetic.head import Array
from vlfau_jax.data.synthetic.mesh.compiled import compiled

ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)
FAR = np.float32(18)  # where exp(-x) ends
WIDEST = np.float32(6.4)  # half widths of a crease beyond which it changes nothing
STRIDE = 3  # texels between those that tell where a crease lies


def spot(
    s: Array, y: Array, at: tuple[float, float], spread: tuple[float, float], amount: float = 1.0
) -> Array:
    """`amount` times a Gaussian bump of height 1 about (s, y) = `at`, float32 [h, w].

    s, y: float32 [h, w]. spread: standard deviations along s and y.
    """
    out = np.zeros_like(s)
    add_spot(out, s, y, at, spread, amount)
    return out


def add_spot(
    out: Array,
    s: Array,
    y: Array,
    at: tuple[float, float],
    spread: tuple[float, float],
    amount: float,
) -> None:
    """Adds to `out`, float32 [h, w], `amount` times what `spot` gives."""
    _add_spot(out, s, y, *np.float32((*at, 1 / spread[0], 1 / spread[1], amount)))


@compiled
def _falling(x: float) -> float:
    """exp(-x) of x from 0, within 1e-5 of 1: by products alone, so that loops are vectorised."""
    x = min(x, FAR) * np.float32(-1 / 64)
    x = ONE + x * (ONE + x * (HALF + x * (np.float32(1 / 6) + x * np.float32(1 / 24))))
    x *= x
    x *= x
    x *= x
    x *= x
    x *= x
    return x * x


@compiled
def _add_spot(
    out: Array,
    s: Array,
    y: Array,
    at_s: float,
    at_y: float,
    per_s: float,
    per_y: float,
    amount: float,
) -> None:
    for i in range(s.shape[0]):
        for j in range(s.shape[1]):
            a, b = (s[i, j] - at_s) * per_s, (y[i, j] - at_y) * per_y
            out[i, j] += amount * _falling(HALF * (a * a + b * b))


@compiled
def add_pull(out: Array, s: Array, y: Array, front: Array, sideways: Array, numbers: Array) -> None:
    """Adds a field of displacement to both sides of a face; see `muscles.Pull`.

    Args:
        out: displacements, float32 [h, w, 3], written in place.
        s: distances from the middle line at rest, float32 [h, w].
        y: heights at rest, float32 [h, w].
        front: factor of the field, float32 [h, w].
        sideways: factor of what moves sideways, which at the middle line moves nowhere; [h, w].
        numbers: s and y of the centre, standard deviations, and displacement, float32 [7].
    """
    at_s, at_y, per_s, per_y = numbers[0], numbers[1], ONE / numbers[2], ONE / numbers[3]
    by_x, by_y, by_z = numbers[4], numbers[5], numbers[6]
    both = at_s < np.float32(2) * numbers[2]  # the sides' fields meet in the middle
    for i in range(s.shape[0]):
        for j in range(s.shape[1]):
            a, b = (s[i, j] - at_s) * per_s, (y[i, j] - at_y) * per_y
            if both:
                a = min(abs(a), abs(s[i, j] + at_s) * per_s)
            far = HALF * (a * a + b * b)
            if far < FAR:
                weight = front[i, j] * _falling(far)
                out[i, j, 0] += weight * by_x * sideways[i, j]
                out[i, j, 1] += weight * by_y
                out[i, j, 2] += weight * by_z


@compiled
def rows_between(y: Array, low: float, high: float) -> tuple[int, int]:
    """The rows, from and to, whose middles lie between two heights; y grows by rows, [h, w]."""
    middle, top = y.shape[1] // 2, 0
    while top < y.shape[0] and y[top, middle] < low:
        top += 1
    bottom = top
    while bottom < y.shape[0] and y[bottom, middle] < high:
        bottom += 1
    return top, bottom


@compiled
def crease_change(
    x: Array, y: Array, box: tuple[int, int, int, int], numbers: Array
) -> tuple[int, int, Array]:
    """What a furrow changes on the texture; see `folds.Crease`.

    Args:
        x: places at rest, float32 [h, w].
        y: likewise.
        box: rows and columns where it may lie, from and to.
        numbers: side of the face, s and y of the start, unit vector from there to the end, length,
            bend, half width, depth of the groove and occlusion in it, float32 [10].

    Returns:
        The first row and column of what changes, and height and occlusion, float32 [r, c, 2].
    """
    side, from_s, from_y, dx, dy = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    length, bend, width, depth, shade = numbers[5], numbers[6], numbers[7], numbers[8], numbers[9]
    over = ONE / length
    top, bottom, left, right = box[1], box[0] - 1, box[3], box[2] - 1
    for i in range(box[0], box[1], STRIDE):
        for j in range(box[2], box[3], STRIDE):
            px, py = side * x[i, j] - from_s, y[i, j] - from_y
            along = (px * dx + py * dy) * over
            window = np.float32(4) * along * (ONE - along)
            if window > ZERO and abs(py * dx - px * dy - bend * window) < WIDEST * width:
                top, bottom = min(top, i), max(bottom, i)
                left, right = min(left, j), max(right, j)
    if top > bottom:
        return 0, 0, np.zeros((0, 0, 2), np.float32)
    top, bottom = max(top - STRIDE, box[0]), min(bottom + STRIDE, box[1] - 1)
    left, right = max(left - STRIDE, box[2]), min(right + STRIDE, box[3] - 1)
    out = np.empty((bottom - top + 1, right - left + 1, 2), np.float32)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            px, py = side * x[top + i, left + j] - from_s, y[top + i, left + j] - from_y
            along = (px * dx + py * dy) * over
            window = max(np.float32(4) * along * (ONE - along), ZERO)
            across = abs(py * dx - px * dy - bend * window) / width
            beside = across - np.float32(2.2)
            groove = _falling(HALF * across * across) * np.sqrt(window)
            ridge = _falling(HALF * beside * beside) * window
            out[i, j, 0] = depth * (np.float32(0.6) * ridge - groove)
            out[i, j, 1] = shade * groove
    return top, left, out


@compiled
def add_patches(relief: Array, changes: Array, table: Array, amounts: Array) -> None:
    """Adds patches to textures of height and occlusion.

    Args:
        relief: float32 [h, w, 2], written in place.
        changes: of all patches, one after the other, float32 [n, 2].
        table: of each patch which amount it has, its first row and column, how many it has, and
            its place in `changes`, int32 [patches, 6].
        amounts: factors, float32 [k]; those below 0.02 are left out.
    """
    for p in range(table.shape[0]):
        amount = amounts[table[p, 0]]
        if amount < np.float32(0.02):
            continue
        at = table[p, 5]
        for i in range(table[p, 1], table[p, 1] + table[p, 3]):
            for j in range(table[p, 2], table[p, 2] + table[p, 4]):
                relief[i, j, 0] += amount * changes[at, 0]
                relief[i, j, 1] += amount * changes[at, 1]
                at += 1
