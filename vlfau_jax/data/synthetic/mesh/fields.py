"""Marks on the texture of a face and fields over its surface; compiled by numba."""

from __future__ import annotations

import numpy as np

from vlfau_jax.data.synthetic.head import Array
from vlfau_jax.data.synthetic.mesh.compiled import compiled

ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)
FAR = np.float32(36)  # squares of standard deviations at which a bell ends: exp(-18)
WIDEST = np.float32(6.4)  # half widths of a crease beyond which it changes nothing


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
            far = a * a + b * b
            if far < FAR:
                out[i, j] += amount * np.exp(-HALF * far)


@compiled
def first_and_last(values: Array, low: float, high: float, start: int, end: int) -> tuple[int, int]:
    """First and last index from `start` to `end` of values [n] between `low` and `high`."""
    first, last = end, start - 1
    for k in range(start, end):
        if low < values[k] < high:
            first, last = min(first, k), k
    return first, last


@compiled
def crease_change(
    x: Array, y: Array, box: tuple[int, int, int, int], numbers: Array
) -> tuple[int, int, Array]:
    """What a furrow changes on the texture; see `folds.Crease`.

    Args:
        x: places at rest, float32 [h, w].
        y: likewise.
        box: first and last row, first and last column where it may lie.
        numbers: side of the face, s and y of the start, unit vector from there to the end, length,
            bend, half width, depth of the groove and occlusion in it, float32 [10].

    Returns:
        The first row and column of what changes, and height and occlusion, float32 [r, c, 2].
    """
    side, from_s, from_y, dx, dy = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    length, bend, width, depth, shade = numbers[5], numbers[6], numbers[7], numbers[8], numbers[9]
    top, bottom, left, right = box[1] + 1, box[0] - 1, box[3] + 1, box[2] - 1
    for i in range(box[0], box[1] + 1):
        for j in range(box[2], box[3] + 1):
            px, py = side * x[i, j] - from_s, y[i, j] - from_y
            along = (px * dx + py * dy) / length
            if along <= ZERO or along >= ONE:
                continue
            window = np.float32(4) * along * (ONE - along)
            if abs(py * dx - px * dy - bend * window) < WIDEST * width:
                top, bottom = min(top, i), max(bottom, i)
                left, right = min(left, j), max(right, j)
    out = np.zeros((max(bottom - top + 1, 0), max(right - left + 1, 0), 2), np.float32)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            px, py = side * x[top + i, left + j] - from_s, y[top + i, left + j] - from_y
            along = (px * dx + py * dy) / length
            if along <= ZERO or along >= ONE:
                continue
            window = np.float32(4) * along * (ONE - along)
            across = abs(py * dx - px * dy - bend * window) / width
            if across < WIDEST:
                groove = np.exp(-HALF * across * across) * np.sqrt(window)
                beside = across - np.float32(2.2)
                ridge = np.exp(-HALF * beside * beside) * window
                out[i, j, 0] = depth * (np.float32(0.6) * ridge - groove)
                out[i, j, 1] = shade * groove
    return top, left, out
