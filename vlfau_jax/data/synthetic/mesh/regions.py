"""Where each unit shows in a picture of a head in three dimensions: what its muscle moves or folds.

A vertex belongs to a unit's region where the unit moves it by at least `MOVED` of the most that it
moves any, or folds its skin. Eyeballs belong to the units of the lids, teeth to those of the lips.
What hides them in the picture is left out, but for clothes and a hand before the face.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from vlfau_jax.data.synthetic.identity import Identity
from vlfau_jax.data.synthetic.mesh.head import (
    INDEX,
    VERTICES,
    Expression,
    Person,
    effects,
    person,
)
from vlfau_jax.data.synthetic.mesh.muscles import jaw_weight
from vlfau_jax.data.synthetic.mesh.raster import EYE, rasterize
from vlfau_jax.data.synthetic.mesh.renderer import view
from vlfau_jax.data.synthetic.mesh.skin import HEIGHT, WIDTH
from vlfau_jax.data.synthetic.mesh.surface import COLUMNS, CREASE, LID_GROOVE, ROWS
from vlfau_jax.data.synthetic.renderer import RENDERED_AUS, Pose

MOVED = 0.35  # of a unit's largest movement
FOLDED = 0.25  # occlusion of a fold at full effect
LID_UNITS, LIP_UNITS = (6, 7), (25, 26)


@lru_cache(maxsize=32)
def _vertex_regions(face: Identity) -> dict[int, np.ndarray]:
    """Unit -> whether each vertex of the skin is in its region, bool [VERTICES]."""
    who = person(face)
    jaw = jaw_weight(face, who.surface).reshape(-1)
    opening = np.abs(who.surface.opening)[None] < 1.2
    rows = np.arange(ROWS)[:, None]
    lids = ((rows >= CREASE) & (rows <= LID_GROOVE) & opening).reshape(-1)
    regions = {}
    for au in RENDERED_AUS:
        moves = who.moves[2 * INDEX[au] : 2 * INDEX[au] + 2]
        length = np.linalg.norm(moves, axis=-1).max(0)
        if au == 26:
            length = np.maximum(length, jaw)
        region = length >= MOVED * max(float(length.max()), 1e-9)
        if au in LID_UNITS:
            region = region | lids
        regions[au] = region | _folded(who, au)
    return regions


def _folded(who: Person, au: int) -> np.ndarray:
    """Whether a unit folds the skin at each vertex, bool [VERTICES]."""
    occlusion = np.zeros((HEIGHT, WIDTH), np.float32)
    for patches in who.folds.get(au, ()):
        for patch in patches:
            place = occlusion[patch.place]
            np.maximum(place, patch.change[..., 1], out=place)
    row = np.rint(np.arange(ROWS) * ((HEIGHT - 1) / (ROWS - 1))).astype(int)
    column = np.rint(np.arange(COLUMNS) * ((WIDTH - 1) / (COLUMNS - 1))).astype(int)
    return (occlusion[np.ix_(row, column)] >= FOLDED).reshape(-1)


def picture_regions(
    face: Identity,
    expression: Expression,
    pose: Pose,
    distance: float,
    aus: Sequence[int],
    size: int,
) -> np.ndarray:
    """The regions of units in a picture.

    Args:
        face: whose picture it is.
        expression: what the face does.
        pose: how the head is held.
        distance: of the camera.
        aus: n units.
        size: pixels of the picture's side.

    Returns:
        uint8 [size, size, n], 255 inside; all 0 for a unit that the renderer does not move.
    """
    who = person(face)
    moved, _ = effects(who, expression.levels)
    seen = view(who, moved, expression, pose, distance, size)
    found, _ = rasterize(seen.screen, seen.triangles, seen.closed, size, size)
    shown = found >= 0
    triangle = np.maximum(found, 0)
    skin = shown & (found < seen.closed)
    eye = shown & (seen.kind[triangle] == EYE)
    mouth = shown & ~skin & ~eye & (triangle < who.mesh.mouth_end)
    out = np.zeros((size, size, len(aus)), np.uint8)
    regions = _vertex_regions(face)
    corners = seen.triangles[triangle]
    on_skin = np.where(corners < VERTICES, corners, 0)
    for k, au in enumerate(aus):
        if au not in regions:
            continue
        inside = skin & (regions[au][on_skin].sum(-1) >= 2)
        if au in LID_UNITS:
            inside |= eye
        if au in LIP_UNITS:
            inside |= mouth
        out[..., k] = 255 * inside
    return out
