"""The surface of a head at rest: a grid of vertices, whose rows follow lids, lips and jaw.

Axes of the head: x to the viewer's right, y down, z to the viewer; the unit and the eye line
(y = 0) are those of `Identity`. Rows go from the crown to the underside of the jaw, columns around
the head. The rows of the lids' edges and of the lips' seam are there twice, so that eyes and mouth
open; between the twins there are triangles beside the eyes and the mouth only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlfau_jax.data.synthetic.head import Array, bell, ramp
from vlfau_jax.data.synthetic.identity import Identity
from vlfau_jax.data.synthetic.mesh.raster import EYE_STRETCH
from vlfau_jax.data.synthetic.mesh.traits import Traits

FRONT_COLUMNS = 81  # from ear to ear
BACK_COLUMNS = 7  # on each side, behind the ears
# Rows between neighbouring lines: crown, forehead, brow, lid's crease, upper lid's edge; lower
# lid's edge, its groove, nose's base, upper lip's border, seam; seam, lower lip's border, chin's
# boss, jaw's edge, neck.
SEGMENTS = ((6, 7, 5, 4), (4, 7, 5, 4), (4, 5, 5, 4))
UPPER_LID = sum(SEGMENTS[0])
LOWER_LID = UPPER_LID + 1
CREASE = UPPER_LID - SEGMENTS[0][-1]
LID_GROOVE = LOWER_LID + SEGMENTS[1][0]
NOSE_BASE = LID_GROOVE + SEGMENTS[1][1]
UPPER_LIP = LOWER_LID + sum(SEGMENTS[1])  # its lower edge, at the seam
LIP_TOP = UPPER_LIP - SEGMENTS[1][-1]
LOWER_LIP = UPPER_LIP + 1
LIP_BOTTOM = LOWER_LIP + SEGMENTS[2][0]
CHIN_BOSS = LIP_BOTTOM + SEGMENTS[2][1]
JAW_EDGE = CHIN_BOSS + SEGMENTS[2][2]
ROWS = LOWER_LIP + sum(SEGMENTS[2]) + 1
COLUMNS = FRONT_COLUMNS + 2 * BACK_COLUMNS
EYEBALL = 0.130  # radius: 12 mm of 93 mm a unit
LID_THICKNESS = 0.014
# An eye is 10 mm open and its iris 12 mm wide: less open than those of the drawn faces.
UPPER_OPENING, LOWER_OPENING = 0.72, 0.78


@dataclass(frozen=True)
class Surface:
    """A head at rest.

    Attributes:
        points: float32 [ROWS, COLUMNS, 3].
        triangles: int32 [t, 3], indices into the flat points, counterclockwise seen from outside.
        eyes: centres of the eyeballs, the viewer's left first, float32 [2, 3].
        mouth: whether each column is within the mouth, 0-1, float32 [COLUMNS].
        opening: signed distance of each column from the eye's middle, in half widths of the eye,
            float32 [COLUMNS]; beyond -1 and 1 there is no eye.
        lid_lines: y of the upper and lower lid's edge at rest, float32 [2, COLUMNS].
    """

    points: Array
    triangles: Array
    eyes: Array
    mouth: Array
    opening: Array
    lid_lines: Array


def longitudes() -> Array:
    """The columns' angles in radians, 0 at the middle of the face, float64 [COLUMNS]."""
    front = np.linspace(-np.pi / 2, np.pi / 2, FRONT_COLUMNS)
    side = np.pi / 2 + np.arange(1, BACK_COLUMNS + 1) * (np.pi / 2 / BACK_COLUMNS)
    return np.concatenate([-side[::-1], front, side])


def half_width(face: Identity, traits: Traits, y: Array) -> Array:
    """Half of the head's width at heights y, of any shape, face units."""
    dome = np.clip(1 - np.abs(np.minimum(y, 0) / face.forehead) ** 2.4, 0, 1) ** (1 / 2.4)
    fall = np.maximum(y, 0) / (1.015 * face.chin)
    power = 2.3 + (face.jaw_taper - 2.3) * np.clip(fall, 0, 1)
    jaw = np.clip(1 - np.clip(fall, 0, 1) ** face.jaw_power, 0, 1) ** (1 / power)
    jaw = np.maximum(jaw, 0.30 * ramp(fall, 1.2, 0.7)) + traits.jaw_square * bell(fall, 0.75, 0.15)
    width = face.head_width * np.where(y < 0, dome, jaw)
    return width - traits.temple * bell(y, -0.22, 0.16) * (width > 0.3)


def _interpolated(y: Array, knots: tuple[tuple[float, float], ...]) -> Array:
    at = np.array([k[0] for k in knots])
    return np.interp(y, at, [k[1] for k in knots])


def _profile(face: Identity, traits: Traits, y: Array) -> tuple[Array, Array, Array]:
    """Z of the middle line in front, of the head's widest line, and of the middle line behind."""
    chin, mouth, top = face.chin, face.mouth_height, -face.forehead
    f = traits.face_depth
    fine = np.linspace(top, chin + 0.12, 161)
    dome = np.sqrt(np.clip(1 - np.square(np.minimum(fine + 0.15, 0) / (top + 0.15)), 0, 1))
    lower = _interpolated(
        fine,
        (
            (-0.5, 0.86),
            (face.brow_height, 0.88),
            (-0.06, 0.83),
            (0.15, 0.82),
            (face.nose_length, 0.83 * f),
            (mouth - 0.10, 0.845 * f),
            (mouth, 0.84 * f),
            (mouth + 0.15, 0.80 * f),
            (chin - 0.14, 0.80 * f),
            (chin - 0.05, 0.77 * f),
            (chin, 0.68 * f),
            (chin + 0.05, 0.50 * f),
            (chin + 0.12, 0.20),
        ),
    )
    front = np.where(fine < -0.5, 0.88 * dome**0.85, np.where(fine < -0.15, lower * dome, lower))
    kernel = bell(np.arange(-6, 7), 0, 2.2)
    padded = np.pad(front, 6, mode="edge")
    front = np.convolve(padded, kernel / kernel.sum(), mode="valid")
    front_z = np.interp(y, fine, front) * traits.depth
    side_z = _interpolated(
        y,
        ((top, 0.0), (0.3, -0.04), (0.62, 0.02), (0.85, 0.20), (chin, 0.42), (chin + 0.12, 0.0)),
    )
    back_z = -1.0 * np.sqrt(
        np.clip(1 - np.square(np.where(y < -0.2, (y + 0.2) / (top + 0.2), (y + 0.2) / 1.35)), 0, 1)
    )
    return front_z, side_z, np.minimum(back_z, -0.42 * ramp(y, -0.6, 0.4))


def _nose(face: Identity, traits: Traits, s: Array, y: Array) -> Array:
    length = face.nose_length
    down = np.clip((y + 0.10) / (length + 0.06), 0, 1.1)
    rise = face.nose_height * (0.16 + 1.05 * down**1.25) * ramp(y, -0.22, 0.0)
    rise *= ramp(y, length + 0.085 - traits.nose_up, length - 0.02 - traits.nose_up)
    rise += traits.nose_hump * bell(y, 0.12, 0.10)
    width = traits.nose_bridge * (0.85 + 0.45 * np.clip(down, 0, 1))
    bridge = rise * np.exp(-0.5 * np.abs(s / width) ** 2.3)
    tip = 0.055 * bell(s, 0, traits.nose_tip) * bell(y, length - 0.055 - traits.nose_up, 0.055)
    wing = 0.085 * bell(s, face.nose_width - 0.012, 0.036) * bell(y, length - 0.022, 0.042)
    wing -= 0.020 * bell(s, face.nose_width + 0.045, 0.022) * bell(y, length - 0.02, 0.06)
    return bridge + tip + wing


def _features(face: Identity, traits: Traits, s: Array, y: Array) -> Array:
    """What stands out of the smooth head: brow ridge, sockets, nose, cheeks, lips and chin."""
    mouth, chin = face.mouth_height, face.chin
    z = (
        (0.6 * face.brow_ridge + 0.006)
        * bell(s, 0.30, 0.2)
        * bell(y, face.brow_height + 0.07, 0.06)
    )
    z = z - (0.055 + traits.eye_depth) * bell(s, face.eye_spacing - 0.03, 0.14) * bell(y, 0.0, 0.10)
    z = z + 0.9 * face.cheekbone * bell(s, 0.50, 0.15) * bell(y, 0.22, 0.12)
    z = z + traits.cheek_fat * bell(s, 0.42, 0.18) * bell(y, 0.60, 0.18)
    z = z + 0.030 * bell(s, 0, 0.24) * bell(y, mouth, 0.15)
    z = z - 0.012 * bell(s, 0, 0.020) * bell(y, 0.5 * (face.nose_length + mouth) + 0.01, 0.06)
    z = z + traits.chin_boss * bell(s, 0, 0.15) * bell(y, chin - 0.13, 0.085)
    z = z - 0.02 * bell(s, 0, 0.16) * bell(y, mouth + face.lip_lower + 0.06, 0.04)
    z = z + 0.014 * traits.eye_bags * bell(s, face.eye_spacing, 0.12) * bell(y, 0.12, 0.035)
    return z + _nose(face, traits, s, y)


def lid_lines(face: Identity, traits: Traits, t: Array) -> Array:
    """Heights of both lids' edges at rest, [2, ...], t half widths of the eye from its middle."""
    bow = np.clip(1 - t * t, 0, 1)
    middle = face.eye_tilt * face.eye_width * np.clip(t, -1.6, 1.6)
    upper = middle - UPPER_OPENING * face.eye_upper * traits.eye_size * bow**0.62 * (
        1 - traits.lid_heavy
    )
    return np.stack([upper, middle + LOWER_OPENING * face.eye_lower * traits.eye_size * bow**0.8])


def _lines(face: Identity, traits: Traits, x: Array) -> list[Array]:
    """Y of every line between the segments of rows at places x [n, COLUMNS]; see SEGMENTS."""
    s = np.abs(x)
    t = (s - face.eye_spacing) / face.eye_width
    upper, lower = lid_lines(face, traits, t)
    near = bell(t, 0, 0.9)
    m = np.clip(s / face.mouth_width, 0, 1.5)
    bow = np.clip(1 - m * m, 0, 1)
    cupid = 1 - 0.20 * np.exp(-0.5 * np.square(m / 0.14)) + 0.05 * bell(m, 0.3, 0.15)
    seam = face.mouth_height + face.mouth_curve * np.minimum(m, 1) ** 2 - 0.008 * bell(m, 0, 0.15)
    gap = 0.018
    lip_top = seam - face.lip_upper * np.clip(1 - m**1.7, 0, 1) * cupid - gap
    lip_bottom = seam + face.lip_lower * bow**0.8 + gap
    flat = np.ones_like(x)
    return [
        -face.forehead * flat,
        -0.64 * flat,
        face.brow_height + 0.03 * flat,
        upper - (face.lid_fold + 0.012) * near - 0.055 * (1 - near),
        upper,
        lower,
        lower + 0.075 * near + 0.10 * (1 - near),
        face.nose_length * flat,
        lip_top,
        seam,
        seam,
        lip_bottom,
        (face.chin - 0.13) * flat,
        face.chin * flat,
        (face.chin + 0.02) * flat,
    ]


def _row_heights(lines: Array) -> Array:
    """Y of all rows [ROWS, COLUMNS] from the lines [15, COLUMNS]."""
    rows, line = [], 0
    for segments in SEGMENTS:
        for length in segments:
            share = np.arange(length)[:, None] / length
            rows.append(lines[line] + share * (lines[line + 1] - lines[line]))
            line += 1
        rows.append(lines[line][None])
        line += 1
    return np.concatenate(rows)


def build_surface(face: Identity, traits: Traits) -> Surface:
    """Builds the head of a person at rest."""
    angle = longitudes()
    across = np.sin(angle)[None]
    x = np.broadcast_to(face.head_width * across, (15, COLUMNS))
    for _ in range(3):  # the lines' heights depend on x, and the head's width on the height
        y = np.stack([line[k] for k, line in enumerate(_lines(face, traits, x))])
        x = half_width(face, traits, y) * across
    rows_y = _row_heights(y)
    width = half_width(face, traits, rows_y)
    rows_x = width * across
    front, side, back = _profile(face, traits, rows_y)
    cosine = np.cos(angle)[None]
    round_ = np.abs(cosine) ** 0.92
    z = np.where(cosine >= 0, side + (front - side) * round_, side + (back - side) * round_)
    facing = ramp(cosine, 0.05, 0.35)
    z = z + _features(face, traits, np.abs(rows_x), rows_y) * facing
    pout = _lip_profile(rows_x, face) * traits.lip_pout
    z = z + pout * facing
    points = np.stack([rows_x, rows_y, z], -1)
    # The underside of the jaw goes back to the neck.
    back = np.linspace(0, 1, ROWS - JAW_EDGE)[:, None, None]
    edge = points[JAW_EDGE]
    points[JAW_EDGE:] = edge + back * ((-0.2, 0.0, -1.0) * edge + (0.0, 0.03, -0.15))
    s = np.abs(rows_x[UPPER_LID])
    opening = np.where(cosine[0] > 0, (s - face.eye_spacing) / face.eye_width, 9.0)
    eyes = _place_eyes(face, points)
    points = _cover_eyes(points, eyes, opening)
    mouth = ramp(np.abs(rows_x[UPPER_LIP]) / face.mouth_width, 1.0, 0.97) * (cosine[0] > 0)
    lines = np.stack([rows_y[UPPER_LID], rows_y[LOWER_LID]])
    return Surface(
        points.astype(np.float32),
        _triangles(opening, mouth),
        eyes.astype(np.float32),
        mouth.astype(np.float32),
        opening.astype(np.float32),
        lines.astype(np.float32),
    )


def _lip_profile(x: Array, face: Identity) -> Array:
    """How far each row stands out as a lip, 0-1 [ROWS, COLUMNS]."""
    row = np.arange(ROWS, dtype=np.float64)[:, None]
    upper = np.clip((row - LIP_TOP) / (UPPER_LIP - LIP_TOP), 0, 1)
    lower = np.clip((LIP_BOTTOM - row) / (LIP_BOTTOM - LOWER_LIP), 0, 1)
    # Full a little before the seam, drawn in at the seam itself.
    up = np.where(row <= UPPER_LIP, np.sin(np.pi * 0.86 * upper**0.8), 0.0)
    low = np.where(row >= LOWER_LIP, 1.15 * np.sin(np.pi * 0.86 * lower**0.8), 0.0)
    inside = np.clip(1 - np.square(x / (1.02 * face.mouth_width)), 0, 1) ** 0.5
    return (up + low) * inside


def _place_eyes(face: Identity, points: Array) -> Array:
    """Centres of the eyeballs, [2, 3]: so deep that the ball just fills the socket."""
    centres = []
    for side in (-1, 1):
        away = np.abs(points[UPPER_LID, :, 0] - side * face.eye_spacing)
        column = int(np.argmin(np.where(points[UPPER_LID, :, 2] > 0, away, 9.0)))
        front = 0.5 * (points[CREASE, column, 2] + points[LID_GROOVE, column, 2])
        centres.append((side * face.eye_spacing, -0.012, front + 0.012 - EYEBALL))
    return np.array(centres)


def ball_height(eye: Array, x: Array, y: Array, radius: float) -> Array:
    """How far an eyeball's front stands out at (x, y), as z; its rim beyond the ball."""
    far = np.square((x - eye[0]) / EYE_STRETCH) + np.square(y - eye[1])
    return eye[2] + np.sqrt(np.maximum(radius * radius - far, 1e-4))


def _cover_eyes(points: Array, eyes: Array, opening: Array) -> Array:
    """Lays the rows of the lids on the eyeballs."""
    out = points.copy()
    rows = slice(CREASE, LID_GROOVE + 1)
    part = out[rows]
    row = np.arange(CREASE, LID_GROOVE + 1)
    near = np.where(
        row <= UPPER_LID,
        (row - CREASE) / (UPPER_LID - CREASE),
        (LID_GROOVE - row) / (LID_GROOVE - LOWER_LID),
    )[:, None]
    weight = ramp(near, 0.0, 0.7) * ramp(np.abs(opening), 1.35, 0.9)[None]
    for k, side in enumerate((-1, 1)):
        mine = weight * (side * part[..., 0] > 0)
        on_ball = ball_height(eyes[k], part[..., 0], part[..., 1], EYEBALL + LID_THICKNESS)
        part[..., 2] += mine * (on_ball - part[..., 2])
    return out


def _triangles(opening: Array, mouth: Array) -> Array:
    """The triangles of the skin, int32 [t, 3]: none across the eyes' openings and the mouth."""
    lids_closed, mouth_closed = np.abs(opening) > 1.0, mouth < 0.5
    index = np.arange(ROWS * COLUMNS, dtype=np.int32).reshape(ROWS, COLUMNS)
    a, b = index[:-1, :-1], index[1:, :-1]
    right_a, right_b = index[:-1, 1:], index[1:, 1:]
    keep = np.ones((ROWS - 1, COLUMNS - 1), bool)  # the back of the head stays open
    keep[UPPER_LID] = lids_closed[:-1] & lids_closed[1:]
    keep[UPPER_LIP] = mouth_closed[:-1] & mouth_closed[1:]
    first = np.stack([a, right_a, b], -1)[keep]
    second = np.stack([right_a, right_b, b], -1)[keep]
    return np.concatenate([first, second])
