"""Draws the moving upper part of a face, and the chin.

Every action unit changes two things: geometry (the place of a brow or a lid) and skin (creases and
bulges). `e` maps an AU's number to its effect, 0 at rest and 1 at level 5; a side is -1 or 1, the
viewer's left or right, and s = side * u is the distance from the middle of the face.
"""

from __future__ import annotations

import numpy as np

from vlfau_jax.data.synthetic.head import (
    BLUE,
    HEIGHT,
    OCCLUSION,
    RED,
    Array,
    Head,
    bell,
    brow_line,
    linear,
    ramp,
)
from vlfau_jax.data.synthetic.identity import Identity

Effects = dict[int, float]
SIDES = (-1, 1)
JAW_TRAVEL = 0.21  # face units at level 5 of AU26
CHIN_TRAVEL = 0.04  # and the other way, at level 5 of AU17


class Canvas:
    """The face plane of one picture: a copy of the static maps, with the jaw moved."""

    def __init__(self, face: Identity, head: Head, drop: float) -> None:
        self.head = head
        self.maps = head.maps.copy()
        if abs(drop) > 1e-3:
            self._shift_jaw(face, drop)

    def _shift_jaw(self, face: Identity, drop: float) -> None:
        """Stretches the rows below the mouth; rows above stay."""
        v = self.head.v[:, 0]
        first = int(np.searchsorted(v, face.nose_length + 0.06))
        moved = v[first:] - drop * ramp(v[first:], face.nose_length + 0.06, face.chin - 0.06)
        row = np.clip((moved - v[0]) * self.head.scale, 0, len(v) - 1.001)
        low = row.astype(np.intp)
        share = (row - low).astype(np.float32)[:, None]
        self.maps[:, first:] = (
            self.head.maps[:, low] * (1 - share) + self.head.maps[:, low + 1] * share
        )

    def box(
        self, side: int, s0: float, s1: float, v0: float, v1: float
    ) -> tuple[tuple[slice, slice], Array, Array]:
        """Index of the box, and its coordinates s = side * u [1, w] and v [h, 1]."""
        head = self.head
        u0, u1 = (s0, s1) if side > 0 else (-s1, -s0)
        rows = slice(
            *(max(0, int((x - head.v[0, 0]) * head.scale)) for x in (v0, v1 + 1 / head.scale))
        )
        cols = slice(
            *(max(0, int((x - head.u[0, 0]) * head.scale)) for x in (u0, u1 + 1 / head.scale))
        )
        return (rows, cols), head.u[:, cols] * np.float32(side), head.v[rows]

    def bump(self, side: int, s: float, v: float, width: float, tall: float, height: float) -> None:
        """Adds a Gaussian swelling (or dent) of the skin."""
        if abs(height) < 1e-4:
            return
        at, su, sv = self.box(
            side, s - 2.6 * width, s + 2.6 * width, v - 2.6 * tall, v + 2.6 * tall
        )
        self.maps[HEIGHT][at] += (height * bell(su, s, width)) * bell(sv, v, tall)

    def shadow(
        self, side: int, s: float, v: float, width: float, tall: float, depth: float
    ) -> None:
        """Adds a Gaussian patch of occlusion."""
        if depth > 1e-3:
            at, su, sv = self.box(
                side, s - 2.6 * width, s + 2.6 * width, v - 2.6 * tall, v + 2.6 * tall
            )
            self.maps[OCCLUSION][at] += (depth * bell(su, s, width)) * bell(sv, v, tall)

    def crease(
        self,
        side: int,
        start: tuple[float, float],
        end: tuple[float, float],
        bend: float,
        strength: float,
        width: float = 0.018,
    ) -> None:
        """Adds a furrow from `start` to `end` (s, v), bowed by `bend`: a groove with occlusion."""
        if strength < 0.01:
            return
        ds, dv = end[0] - start[0], end[1] - start[1]
        length = (ds * ds + dv * dv) ** 0.5
        ds, dv = ds / length, dv / length
        pad = abs(bend) + 3 * width
        at, su, sv = self.box(
            side,
            min(start[0], end[0]) - pad,
            max(start[0], end[0]) + pad,
            min(start[1], end[1]) - pad,
            max(start[1], end[1]) + pad,
        )
        x, y = su - start[0], sv - start[1]
        along = np.clip((x * ds + y * dv) / length, 0, 1)
        window = 4 * along * (1 - along)
        across = (y * ds - x * dv - bend * window) / width
        groove = np.exp(-0.5 * across * across) * np.sqrt(window)
        ridge = np.exp(-0.5 * np.square(np.abs(across) - 2.2)) * window
        self.maps[HEIGHT][at] += (0.55 * width * strength) * (0.6 * ridge - groove)
        self.maps[OCCLUSION][at] += (0.95 * strength) * groove

    def paint(self, at: tuple[slice, slice], cover: Array, colour: Array) -> None:
        """Blends the albedo towards `colour` (linear, [3, 1, 1] or [3, h, w])."""
        albedo = self.maps[(slice(RED, BLUE + 1), *at)]
        albedo += cover * (colour - albedo)


def draw_brow(canvas: Canvas, face: Identity, e: Effects, side: int) -> None:
    """AU 1, 2 and 4 (and 9 at its inner end) displace the brow as a whole curve."""
    inner = face.brow_inner - 0.055 * e[4] + 0.01 * e[1]
    outer = face.brow_outer - 0.02 * e[4]
    at, s, v = canvas.box(
        side, inner - 0.04, outer + 0.04, face.brow_height - 0.28, face.brow_height + 0.22
    )
    t = np.clip((s - inner) / (outer - inner), -0.2, 1.2)
    t01 = np.clip(t, 0, 1)
    lift = 0.165 * e[1] * (1 - t01) ** 1.5 + 0.16 * e[2] * ramp(t01, 0.1, 0.75) * (
        1 - 0.2 * ramp(t01, 0.8, 1.0)
    )
    lower = e[4] * (0.105 * (1 - t01) + 0.05) + 0.05 * e[9] * (1 - t01)
    middle = brow_line(face, t01) - lift + lower
    thick = face.brow_thickness * (1 - 0.6 * t01 * t01) * (1 + 0.15 * e[4])
    scale = canvas.head.scale
    cover = np.clip((thick - np.abs(v - middle)) * scale * 0.8 + 0.5, 0, 1)
    cover *= ramp(t, -0.06, 0.08) * ramp(t, 1.06, 0.90)
    canvas.paint(at, 0.9 * cover, linear(face.brow_colour) * (1 + 0.35 * canvas.head.grain[at]))
    window = ramp(t, -0.1, 0.1) * ramp(t, 1.1, 0.8)
    canvas.maps[HEIGHT][at] += 0.016 * np.exp(-0.5 * np.square((v - middle) / 0.04)) * window


def draw_forehead(canvas: Canvas, face: Identity, e: Effects, side: int) -> None:
    """AU 1 and 2: rows of wrinkles, middle and sides; AU 4: upright ones between the brows."""
    top = face.brow_height
    for row, weight in ((0.16, 0.95), (0.25, 1.0), (0.34, 0.75)):
        rise = 0.05 * max(e[1], e[2])
        canvas.crease(
            side,
            (-0.10, top - row - rise),
            (0.26, top - row + 0.03),
            -0.012,
            weight * (e[1] + 0.7 * face.age_lines),
            0.017,
        )
        canvas.crease(
            side,
            (0.22, top - row - 0.01),
            (0.62, top - row + 0.05 - rise),
            -0.06,
            weight * (e[2] + 0.5 * face.age_lines),
            0.017,
        )
    canvas.bump(side, 0.0, top - 0.06, 0.12, 0.05, 0.012 * e[1])
    canvas.crease(
        side,
        (0.055, top + 0.10),
        (0.070, top - 0.15),
        0.012,
        1.0 * e[4] + 0.3 * face.age_lines,
        0.019,
    )
    canvas.bump(side, 0.125, top + 0.03, 0.05, 0.06, 0.035 * e[4])
    canvas.shadow(side, 0.21, top + 0.17, 0.09, 0.045, 0.35 * e[4])


def draw_eye(
    canvas: Canvas, face: Identity, e: Effects, side: int, blink: float, gaze: tuple[float, float]
) -> None:
    """AU 7 straightens and lifts the lower lid, AU 6 arches it; `blink` lowers the upper one."""
    ex, width = face.eye_spacing, face.eye_width
    at, s, v = canvas.box(side, ex - 1.25 * width, ex + 1.25 * width, -0.30, 0.22)
    x = (s - ex) / width
    bow = np.clip(1 - x * x, 0, 1)
    v = v - face.eye_tilt * (s - ex)
    squeeze = 1 - 0.30 * e[7] - 0.12 * e[6] - 0.15 * e[9] - 0.10 * e[4] + 0.10 * max(e[1], e[2])
    open_upper = face.eye_upper * squeeze * bow**0.65
    flat = bow ** (0.75 - 0.45 * e[7])
    lower = (
        face.eye_lower * (1 - 0.50 * e[6] - 0.40 * e[9]) * bow**0.75 * (1 - e[7])
        - 0.012 * e[7] * flat
    )
    upper = -open_upper * (1 - blink) + lower * blink
    scale = canvas.head.scale
    inside = np.clip(np.minimum(v - upper, lower - v) * scale + 0.5, 0, 1) * (bow > 0)
    below = v - lower
    _shape_lids(canvas, face, e, at, x, v, bow, open_upper, below)
    lash = np.exp(
        -0.5 * np.square((v - upper + 0.004) / (0.012 if face.sex == "M" else 0.016))
    ) * ramp(np.abs(x), 1.12, 0.95)
    canvas.paint(at, inside, _eyeball(face, scale, side, gaze, s, v, upper))
    canvas.maps[OCCLUSION][at] *= 1 - 0.85 * inside
    canvas.paint(at, 0.88 * lash * (1 - 0.2 * blink), np.full((3, 1, 1), 0.008, np.float32))
    rim = np.exp(-0.5 * np.square(below / 0.009)) * ramp(np.abs(x), 1.05, 0.9)
    canvas.paint(at, 0.40 * rim, linear(face.skin, 0.25))


def _shape_lids(
    canvas: Canvas,
    face: Identity,
    e: Effects,
    at: tuple[slice, slice],
    x: Array,
    v: Array,
    bow: Array,
    open_upper: Array,
    below: Array,
) -> None:
    """The skin about the eye: the fold above, the roll and its groove under the lower lid."""
    fold = face.lid_fold * (1 + 0.8 * e[2] + 0.4 * e[1] - 0.35 * e[4])
    edge = ramp(np.abs(x), 1.15, 0.7)
    above = np.exp(-0.5 * np.square((v + open_upper + fold) / 0.013)) * edge
    roll = np.exp(-0.5 * np.square((below - 0.034) / 0.017)) * edge
    groove = np.exp(-0.5 * np.square((below - 0.075) / 0.016)) * edge
    height, occlusion = canvas.maps[HEIGHT], canvas.maps[OCCLUSION]
    height[at] += (
        0.010 * bow * np.exp(-0.5 * np.square(v / 0.09))
        - 0.006 * above
        + (0.004 + 0.020 * e[7]) * roll
    )
    occlusion[at] += 0.35 * above + (0.06 + 0.62 * e[7]) * groove
    height[at] -= 0.012 * e[7] * groove


def _eyeball(
    face: Identity,
    scale: float,
    side: int,
    gaze: tuple[float, float],
    s: Array,
    v: Array,
    upper: Array,
) -> Array:
    """Colour of the eyeball [3, h, w]: white in the upper lid's shade, iris, pupil and glint."""
    ex = face.eye_spacing
    ball = np.hypot(s - ex - side * gaze[0], v - gaze[1] + 0.018)
    iris = np.clip((0.082 - ball) * scale + 0.5, 0, 1)
    pupil = np.clip((0.034 - ball) * scale + 0.5, 0, 1)
    white = (
        np.float32(0.62)
        * np.ones((3, 1, 1), np.float32)
        * (1 - 0.45 * np.exp(-np.maximum(v - upper, 0) / 0.035))
    )
    colour = white + iris * (linear(face.iris) * (0.5 + 9.0 * np.minimum(ball, 0.06)) - white)
    colour = colour * (1 - 0.95 * pupil)
    glint = np.exp(
        -0.5
        * (
            np.square((side * s - side * ex - gaze[0] + 0.025) / 0.013)
            + np.square((v - gaze[1] + 0.050) / 0.013)
        )
    )
    return colour + 0.9 * glint


def draw_cheek(canvas: Canvas, face: Identity, e: Effects, side: int) -> None:
    """AU 6: cheek bulge, furrow under the eye, crow's feet; AU 12: the lower cheek bunches."""
    ex = face.eye_spacing
    canvas.bump(side, 0.41, 0.245, 0.13, 0.065, 0.060 * e[6])
    canvas.bump(side, 0.40, 0.42, 0.12, 0.10, 0.055 * e[12])
    canvas.crease(
        side, (ex - 0.19, 0.10), (ex + 0.24, 0.11), 0.055, 1.0 * e[6] + 0.25 * face.age_lines, 0.019
    )
    out = ex + face.eye_width + 0.025
    for start, rise in ((-0.03, -0.10), (0.01, 0.0), (0.05, 0.09)):
        canvas.crease(
            side,
            (out, start),
            (out + 0.16, start + rise),
            -0.01,
            0.95 * e[6] + 0.2 * face.age_lines,
            0.016,
        )


def draw_nose(canvas: Canvas, face: Identity, e: Effects, side: int) -> None:
    """AU 9 lifts the wings and wrinkles the sides of the bridge."""
    width = face.nose_width * (1 + 0.08 * e[9] + 0.06 * e[10] + 0.05 * e[12])
    base = face.nose_length - 0.065 * e[9] - 0.02 * e[10]
    canvas.bump(side, width, base, 0.042, 0.045, 0.070)
    canvas.crease(
        side,
        (width + 0.030, base - 0.075),
        (width + 0.020, base + 0.055),
        -0.03,
        0.35 + 0.35 * e[9],
        0.016,
    )
    canvas.shadow(side, 0.058, base + 0.052, 0.026, 0.015, 1.3)
    for row in (0.0, 0.065, 0.13):
        canvas.crease(
            side, (0.035, 0.055 + row), (0.155, 0.02 + 1.15 * row), -0.015, 0.95 * e[9], 0.016
        )
    canvas.crease(side, (-0.075, -0.06), (0.075, -0.06), 0.0, 0.50 * e[9] + 0.12 * e[4], 0.016)
    canvas.bump(side, 0.11, 0.10, 0.045, 0.07, 0.028 * e[9])


def draw_nasolabial(
    canvas: Canvas, face: Identity, e: Effects, side: int, corner: tuple[float, float]
) -> None:
    """AU 10 and 9 deepen the fold beside the wing, AU 12 its lower end; `corner` is (s, v)."""
    wing = (face.nose_width + 0.045, face.nose_length - 0.06 - 0.05 * e[9] - 0.02 * e[10])
    end = (corner[0] + 0.085 + 0.02 * e[12], corner[1] + 0.03 + 0.03 * e[12])
    middle = (0.5 * (wing[0] + end[0]) + 0.02 + 0.03 * e[12], 0.5 * (wing[1] + end[1]))
    rest = face.nasolabial
    upper = min(1.3, rest + 1.10 * e[10] + 0.75 * e[9] + 0.55 * e[12])
    lower = min(1.2, rest + 0.95 * e[12] + 0.25 * e[10])
    canvas.crease(side, wing, middle, -0.02, upper, 0.022)
    canvas.crease(side, (middle[0] - 0.025, middle[1] - 0.06), end, -0.025, lower, 0.022)
    canvas.bump(side, wing[0] + 0.10, wing[1] + 0.06, 0.055, 0.06, 0.038 * e[10] + 0.015 * e[9])


def draw_chin(canvas: Canvas, face: Identity, e: Effects, drop: float, lip_edge: float) -> None:
    """AU 17: boss, pits and the arch between lip and chin; `lip_edge` is the lower lip's v."""
    middle = face.chin - 0.165 + drop
    canvas.bump(1, 0.0, middle, 0.13, 0.075, 0.085 * e[17])
    for side in SIDES:
        canvas.crease(
            side, (-0.03, lip_edge + 0.035), (0.20, lip_edge + 0.105), -0.03, 1.20 * e[17], 0.022
        )
    if e[17] > 0.01:
        at, s, v = canvas.box(1, -0.22, 0.22, middle - 0.13, middle + 0.13)
        region = bell(s, 0, 0.10) * bell(v, middle, 0.06)
        pits = np.sin(75 * s + 9 * np.sin(31 * v)) * np.sin(70 * v + 7 * np.sin(37 * s))
        canvas.maps[HEIGHT][at] += (0.016 * e[17]) * region * pits
        canvas.maps[OCCLUSION][at] += (0.95 * e[17]) * region * np.maximum(pits, 0)
