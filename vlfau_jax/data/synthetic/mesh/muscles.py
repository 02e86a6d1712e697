"""What each action unit moves, and how far: displacements of the head's surface.

From the descriptions of the units in FACS (Ekman, Friesen, Hager 2002): the muscle's line of pull,
what it carries along, and what it leaves. Lengths are face units (93 mm) at level 5. A face's
displacement is the sum over units of `effect` times their displacement; lids and jaw, which turn
about an axis, are moved on their own (head.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlfau_jax.data.synthetic.head import Array, ramp
from vlfau_jax.data.synthetic.identity import Identity
from vlfau_jax.data.synthetic.mesh.fields import add_pull
from vlfau_jax.data.synthetic.mesh.surface import (
    CHIN_BOSS,
    COLUMNS,
    JAW_EDGE,
    LIP_BOTTOM,
    LIP_TOP,
    LOWER_LIP,
    NOSE_BASE,
    ROWS,
    UPPER_LIP,
    Surface,
)
from vlfau_jax.data.synthetic.renderer import RENDERED_AUS

# Movements that no label has, for faces of the world have them, too.
UNLABELLED = (5, 16, 18, 20)
MOVED_AUS = RENDERED_AUS + UNLABELLED
SIDES = (-1, 1)


@dataclass(frozen=True)
class Pull:
    """One Gaussian field of displacement.

    Attributes:
        at: its centre (s, y) on the face at rest; s is the distance from the middle line.
        spread: its standard deviations.
        by: displacement (away from the middle line, down, towards the viewer) at the centre.
    """

    at: tuple[float, float]
    spread: tuple[float, float]
    by: tuple[float, float, float]


def pulls(face: Identity) -> dict[int, tuple[Pull, ...]]:
    """The fields of each unit that are told by place alone."""
    brow, eye, width = face.brow_height, face.eye_spacing, face.mouth_width
    mouth, nose, wing, chin = face.mouth_height, face.nose_length, face.nose_width, face.chin
    return {
        # Frontalis, middle: the inner brow rises, the forehead above it is pushed together.
        1: (
            Pull((0.17, brow - 0.02), (0.14, 0.15), (0.0, -0.120, 0.012)),
            Pull((0.10, brow - 0.26), (0.20, 0.14), (0.0, -0.035, 0.0)),
        ),
        # Frontalis, outer part.
        2: (
            Pull((0.50, brow - 0.01), (0.15, 0.15), (0.0, -0.105, 0.010)),
            Pull((0.42, brow - 0.24), (0.20, 0.14), (0.0, -0.030, 0.0)),
        ),
        # Corrugator, depressor: brows down and together; the skin between them bulges.
        4: (
            Pull((0.20, brow + 0.01), (0.15, 0.11), (-0.055, 0.075, 0.010)),
            Pull((0.42, brow + 0.01), (0.14, 0.10), (-0.012, 0.042, 0.004)),
            Pull((0.07, brow + 0.03), (0.05, 0.07), (-0.010, 0.035, 0.022)),
        ),
        5: (Pull((eye, -0.12), (0.13, 0.03), (0.0, -0.012, 0.0)),),
        # Orbicularis oculi, outer ring: cheek up, skin from temple and cheek towards the eye.
        6: (
            Pull((0.42, 0.24), (0.15, 0.11), (-0.010, -0.070, 0.042)),
            Pull((0.63, 0.02), (0.09, 0.14), (-0.030, -0.005, 0.012)),
            Pull((eye, 0.10), (0.14, 0.04), (0.0, -0.022, 0.010)),
            Pull((0.52, brow + 0.03), (0.12, 0.06), (0.0, 0.018, 0.0)),
        ),
        # Orbicularis oculi, inner ring: the skin under the lower lid is drawn up and inward.
        7: (
            Pull((eye, 0.10), (0.15, 0.04), (-0.010, -0.030, 0.020)),
            Pull((eye, brow + 0.10), (0.15, 0.04), (0.0, 0.014, 0.004)),
        ),
        # Levator labii superioris alaeque nasi: wings and skin beside the nose up, brow down.
        9: (
            Pull((wing, nose - 0.04), (0.07, 0.10), (0.008, -0.060, 0.012)),
            Pull((0.16, 0.22), (0.09, 0.10), (-0.008, -0.050, 0.034)),
            Pull((0.15, mouth - 0.09), (0.15, 0.06), (0.0, -0.045, 0.010)),
            Pull((0.14, brow + 0.03), (0.13, 0.10), (-0.016, 0.048, 0.010)),
            Pull((0.05, -0.03), (0.06, 0.06), (0.0, 0.010, 0.018)),
        ),
        # Levator labii superioris: the upper lip's middle up, the cheek's inner part bulges.
        10: (
            Pull((0.15, mouth - 0.05), (0.13, 0.08), (0.004, -0.078, 0.020)),
            Pull((0.27, nose + 0.04), (0.09, 0.10), (0.010, -0.050, 0.036)),
            Pull((wing, nose - 0.02), (0.06, 0.06), (0.010, -0.020, 0.004)),
        ),
        # Zygomaticus major: the corner up, out and back; the cheek is pushed up and bulges.
        12: (
            Pull((width, mouth), (0.13, 0.11), (0.085, -0.100, -0.035)),
            Pull((0.43, 0.47), (0.13, 0.12), (0.020, -0.050, 0.058)),
            Pull((0.40, 0.25), (0.14, 0.09), (0.0, -0.022, 0.018)),
            Pull((wing, nose), (0.06, 0.06), (0.014, -0.006, -0.004)),
            Pull((0.12, mouth - 0.02), (0.10, 0.06), (0.016, -0.012, -0.022)),
        ),
        # Buccinator: the corner is pressed to the teeth; a pit, a bulge beside it.
        14: (
            Pull((width + 0.04, mouth + 0.005), (0.040, 0.055), (0.014, -0.012, -0.055)),
            Pull((width - 0.01, mouth), (0.06, 0.05), (0.026, -0.014, -0.020)),
            Pull((width + 0.13, mouth + 0.01), (0.05, 0.10), (0.0, 0.0, 0.030)),
        ),
        # Depressor anguli oris: the corner down, a pouch below it.
        15: (
            Pull((width - 0.01, mouth + 0.02), (0.085, 0.085), (0.012, 0.098, 0.0)),
            Pull((width, mouth + 0.14), (0.07, 0.06), (0.0, 0.024, 0.022)),
        ),
        # Depressor labii inferioris.
        16: (Pull((0.12, mouth + 0.10), (0.11, 0.06), (0.010, 0.050, 0.006)),),
        # Mentalis: the chin's boss up, the lower lip with it and out.
        17: (
            Pull((0.0, chin - 0.15), (0.15, 0.10), (0.0, -0.075, 0.034)),
            Pull((0.06, mouth + 0.09), (0.15, 0.06), (0.0, -0.048, 0.026)),
            Pull((0.05, mouth), (0.15, 0.04), (0.0, -0.024, 0.012)),
            Pull((width, mouth + 0.02), (0.07, 0.06), (0.0, 0.018, 0.0)),
        ),
        # Incisivii: the corners in, the lips out.
        18: (
            Pull((width - 0.02, mouth), (0.12, 0.10), (-0.110, 0.0, 0.050)),
            Pull((0.0, mouth), (0.14, 0.09), (0.0, 0.0, 0.060)),
        ),
        # Risorius: the corners out and back.
        20: (
            Pull((width, mouth + 0.02), (0.13, 0.10), (0.090, 0.022, -0.030)),
            Pull((0.10, mouth + 0.12), (0.16, 0.08), (0.020, 0.010, -0.012)),
        ),
        # Orbicularis oris, tightened: the lips narrow and roll in.
        23: (
            Pull((width - 0.02, mouth), (0.10, 0.08), (-0.045, 0.0, 0.008)),
            Pull((0.14, mouth), (0.12, 0.07), (-0.018, 0.0, 0.004)),
        ),
        # Orbicularis oris, pressed: the skin above and below the lips bulges.
        24: (
            Pull((0.12, mouth - 0.11), (0.14, 0.035), (0.0, 0.006, 0.030)),
            Pull((0.12, mouth + 0.12), (0.14, 0.035), (0.0, -0.006, 0.030)),
            Pull((width, mouth), (0.07, 0.05), (0.022, 0.004, -0.016)),
        ),
        25: (),
        26: (),
    }


def lip_weights() -> tuple[Array, Array]:
    """How far each row goes with the upper and with the lower lip, 0-1, [ROWS] each."""
    row = np.arange(ROWS, dtype=np.float64)
    upper = ramp(row, NOSE_BASE - 0.5, LIP_TOP) * (row <= UPPER_LIP)
    lower = ramp(row, CHIN_BOSS + 0.5, LIP_BOTTOM) * (row >= LOWER_LIP)
    return upper, lower


def jaw_weight(face: Identity, surface: Surface) -> Array:
    """How far each vertex goes with the jaw, 0-1 [ROWS, COLUMNS]."""
    row = np.arange(ROWS, dtype=np.float64)[:, None]
    s = np.abs(surface.points[..., 0])
    below = ramp(row, LOWER_LIP - 0.5, LOWER_LIP + 0.5)
    beside = ramp(surface.points[..., 1], face.nose_length + 0.02, face.chin - 0.12)
    bow = np.clip(1 - np.square(s / face.mouth_width), 0, 1) ** 0.6
    weight = bow * below + (1 - bow) * beside
    # The neck stays; so does all behind the ears.
    weight = weight * ramp(row, ROWS - 0.5, JAW_EDGE + 0.5)
    return weight * ramp(surface.points[..., 2], -0.30, 0.10)


def displacements(face: Identity, surface: Surface) -> Array:
    """The displacement of every vertex by each unit of MOVED_AUS on each side, at full effect.

    Returns:
        float32 [len(MOVED_AUS), 2, ROWS * COLUMNS, 3]; the first side is the viewer's left.
    """
    x, y, z = (np.ascontiguousarray(surface.points[..., k]) for k in range(3))
    s, sideways = np.abs(x), np.tanh(x / 0.04)
    front = ramp(z, -0.25, 0.15)
    out = np.zeros((len(MOVED_AUS), ROWS, COLUMNS, 3), np.float32)
    table = pulls(face)
    for k, au in enumerate(MOVED_AUS):
        for pull in table[au]:
            add_pull(out[k], s, y, front, sideways, np.float32((*pull.at, *pull.spread, *pull.by)))
    _move_lips(face, s, out)
    sides = np.stack([ramp(side * x, -0.09, 0.09) for side in SIDES], dtype=np.float32)
    moved = out[:, None] * sides[None, ..., None]
    return np.ascontiguousarray(
        moved.reshape(len(MOVED_AUS), 2, ROWS * COLUMNS, 3), dtype=np.float32
    )


def _move_lips(face: Identity, s: Array, out: Array) -> None:
    """What the red of the lips does by row: it parts (25), rolls in (23, 24), thins (12, 20)."""
    upper, lower = (weight[:, None] for weight in lip_weights())
    row = np.arange(ROWS, dtype=np.float64)[:, None]
    bow = np.clip(1 - np.square(s / (1.02 * face.mouth_width)), 0, 1) ** 0.7
    # Share of the red's height by which a row is drawn towards the seam: all at its border.
    border_up = ramp(row, NOSE_BASE, LIP_TOP) * ramp(row, UPPER_LIP, LIP_TOP)
    border_low = ramp(row, CHIN_BOSS, LIP_BOTTOM) * ramp(row, LOWER_LIP, LIP_BOTTOM)
    red = np.where(row <= UPPER_LIP, upper, lower)
    index = {au: k for k, au in enumerate(MOVED_AUS)}
    out[index[25], ..., 1] += bow * (0.062 * lower - 0.024 * upper)
    for au, rolled, depth in ((24, 0.62, -0.014), (23, 0.72, -0.012)):
        out[index[au], ..., 1] += bow * rolled * face.lip_upper * border_up
        out[index[au], ..., 1] -= bow * rolled * face.lip_lower * border_low
        out[index[au], ..., 2] += bow * depth * red
    for au, thinned in ((12, 0.22), (20, 0.2)):  # stretched lips are thin
        out[index[au], ..., 1] += bow * thinned * face.lip_upper * border_up
        out[index[au], ..., 1] -= bow * thinned * face.lip_lower * border_low
