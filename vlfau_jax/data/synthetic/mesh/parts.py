"""What a head has beside its skin: eyeballs, teeth, tongue, ears, neck, clothes, hair, glasses.

Each part is a grid of vertices with colours of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vlfau_jax.data.synthetic.head import Array, bell, linear, noise, ramp
from vlfau_jax.data.synthetic.identity import Identity
from vlfau_jax.data.synthetic.mesh.raster import EYE, EYE_STRETCH, PAINTED
from vlfau_jax.data.synthetic.mesh.surface import (
    EYEBALL,
    UPPER_LIP,
    Surface,
    half_width,
)
from vlfau_jax.data.synthetic.mesh.traits import Traits

EYE_GRID = 13
INNER_PARTS = 6  # the first ones: two eyeballs, two rows of teeth, the dark behind them, the tongue


@dataclass(frozen=True)
class Part:
    """A grid of vertices.

    Attributes:
        points: float32 [r, c, 3].
        paint: linear RGB, gloss, openness to the sky, float32 [r, c, 5].
        kind: PAINTED or EYE.
        jaw: how far it moves with the jaw, 0-1.
    """

    points: Array
    paint: Array
    kind: int = PAINTED
    jaw: float = 0.0


def grid_triangles(rows: int, columns: int) -> Array:
    """The triangles of a grid of vertices, int32 [t, 3]."""
    index = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    a, right, below, far = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    first, second = np.stack([a, right, below], -1), np.stack([right, far, below], -1)
    return np.concatenate([first.reshape(-1, 3), second.reshape(-1, 3)])


def painted(points: Array, rgb: Array, gloss: float = 0.0, sky: Array | float = 1.0) -> Array:
    """The paint of vertices [r, c, 3], see `Part`: linear RGB, gloss and openness to the sky."""
    paint = np.empty((*points.shape[:2], 5), np.float32)
    paint[..., :3] = rgb
    paint[..., 3] = gloss
    paint[..., 4] = sky
    return paint


def build_parts(face: Identity, traits: Traits, surface: Surface) -> list[Part]:
    """The parts that belong to a person; the eyeballs come first, the viewer's left one before."""
    rng = np.random.default_rng([face.texture_seed, 5])
    parts = [_eyeball(surface.eyes[k], k) for k in range(2)]
    parts += _mouth(face, traits, surface, rng)
    parts += [_ear(face, traits, side) for side in (-1, 1)]
    parts += [_neck(face, traits)]
    parts += _hair(face, traits, rng)
    if face.glasses != "none":
        parts += _glasses(face, surface)
    return parts


def _eyeball(centre: Array, which: int) -> Part:
    angle = np.linspace(-1.4, 1.4, EYE_GRID)
    across, down = np.meshgrid(angle, angle)
    points = centre + EYEBALL * np.stack(
        [EYE_STRETCH * np.sin(across) * np.cos(down), np.sin(down), np.cos(across) * np.cos(down)],
        -1,
    )
    # `shade` colours it; red tells it which eye this is.
    return Part(points.astype(np.float32), painted(points, np.full(3, which)), EYE)


def _mouth(
    face: Identity, traits: Traits, surface: Surface, rng: np.random.Generator
) -> list[Part]:
    """Teeth above and below, tongue, and the dark behind them."""
    middle = surface.points.shape[1] // 2
    seam_y = float(surface.points[UPPER_LIP, middle, 1])
    lip_z = float(surface.points[UPPER_LIP, middle, 2]) - 0.030
    half = 0.88 * face.mouth_width
    across = np.linspace(-1, 1, 33)
    ivory = np.array((0.72, 0.66, 0.54)) * rng.uniform(0.75, 1.1)
    parts = []
    for top, bottom, jaw in (
        (-0.075, 0.022 - traits.teeth_up, 0.0),
        (0.026 + traits.teeth_up, 0.10, 1.0),
    ):
        down = np.linspace(0, 1, 5)
        x = np.broadcast_to(half * across, (5, 33))
        y = seam_y + top + (bottom - top) * down[:, None] + 0.012 * across**2 * (1 - 2 * jaw)
        z = np.broadcast_to(lip_z - 0.045 - 0.16 * across**2, (5, 33))
        gaps = 1 - 0.30 * (np.arange(33) % 4 == 0)
        gums = np.where(down[:, None] < 0.2, 0.65, 1.0) if not jaw else 1.0
        side = ramp(np.abs(across), 1.0, 0.45)
        tint = ivory * (gaps * (0.25 + 0.75 * side) * gums)[..., None] * np.ones((5, 33, 1))
        points = np.stack([x, np.broadcast_to(y, (5, 33)), z], -1)
        parts.append(
            Part(points.astype(np.float32), painted(points, tint, 0.8, 0.85), PAINTED, jaw)
        )
    x, y = np.meshgrid(np.linspace(-1.2, 1.2, 9), np.linspace(-0.20, 0.20, 5))
    z = lip_z - 0.26 - 0.06 * x**2
    points = np.stack([half * x, seam_y + y, z], -1)
    dark = np.array((0.035, 0.010, 0.010))
    parts.append(Part(points.astype(np.float32), painted(points, dark, 0.0, 0.5), PAINTED, 0.4))
    x, y = np.meshgrid(np.linspace(-1, 1, 11), np.linspace(0, 1, 7))
    z = lip_z - 0.06 - 0.10 * x**2 - 0.10 * (1 - y)
    points = np.stack([0.62 * half * x, seam_y + 0.055 + 0.05 * y + 0.02 * x**2, z], -1)
    tongue = linear(face.lip_colour, 0.55)[:, 0, 0]
    parts.append(Part(points.astype(np.float32), painted(points, tongue, 0.7, 0.5), PAINTED, 0.85))
    return parts


def _ear(face: Identity, traits: Traits, side: int) -> Part:
    around, out = np.meshgrid(np.linspace(0, 2 * np.pi, 17), np.linspace(0, 1, 6))
    rim = np.sin(np.pi * np.clip(out * 1.05, 0, 1)) * 0.035
    y = 0.11 - 0.19 * out * np.cos(around) + 0.02
    z = 0.06 - 0.105 * out * np.sin(around) - 0.03 * (out * np.cos(around))
    # It is joined to the head in front and stands off behind.
    behind = 0.5 + 0.5 * np.sin(around)
    x = float(half_width(face, traits, np.array(0.1))) - 0.03 + 0.14 * out * behind + rim
    points = np.stack([side * x, y, z], -1)
    base = linear(face.skin)[:, 0, 0] * np.array(traits.tan) * (1.0, 0.9, 0.88)
    deep = (1 - 0.5 * bell(out, 0.45, 0.18))[..., None]
    points = points if side > 0 else points[:, ::-1]
    return Part(points.astype(np.float32), painted(points, base * deep, 0.2))


def _neck(face: Identity, traits: Traits) -> Part:
    radius = 0.47 if face.sex == "M" else 0.40
    angle = np.linspace(-np.pi * 0.75, np.pi * 0.75, 25)
    down = np.linspace(0.55, 2.3, 9)[:, None]
    wide = radius * (1 + 0.30 * ramp(down, 1.35, 2.2))
    x = wide * np.sin(angle)
    z = -0.20 + 0.10 * ramp(down, 1.0, 1.9) + 0.85 * wide * np.cos(angle)
    points = np.stack([x, np.broadcast_to(down, x.shape), z], -1)
    base = linear(face.skin)[:, 0, 0] * np.array(traits.tan)
    sky = 0.55 + 0.45 * ramp(down, 1.15, 1.6)
    return Part(points.astype(np.float32), painted(points, base, 0.15, sky))


def clothes(colour: Array, collar: float, sex: str) -> Part:
    """Shoulders and chest in a colour, linear RGB; they belong to a sequence, not to a person."""
    across = np.linspace(-1, 1, 31)
    down = np.linspace(0, 1, 8)[:, None]
    s = np.abs(across)
    broad = 1.65 if sex == "M" else 1.42
    x = np.broadcast_to(broad * across, (8, 31))
    shoulder = 1.42 + 0.34 * s**1.5
    neckline = shoulder + collar * 2.4 * np.clip(0.30 - s, 0, None)
    y = neckline + 1.2 * down
    z = -0.30 + 0.55 * np.sqrt(np.clip(1 - across**2, 0.02, 1)) * (0.55 + 0.45 * np.sqrt(down))
    z = z + 0.10 * ramp(down, 0.0, 0.3)
    points = np.stack([x, y, z], -1)
    fold = 1 - 0.18 * bell(s, 0.45, 0.06) - 0.1 * np.sin(9 * across + 3 * down)
    return Part(points.astype(np.float32), painted(points, colour * fold[..., None], 0.05))


def _hair(face: Identity, traits: Traits, rng: np.random.Generator) -> list[Part]:
    """Hair that stands off the head: a cap, and locks beside the face."""
    if face.hair_style == "bald":
        return []
    colour = linear(face.hair_colour)[:, 0, 0]
    volume = face.hair_volume * {"crop": 0.35, "receding": 0.3, "bun": 0.8}.get(
        face.hair_style, 1.3
    )
    rows, columns = 26, 61
    angle = np.linspace(-np.pi, np.pi, columns)
    # Combed aside, hair runs along the forehead, as its lines do.
    aside = math.sin(traits.combed) ** 2
    streaks = (1 - aside) * noise(rng, (rows, columns), 9.0, 1.3)
    streaks += aside * noise(rng, (rows, columns), 1.1, 7.0)
    reach = {"long": rng.uniform(1.2, 1.9), "bob": 0.85, "fringe": 0.5}.get(face.hair_style, 0.25)
    top = -face.forehead - 1.1 * volume
    y = top + (reach - top) * np.linspace(0, 1, rows)[:, None]
    y = np.broadcast_to(y, (rows, columns))
    outer = np.clip(1 - np.square(np.minimum(y, -0.1) + 0.1) / np.square(top + 0.1), 0, 1) ** 0.5
    wide = (face.head_width + 0.6 * volume) * outer + 0.10 * volume * ramp(y, -0.2, 0.8)
    cosine = np.cos(angle)[None]
    front, back = (0.83 + 0.8 * volume) * outer, (1.02 + volume) * outer
    x = wide * np.sin(angle) * (1 + 0.012 * streaks)
    z = np.where(cosine > 0, front, back) * np.sign(cosine) * np.abs(cosine) ** 0.92
    z = z + 0.012 * streaks
    # The face stays free: hair ends at its line on the forehead and, lower down, beside the ears.
    low, slant = traits.fringe
    line = face.hairline + {"receding": -0.16}.get(face.hair_style, 0.0)
    line = np.maximum(line, low - 0.06 + slant * x)
    open_angle = 1.05 + 0.40 * ramp(y, line, line + 0.35)
    if face.hair_style not in ("long", "bob"):
        open_angle = open_angle + 0.25 * ramp(y, -0.3, 0.1)
    free = (np.abs(angle)[None] < open_angle) & (y > line + 0.03 * streaks)
    points = np.stack([x, y, z], -1)
    # A free vertex is drawn into the head, where it cannot be seen.
    points = np.where(free[..., None], points * np.array((0.75, 1.0, 0.6)), points)
    tint = colour * np.maximum(1 + 0.35 * streaks, 0.2)[..., None]
    return [Part(points.astype(np.float32), painted(points, tint, 0.25))]


def _glasses(face: Identity, surface: Surface) -> list[Part]:
    """A frame before the eyes: two rings, a bridge and temples, as thin tubes."""
    colour = linear(face.glasses_colour)[:, 0, 0]
    z = float(surface.eyes[0, 2]) + 0.235
    power = 1.0 if face.glasses == "round" else 0.62
    angle = np.linspace(0, 2 * np.pi, 33)
    cos, sin = np.cos(angle), np.sin(angle)
    ring_x = 0.245 * np.sign(cos) * np.abs(cos) ** power
    ring_y = 0.180 * np.sign(sin) * np.abs(sin) ** power
    parts = []
    for side in (-1, 1):
        line = np.stack(
            [side * (face.eye_spacing + 0.01) + ring_x, 0.035 + ring_y, np.full(33, z)], -1
        )
        parts.append(_tube(line, 0.011, colour))
        temple = np.array([(0.60, -0.03, z - 0.02), (face.head_width + 0.02, -0.03, -0.05)])
        share = np.linspace(0, 1, 9)[:, None]
        line = (temple[0] + share * (temple[1] - temple[0])) * (side, 1, 1)
        parts.append(_tube(line, 0.010, colour))
    bridge = np.stack([np.linspace(-0.11, 0.11, 9), np.full(9, -0.01), np.full(9, z + 0.01)], -1)
    return [*parts, _tube(bridge, 0.011, colour)]


def _tube(line: Array, radius: float, colour: Array) -> Part:
    """A tube along a line [n, 3], flat towards the viewer."""
    around = np.linspace(0, 2 * np.pi, 6)
    forward = np.gradient(line, axis=0)
    forward /= np.linalg.norm(forward, axis=1, keepdims=True) + 1e-9
    side = np.cross(forward, (0.0, 0.0, 1.0))
    side /= np.linalg.norm(side, axis=1, keepdims=True) + 1e-9
    up = np.cross(side, forward)
    ring = radius * (np.cos(around)[:, None, None] * side + np.sin(around)[:, None, None] * up)
    points = line[None] + ring
    return Part(points.astype(np.float32), painted(points, colour, 0.9))
