"""The skin of a head: colour, gloss, relief and occlusion as textures, drawn once for a person.

A texture is laid on the grid of the surface: its rows and columns are those of the vertices, finer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from vlfau_jax.data.synthetic.head import (
    Array,
    beard_cover,
    bell,
    brow_line,
    hairline,
    linear,
    noise,
    ramp,
)
from vlfau_jax.data.synthetic.identity import Identity
from vlfau_jax.data.synthetic.mesh.fields import add_spot, spot
from vlfau_jax.data.synthetic.mesh.folds import ageing, draw_crease
from vlfau_jax.data.synthetic.mesh.muscles import SIDES
from vlfau_jax.data.synthetic.mesh.surface import (
    COLUMNS,
    CREASE,
    LIP_BOTTOM,
    LIP_TOP,
    LOWER_LID,
    LOWER_LIP,
    ROWS,
    UPPER_LID,
    UPPER_LIP,
    Surface,
)
from vlfau_jax.data.synthetic.mesh.traits import Traits

HEIGHT, WIDTH = 352, 384  # of a texture


@dataclass(frozen=True)
class Skin:
    """The textures of one person.

    Attributes:
        texture: linear RGB, gloss, and texels in a unit of length along a row and along a column,
            float32 [HEIGHT, WIDTH, 6].
        relief: height in face units, and occlusion, light that furrows keep out, 0 and more,
            float32 [HEIGHT, WIDTH, 2].
        x, y: places at rest, float32 [HEIGHT, WIDTH].
    """

    texture: Array
    relief: Array
    x: Array
    y: Array


@lru_cache(maxsize=1)
def _texel_places() -> tuple[Array, Array]:
    """Where every texel lies on the grid of vertices, as `cv2.remap` takes it."""
    v = np.linspace(0, ROWS - 1, HEIGHT, dtype=np.float32)[:, None]
    u = np.linspace(0, COLUMNS - 1, WIDTH, dtype=np.float32)[None]
    u, v = (np.ascontiguousarray(np.broadcast_to(k, (HEIGHT, WIDTH))) for k in (u, v))
    return cv2.convertMaps(u, v, cv2.CV_16SC2)


def on_texture(grid: Array) -> Array:
    """Values of the vertices [ROWS, COLUMNS] at every texel, float32 [HEIGHT, WIDTH]."""
    return cv2.remap(grid.astype(np.float32), *_texel_places(), cv2.INTER_LINEAR)


def _rows(first: float, last: float) -> slice:
    """The texture's rows from one row of vertices to another."""
    texels = (HEIGHT - 1) / (ROWS - 1)
    return slice(math.floor(first * texels), math.ceil(last * texels) + 1)


def draw_skin(face: Identity, traits: Traits, surface: Surface) -> Skin:
    """Draws the textures of a person.

    Colours are three planes, [3, HEIGHT, WIDTH], while they are painted.
    """
    rng = np.random.default_rng([face.texture_seed, 4])
    x, y, z = (on_texture(surface.points[..., k]) for k in range(3))
    row = np.linspace(0, ROWS - 1, HEIGHT, dtype=np.float32)[:, None]
    step_x = np.hypot(np.gradient(x, axis=1), np.gradient(z, axis=1)) + 1e-4
    step_y = np.hypot(np.gradient(y, axis=0), np.gradient(z, axis=0)) + 1e-3
    shape = (HEIGHT, WIDTH)
    fine, coarse = noise(rng, shape, 2.0, 2.0), noise(rng, shape, 22.0, 22.0)
    strands = noise(rng, shape, 14.0, 2.0)
    s = np.abs(x)
    colour = _complexion(face, traits, rng, s, y, fine, coarse)
    height = traits.pores * (0.0010 * fine + 0.0010 * noise(rng, shape, 5.0, 5.0))
    # Where rows or columns crowd, as beside the mouth, the same noise would be steep.
    height *= np.clip(step_x / 0.012, 0, 1) * np.clip(step_y / 0.008, 0, 1)
    occlusion = spot(s, y, (face.eye_spacing - 0.16, -0.05), (0.05, 0.06), 0.22)
    add_spot(occlusion, s, y, (0, face.nose_length + 0.075), (0.10, 0.025), 0.25)
    add_spot(occlusion, s, y, (0, face.mouth_height + face.lip_lower + 0.05), (0.14, 0.03), 0.25)
    add_spot(occlusion, s, y, (0.060, face.nose_length + 0.047), (0.026, 0.014), 1.5)
    gloss = spot(s, y, (0, 0.25), (0.10, 0.3), 0.45)
    gloss += 0.35 + 0.3 * bell(y, -0.5, 0.18)
    gloss *= traits.shine
    _age(face, traits, x, y, height, occlusion)
    beard = beard_cover(face, x, y, fine) if face.beard else None
    if beard is not None:
        colour += (linear(face.brow_colour) - colour) * beard
    lips = _paint_lips(face, traits, s, row, colour, gloss, height, fine, rng)
    if beard is not None:
        gloss *= 1 - 0.8 * beard * (1 - lips)
    _paint_lids(traits, surface, row, colour)
    above = _rows(0, UPPER_LID)
    _paint_brows(
        face,
        traits,
        s[above],
        y[above],
        colour[:, above],
        height[above],
        strands[above],
        fine[above],
    )
    combed = _turned(strands, traits.combed)
    _paint_hair(face, traits, x, y, z, colour, gloss, height, combed, fine)
    planes = [*colour, gloss, 1 / step_x, 1 / step_y]
    return Skin(_interleaved(planes), _interleaved([height, occlusion]), x, y)


def _interleaved(planes: list[Array]) -> Array:
    return np.ascontiguousarray(np.stack(planes, -1), np.float32)


def _complexion(
    face: Identity,
    traits: Traits,
    rng: np.random.Generator,
    s: Array,
    y: Array,
    fine: Array,
    coarse: Array,
) -> Array:
    base = linear(face.skin) * np.array(traits.tan, np.float32)[:, None, None]
    even = 1 + traits.pores * (0.025 * fine + 0.035 * coarse)
    spots = face.freckles * ramp(fine, 1.1, 1.9) * spot(s, y, (0.2, 0.2), (0.3, 0.2))
    even *= 1 - 0.45 * spots
    for _ in range(traits.moles):
        at = rng.uniform((0.0, -0.5), (0.6, 1.0))
        even *= 1 - spot(s, y, at, (0.011, 0.011), 0.6)
    shade = 0.10 + 0.25 * traits.eye_bags
    even *= 1 - spot(s, y, (face.eye_spacing, 0.07), (0.13, 0.06), shade)
    flush = spot(s, y, (0.43, 0.32), (0.15, 0.13), 0.20 * face.blush)
    add_spot(flush, s, y, (0, 0.36), (0.10, 0.10), traits.nose_red)
    colour = base * even
    colour[1:] *= 1 - flush
    return colour


def _age(
    face: Identity, traits: Traits, x: Array, y: Array, height: Array, occlusion: Array
) -> None:
    lines = traits.age * 0.9 + 0.5 * face.age_lines
    for side in SIDES:
        for crease in ageing(face):
            patch = draw_crease(x, y, crease, side)
            height[patch.place] += lines * patch.change[..., 0]
            occlusion[patch.place] += lines * patch.change[..., 1]


def _paint_lips(
    face: Identity,
    traits: Traits,
    s: Array,
    row: Array,
    colour: Array,
    gloss: Array,
    height: Array,
    fine: Array,
    rng: np.random.Generator,
) -> Array:
    """Paints the red of the lips; returns its cover."""
    part, all_lines = _rows(LIP_TOP, LIP_BOTTOM), noise(rng, s.shape, 40.0, 2.5)
    out = np.zeros_like(s)
    row, fine, lines = row[part], fine[part], all_lines[part]
    colour, gloss, height = colour[:, part], gloss[part], height[part]
    m = s[part] / face.mouth_width
    upper = ramp(row, LIP_TOP + 0.35, LIP_TOP + 1.25) * (row < UPPER_LIP + 0.5)
    lower = ramp(row, LIP_BOTTOM - 0.2, LIP_BOTTOM - 1.0) * (row > LOWER_LIP - 0.5)
    cover = (upper + lower) * ramp(m, 1.0, 0.9) * 0.92
    lip = linear(face.lip_colour)
    lip = lip + np.float32(traits.pale) * (linear(face.skin) * np.float32(0.9) - lip)
    painted = np.array(traits.lipstick_colour, np.float32)[:, None, None]
    lip = lip + traits.lipstick * (painted - lip)
    tint = lip * (1 + 0.08 * fine - np.float32(0.12) * (row < UPPER_LIP + 0.5))
    colour += cover * (tint - colour)
    wet = 0.5 + 0.5 * traits.lipstick
    gloss += cover * (wet - gloss)
    height += 0.0035 * cover * lines
    # The seam is dark where the lips meet.
    seam = np.exp(-0.5 * np.square((row - UPPER_LIP - 0.5) / 0.45)) * ramp(m, 1.06, 0.98)
    colour *= 1 - np.float32(traits.seam) * seam
    out[part] = cover
    return out


def _paint_lids(traits: Traits, surface: Surface, row: Array, colour: Array) -> None:
    part = _rows(CREASE - 1, LOWER_LID + 5)
    row, colour = row[part], colour[:, part]
    opening = np.abs(on_texture(np.broadcast_to(surface.opening, (ROWS, COLUMNS)))[part])
    near = ramp(opening, 1.12, 0.95)
    if traits.eyeshadow:
        shadow = ramp(row, CREASE - 1.0, CREASE + 1.0) * (row <= UPPER_LID + 0.5)
        veil = 1 - traits.eyeshadow * shadow * ramp(opening, 1.4, 0.8)
        colour *= veil ** np.array((0.7, 1.0, 0.8), np.float32)[:, None, None]
    lashes = np.exp(-0.5 * np.square((row - UPPER_LID) / (0.35 + 0.35 * traits.lashes))) * (
        row <= UPPER_LID + 0.5
    )
    line = np.exp(-0.5 * np.square((row - LOWER_LID) / (0.3 + 0.5 * traits.eyeliner))) * (
        row >= LOWER_LID - 0.5
    )
    dark = (0.45 + 0.5 * traits.lashes) * lashes + (0.12 + 0.75 * traits.eyeliner) * line
    colour *= 1 - np.clip(dark, 0, 0.95) * near


def _paint_brows(
    face: Identity,
    traits: Traits,
    s: Array,
    y: Array,
    colour: Array,
    height: Array,
    strands: Array,
    fine: Array,
) -> None:
    t = np.clip((s - face.brow_inner) / (face.brow_outer - face.brow_inner), -0.3, 1.3)
    inside = np.clip(t, 0, 1)
    middle = brow_line(face, inside)
    thick = face.brow_thickness * (1 - 0.6 * inside * inside)
    edge = 0.009 + 0.004 * np.abs(fine)
    cover = ramp(np.abs(y - middle), thick + edge, thick - edge)
    cover *= ramp(t, -0.08, 0.08) * ramp(t, 1.06, 0.88)
    cover *= np.clip(traits.brow_density * (1 + 0.25 * fine), 0, 0.97)
    tint = linear(face.brow_colour) * (1 + 0.3 * strands + 0.2 * fine)
    colour += cover * (np.maximum(tint, 0.003) - colour)
    height += 0.006 * cover


def _turned(texture: Array, angle: float) -> Array:
    """The texture [h, w] turned by an angle in radians about its middle, mirrored at its edges."""
    if not angle:
        return texture
    height, width = texture.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), math.degrees(angle), 1.0)
    return cv2.warpAffine(texture, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)


def hair_cover(
    face: Identity, traits: Traits, x: Array, y: Array, z: Array, strands: Array | float
) -> Array:
    """Share of the scalp and temples that hair covers, 0-1."""
    if face.hair_style == "bald":
        return np.zeros_like(x)
    s = np.abs(x)
    edge = hairline(face, x, strands)
    low, slant = traits.fringe
    edge = np.maximum(edge, low + slant * x - 0.08 * s + 0.03 * strands)
    front = ramp(y, edge + 0.03, edge - 0.03)
    reach = {"long": 1.2, "bob": 0.62, "fringe": 0.35}.get(face.hair_style, 0.12)
    sides = ramp(z, 0.20, 0.05) * ramp(y, reach + 0.06, reach - 0.06)
    sides = sides * ramp(s, 0.5 * face.head_width, 0.8 * face.head_width)
    return np.maximum(front, sides)


def _paint_hair(
    face: Identity,
    traits: Traits,
    x: Array,
    y: Array,
    z: Array,
    colour: Array,
    gloss: Array,
    height: Array,
    strands: Array,
    fine: Array,
) -> None:
    cover = hair_cover(face, traits, x, y, z, strands)
    tint = linear(face.hair_colour) * np.maximum(1 + 0.35 * strands + 0.12 * fine, 0.15)
    colour += cover * (tint - colour)
    gloss += cover * (0.25 - gloss)
    height += cover * (0.012 * strands)
