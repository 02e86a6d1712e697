"""Draws the mouth: lip contours, seam, teeth, and the folds of the skin around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlfau_jax.data.synthetic.features import Canvas, Effects
from vlfau_jax.data.synthetic.head import HEIGHT, OCCLUSION, Array, linear, ramp
from vlfau_jax.data.synthetic.identity import Identity


@dataclass(frozen=True)
class MouthShape:
    """Lips in face units: v of the seam's middle and corners, half width, heights, opening."""

    centre: float
    corner: float
    corner_drop: float
    half_width: float
    upper: float
    lower: float
    gap_upper: float
    gap_lower: float

    def edges(self, s: float) -> tuple[float, float]:
        """Upper and lower border of the lips at distance `s` from the middle."""
        t = min(1.0, abs(s) / self.half_width)
        bow = 1 - t * t
        seam = self.centre * bow + self.corner * t * t + self.corner_drop * t**3
        return seam - (self.gap_upper + self.upper) * bow, seam + (
            self.gap_lower + self.lower
        ) * bow


def mouth_shape(face: Identity, e: Effects, drop: float) -> MouthShape:
    """Computes the lip geometry under the effects `e`; `drop` is the jaw's travel."""
    closed = (1 - 0.92 * e[24]) * (1 - 0.7 * e[23]) * (1 - 0.6 * e[17])
    parted = min(1.0, 2 * e[25])
    return MouthShape(
        centre=face.mouth_height
        - 0.070 * e[10]
        - 0.02 * e[9]
        - 0.050 * e[17]
        + 0.015 * e[12]
        + 0.12 * max(drop, 0.0),
        corner=face.mouth_height
        + face.mouth_curve
        - 0.125 * e[12]
        - 0.015 * e[14]
        + 0.10 * max(drop, 0.0),
        corner_drop=0.125 * e[15],
        half_width=face.mouth_width
        * (
            1
            + 0.32 * e[12]
            - 0.10 * e[14]
            + 0.03 * e[15]
            - 0.36 * e[23]
            + 0.10 * e[24]
            - 0.10 * e[26]
        ),
        upper=face.lip_upper
        * (1 - 0.22 * e[12] + 0.16 * e[10])
        * (1 - 0.42 * e[23])
        * (1 - 0.92 * e[24]),
        lower=face.lip_lower
        * (1 - 0.15 * e[12] + 0.15 * e[17])
        * (1 - 0.42 * e[23])
        * (1 - 0.92 * e[24]),
        gap_upper=0.030 * e[25] * closed,
        gap_lower=(0.085 * e[25] + max(drop, 0.0) * (0.30 + 0.55 * parted)) * closed,
    )


def draw_lips(canvas: Canvas, face: Identity, e: Effects, shape: MouthShape) -> None:
    """Paints the lips of `shape`, the teeth and tongue between them, their roundness and seam."""
    half, scale = shape.half_width, canvas.head.scale
    at, u, v = canvas.box(
        1, -half - 0.03, half + 0.03, face.mouth_height - 0.30, face.mouth_height + 0.48
    )
    t = np.clip(np.abs(u / half), 0, 1)
    bow = 1 - t * t
    seam = shape.centre * bow + shape.corner * t * t + shape.corner_drop * t**3
    top_edge = seam - shape.gap_upper * bow**0.7
    low_edge = seam + shape.gap_lower * bow**0.7
    cupid = (
        1
        - 0.22 * np.exp(-0.5 * np.square(t / 0.13))
        + 0.05 * np.exp(-0.5 * np.square((t - 0.32) / 0.15))
    )
    top = top_edge - shape.upper * (1 - t**1.7) * cupid - 0.022 * e[10] * bow * bow
    low = low_edge + shape.lower * bow**0.85
    within = ramp(np.abs(u), half + 0.012, half - 0.012)

    def between(a: Array, b: Array) -> Array:
        return np.clip(np.minimum(v - a, b - v) * scale + 0.5, 0, 1) * within

    upper, lower, hole = between(top, top_edge), between(low_edge, low), between(top_edge, low_edge)
    lip = linear(face.lip_colour) * (1 + 0.06 * canvas.head.grain[at])
    canvas.paint(at, 0.90 * upper, lip * 0.85)
    canvas.paint(at, 0.90 * lower, lip)
    span_u, span_l = np.maximum(top_edge - top, 0.02), np.maximum(low - low_edge, 0.02)
    round_u = upper * np.clip(1 - np.square(2 * (v - top) / span_u - 1), 0, 1)
    round_l = lower * np.clip(1 - np.square(2 * (v - low_edge) / span_l - 1), 0, 1)
    canvas.maps[HEIGHT][at] += (0.5 * shape.upper) * round_u + (
        0.55 * shape.lower + 0.012 * e[17]
    ) * round_l

    gap = shape.gap_upper + shape.gap_lower
    if gap > 0.01:
        opened = hole * np.float32(min(1.0, gap / 0.03))
        canvas.paint(at, opened, np.array((0.030, 0.008, 0.008), np.float32)[:, None, None])
        teeth = np.clip((0.050 - (v - top_edge)) * scale + 0.5, 0, 1) * ramp(t, 0.85, 0.65) * opened
        canvas.paint(at, teeth, np.array((0.72, 0.69, 0.62), np.float32)[:, None, None])
        tongue = opened * ramp(v - low_edge, -0.07, -0.01) * ramp(t, 0.8, 0.4) * (gap > 0.1)
        canvas.paint(at, 0.7 * tongue, linear(face.lip_colour, 0.6))
        canvas.maps[OCCLUSION][at] *= 1 - 0.9 * opened
    line = np.exp(-0.5 * np.square((v - seam) / (0.010 + 0.004 * e[24]))) * within
    canvas.maps[OCCLUSION][at] += (
        (0.95 + 0.55 * e[24]) * line * np.float32(max(0.0, 1 - gap / 0.04))
    )


def fold_mouth_skin(canvas: Canvas, e: Effects, shape: MouthShape, side: int) -> None:
    """Draws creases and bulges beside, above and below the lips; `e` is this side's effects."""
    s, v = shape.half_width, shape.corner + shape.corner_drop
    canvas.shadow(side, s, v, 0.018, 0.015, 0.35)
    canvas.bump(side, s + 0.050, v, 0.026, 0.040, -0.036 * e[14])
    canvas.shadow(side, s + 0.050, v, 0.024, 0.038, 1.10 * e[14])
    canvas.crease(side, (s + 0.060, v - 0.125), (s + 0.060, v + 0.125), -0.035, 1.0 * e[14], 0.021)
    canvas.bump(side, s + 0.145, v, 0.042, 0.08, 0.040 * e[14])
    canvas.crease(side, (s - 0.06, v + 0.004), (s + 0.045, v), 0.0, 0.8 * e[14], 0.014)

    canvas.crease(side, (s + 0.015, v - 0.01), (s + 0.075, v + 0.19), -0.02, 1.0 * e[15], 0.020)
    canvas.bump(side, s - 0.035, v + 0.085, 0.055, 0.040, 0.035 * e[15])

    for x in (0.04, 0.10, 0.16):
        for edge, away in zip(shape.edges(x), (-1, 1), strict=True):
            start, end = (1.2 * x, edge + 0.100 * away), (0.8 * x, edge + 0.006 * away)
            canvas.crease(side, start, end, 0.0, 0.68 * e[23], 0.015)
    canvas.bump(side, s + 0.04, v, 0.035, 0.06, 0.045 * e[23])

    for edges, away in zip(
        zip(*(shape.edges(x) for x in (0.0, 0.07, 0.20)), strict=True), (-1, 1), strict=True
    ):
        middle, inner, outer = edges
        canvas.bump(side, 0.07, inner + 0.038 * away, 0.08, 0.027, 0.050 * e[24])
        canvas.bump(side, 0.20, outer + 0.034 * away, 0.06, 0.025, 0.040 * e[24])
        start, end = (-0.05, middle + 0.088 * away), (s - 0.01, v + 0.055 * away)
        canvas.crease(side, start, end, 0.010 * away, 1.2 * e[24], 0.022)
