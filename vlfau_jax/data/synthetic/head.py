"""Draws the static part of a face: skull, skin, nose, ears, hair, beard, as maps of the face plane.

The face plane is a pixel grid in face units (u to the viewer's right, v down, eye line v = 0). It
is drawn once per subject and size; features.py and mouth.py add the moving parts, and renderer.py
shades it and projects it into the picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from vlfau_jax.data.synthetic.identity import Colour, Identity

U_EDGE, V_TOP, V_BOTTOM = 1.06, -1.36, 1.56
HEIGHT, OCCLUSION, RED, GREEN, BLUE, ALPHA = range(6)
PIXELS_PER_UNIT = 0.40  # of the picture's width: 1.2 face-plane pixels to a picture pixel
Array = np.ndarray


def linear(colour: Colour, gain: float = 1.0) -> Array:
    """Converts sRGB 0-1 to linear light (square law), float32 [3, 1, 1]."""
    return (np.square(np.array(colour, np.float32)) * np.float32(gain))[:, None, None]


def ramp(x: Array, low: float, high: float) -> Array:
    """Smooth step from 0 at `low` to 1 at `high` (which may be the smaller)."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def bell(x: Array, centre: float, width: float) -> Array:
    """Gaussian bump of height 1."""
    return np.exp(-0.5 * np.square((x - centre) / width))


@dataclass(frozen=True)
class Head:
    """Static maps of one subject, float32.

    maps [6, h, w]: HEIGHT..ALPHA. depth [h, w]: smooth height, for parallax. back [4, h, w]: hair
    behind the head, premultiplied linear RGB and alpha. grain [h, w]: skin and hair noise of the
    subject, about N(0, 1). u [1, w], v [h, 1]: face units. scale: pixels per unit.
    """

    maps: Array
    depth: Array
    back: Array
    grain: Array
    u: Array
    v: Array
    scale: float


def noise(rng: np.random.Generator, shape: tuple[int, int], cell_v: float, cell_u: float) -> Array:
    """Value noise with cells of the given size in pixels, scaled to unit variance."""
    rows, cols = int(shape[0] / cell_v) + 3, int(shape[1] / cell_u) + 3
    knots = rng.standard_normal((rows, cols)).astype(np.float32)
    y, x = np.arange(shape[0]) / cell_v, np.arange(shape[1]) / cell_u
    i, j = y.astype(int), x.astype(int)
    fy, fx = ramp(y - i, 0, 1)[:, None], ramp(x - j, 0, 1)[None, :]
    across = knots[:, j] * (1 - fx) + knots[:, j + 1] * fx
    top, low = across[i], across[i + 1]
    top *= 1 - fy
    low *= fy
    top += low
    out = top.astype(np.float32)
    # Summed column by column, as ever: drawn faces stay the same to the bit.
    columns = np.asfortranarray(out)
    out -= columns.mean()
    out /= columns.std()
    return out


def _outline(face: Identity, u: Array, v: Array) -> Array:
    """0 at the middle of the face, 1 on the head's outline: a dome above the eyes, a jaw below."""
    across = np.abs(u) / face.head_width
    dome = across**2.3 + np.abs(np.minimum(v, 0) / face.forehead) ** 2.3
    fall = np.clip(np.maximum(v, 0) / face.chin, 0, 1.6)
    jaw = across ** (2.3 + (face.jaw_taper - 2.3) * fall) + fall**face.jaw_power
    return np.where(v < 0, dome, jaw)


def _coverage(field: Array, level: float) -> Array:
    """Antialiased inside of `field < level`."""
    gv, gu = np.gradient(field)
    return np.clip((level - field) / (np.hypot(gu, gv) + 1e-6) + 0.5, 0, 1)


def _relief(face: Identity, inside: Array, u: Array, v: Array) -> Array:
    s = np.abs(u)
    height = 0.80 * (1 - np.clip(inside, 0, 0.995) ** 1.5) ** 0.55
    height += face.brow_ridge * bell(s, 0.30, 0.2) * bell(v, face.brow_height + 0.06, 0.07)
    height -= 0.050 * bell(s, face.eye_spacing - 0.02, 0.13) * bell(v, -0.02, 0.11)
    height += face.cheekbone * bell(s, 0.50, 0.16) * bell(v, 0.24, 0.13)
    height += 0.035 * bell(s, 0, 0.3) * bell(v, face.mouth_height, 0.16)
    height += 0.050 * bell(s, 0, 0.16) * bell(v, face.chin - 0.13, 0.085)
    height -= (
        0.014
        * bell(s, 0, 0.022)
        * bell(v, 0.5 * (face.nose_length + face.mouth_height) + 0.03, 0.05)
    )
    grow = 0.30 + 0.70 * ramp(v, -0.18, face.nose_length - 0.05)
    bridge = (
        face.nose_height
        * grow
        * ramp(v, -0.30, -0.02)
        * ramp(v, face.nose_length + 0.09, face.nose_length - 0.03)
    )
    height += bridge * bell(s, 0, 0.048 + 0.030 * np.clip(v / face.nose_length, 0, 1))
    return height + 0.07 * bell(s, 0, 0.07) * bell(v, face.nose_length - 0.02, 0.06)


def _skin(face: Identity, u: Array, v: Array, fine: Array, coarse: Array) -> Array:
    s = np.abs(u)
    skin = np.repeat(linear(face.skin), v.shape[0], 1).repeat(u.shape[1], 2)
    skin *= 1 + 0.018 * fine + 0.045 * coarse
    flush = 0.22 * face.blush * bell(s, 0.43, 0.15) * bell(v, 0.32, 0.13) + 0.16 * bell(
        s, 0, 0.09
    ) * bell(v, 0.38, 0.08)
    skin[1:] *= 1 - flush
    spots = face.freckles * ramp(fine, 1.1, 1.9) * bell(v, 0.2, 0.2) * bell(s, 0.2, 0.3)
    skin *= 1 - 0.45 * spots
    shadow = 0.27 * bell(s, face.eye_spacing, 0.14) * bell(v, 0.0, 0.09)
    return skin * (1 - shadow)


def beard_cover(face: Identity, u: Array, v: Array, fine: Array) -> Array:
    """Share of the skin covered by facial hair, [h, w]; the lips stay visible."""
    s = np.abs(u)
    my, mw = face.mouth_height, face.mouth_width
    moustache = bell(v, 0.5 * (face.nose_length + my) + 0.035, 0.033) * ramp(
        s, mw + 0.07, mw - 0.06
    )
    goatee = ramp(np.hypot(s / 1.1, v - face.chin + 0.12), 0.24, 0.12) * ramp(
        v, my + 0.11, my + 0.19
    )
    jaw = ramp(v + 0.55 * s, my + 0.28, my + 0.44) * ramp(v, 0.30, 0.55)
    whole = np.maximum(0.8 * jaw, 0.7 * moustache) * ramp(np.hypot(s / 1.5, v - my), 0.13, 0.24)
    region = {"stubble": whole, "goatee": np.maximum(goatee, moustache), "moustache": moustache}[
        face.beard_style
    ]
    weight = region * face.beard * (0.55 if face.beard_style == "stubble" else 1.0)
    return np.clip(weight * (0.85 + 0.15 * fine), 0, 0.85)


def brow_line(face: Identity, along: Array) -> Array:
    """Height of a brow's middle at rest, `along` it: 0 at its inner end to 1 at its outer one."""
    return (
        face.brow_height
        - face.brow_arch * np.sin(2.6 * along)
        + face.brow_slope * (2 * along - 1)
        + 0.05 * along**3
    )


def hairline(face: Identity, u: Array, strands: Array | float) -> Array:
    """Height where the forehead ends, at places u; a fringe, which hangs over it, is left out."""
    s = np.abs(u)
    temple = 2.2 * np.maximum(s - 0.44, 0) ** 1.6
    edge = face.hairline + 0.10 * s**2 + temple + 0.018 * strands
    if face.hair_style == "part":
        edge = edge - 0.10 * bell(u, 0.25, 0.2) + 0.07 * bell(u, -0.25, 0.3)
    elif face.hair_style == "receding":
        edge = edge - 0.16 + 0.10 * bell(s, 0, 0.13) - 0.05 * ramp(s, 0.2, 0.4)
    return edge


def _hair(face: Identity, u: Array, v: Array, inside: Array, strands: Array) -> tuple[Array, Array]:
    """Cover [h, w] of the hair over the face, and of the hair behind it."""
    s = np.abs(u)
    if face.hair_style == "bald":
        return np.zeros_like(inside), np.zeros_like(inside)
    edge = hairline(face, u, strands)
    if face.hair_style == "fringe":
        edge = np.maximum(edge, -0.64 - 0.06 * s + 0.02 * strands)
    elif face.hair_style == "crop":
        edge = edge - 0.03
    volume = face.hair_volume * {"crop": 0.3, "receding": 0.2, "bun": 0.7}.get(face.hair_style, 1.0)
    grown = _outline(face, u / (1 + volume), (v + 0.35 * volume) / (1 + 1.1 * volume))
    sideburn = {"long": 1.5, "bob": 0.62, "fringe": 0.30}.get(face.hair_style, 0.12)
    front = _coverage(grown, 1.0) * ramp(v, edge + 0.025, edge - 0.025)
    side_inner = (
        face.head_width * (0.97 if sideburn < 0.5 else 0.90)
        - 0.10 * ramp(v, -0.15, -0.5)
        - 0.015 * strands
    )
    sides = (
        ramp(s, side_inner - 0.03, side_inner + 0.03)
        * ramp(v, sideburn + 0.05, sideburn - 0.05)
        * ramp(v, -0.85, -0.65)
    )
    front = np.maximum(front, sides * _coverage(grown, 1.0))
    back = np.zeros_like(inside)
    if face.hair_style in ("long", "bob"):
        reach = 1.75 if face.hair_style == "long" else 0.85
        width = face.head_width * (0.99 + volume + 0.13 * ramp(v, -0.6, 0.3)) + 0.012 * strands
        back = (
            ramp(s, width + 0.02, width - 0.02) * ramp(v, reach, reach - 0.12) * ramp(v, -0.8, -0.6)
        )
    elif face.hair_style == "bun":
        back = ramp(np.hypot(u, (v + face.forehead + 0.06) * 1.15), 0.24, 0.21)
    return front, back


@lru_cache(maxsize=16)
def still_head(face: Identity, size: int) -> Head:
    """Draws the maps for pictures of `size` px; cached, because a sequence has one subject."""
    scale = PIXELS_PER_UNIT * size
    u = (np.arange(math.ceil(2 * U_EDGE * scale)) / scale - U_EDGE).astype(np.float32)[None, :]
    v = (np.arange(math.ceil((V_BOTTOM - V_TOP) * scale)) / scale + V_TOP).astype(np.float32)[
        :, None
    ]
    shape = (v.shape[0], u.shape[1])
    rng = np.random.default_rng(face.texture_seed)
    fine = noise(rng, shape, 1.5 * size / 160, 1.5 * size / 160)
    coarse = noise(rng, shape, 0.22 * scale, 0.22 * scale)
    strands = noise(rng, shape, 0.5 * scale, 0.035 * scale)
    s = np.abs(u)
    inside = _outline(face, u, v)
    cover = _coverage(inside, 1.0)
    height = _relief(face, inside, u, v)
    skin = _skin(face, u, v, fine, coarse)

    ear = np.square((s - face.head_width - 0.015) / 0.085) + np.square(
        (v - 0.14 + 0.25 * (s - 0.8)) / 0.19
    )
    ear_cover = _coverage(ear, 1.0) * (1 - cover)
    ear_height = 0.10 - 0.10 * np.abs(np.sqrt(ear) - 0.55)
    height = np.where(ear_cover > 0, ear_height, height)
    occlusion = 0.35 * ramp(inside, 0.80, 1.0) * ramp(v, 0.1, 0.8)
    occlusion += 0.20 * bell(u, 0, 0.10) * bell(v, face.nose_length + 0.085, 0.028)
    occlusion += 0.22 * bell(s, 0, 0.13) * bell(v, face.mouth_height + face.lip_lower + 0.055, 0.03)
    occlusion += 0.25 * bell(s, 0.15, 0.05) * bell(v, -0.03, 0.07)
    occlusion += np.where(ear_cover > 0, 0.5 * bell(np.sqrt(ear), 0.45, 0.2), 0)

    beard = beard_cover(face, u, v, fine)
    skin = skin * (1 - beard) + linear(face.brow_colour) * (1 + 0.3 * fine) * beard
    front, back = _hair(face, u, v, inside, strands)
    hair = linear(face.hair_colour) * np.maximum(1 + 0.28 * strands + 0.08 * fine, 0.2)
    skin = skin * (1 - front) + hair * front
    height = height + front * (0.05 + 0.006 * strands)
    occlusion = occlusion * (1 - front) + 0.35 * bell(front, 0.35, 0.2) * ramp(v, 0.2, -0.2)
    alpha = np.maximum(np.maximum(cover, ear_cover), front)
    maps = np.concatenate([height[None], occlusion[None], skin, alpha[None]]).astype(np.float32)

    shade = 0.45 * linear(face.hair_colour) * np.maximum(1 + 0.35 * strands, 0.2)
    under = np.concatenate([shade * back, back[None]]).astype(np.float32)
    depth = 0.62 * np.clip(1 - inside, 0, 1) + 0.20 * bell(s, 0, 0.10) * bell(v, 0.32, 0.14)
    return Head(maps, depth.astype(np.float32), under, fine, u, v, scale)
