"""Where on a relief's picture each action unit shows, exactly: what its muscles change.

A unit's region is where its contraction changes the picture: every point of the face plane whose
colour, under light from either side, changes between rest and some level of the unit by at least
`LEAST` of the most that any point changes. It is found for each identity, with all other units at
rest, and follows the pose of each frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from vlfau_jax.data.synthetic.head import still_head
from vlfau_jax.data.synthetic.identity import Identity
from vlfau_jax.data.synthetic.renderer import RENDERED_AUS, Light, Pose, draw_face, project, shade

LEAST = 0.1  # of a unit's largest change
_LEVELS = (2.0, 3.5, 5.0)  # a moved brow or lip passes over places that it does not end on
_LIGHTS = (Light(azimuth=-20.0), Light(azimuth=20.0))
_CHANNELS = 4  # that `project` takes at once


@lru_cache(maxsize=64)
def plane_region(face: Identity, au: int, size: int) -> np.ndarray:
    """The region of a unit on the face plane of pictures of `size` pixels, bool [h, w]."""
    rest = _shaded(face, {}, size)
    changed = np.zeros(rest[0].shape[:2], np.float32)
    for level in _LEVELS:
        for before, after in zip(rest, _shaded(face, {au: level}, size), strict=True):
            changed = np.maximum(changed, np.abs(after - before).max(-1))
    return (changed > 0) & (changed >= LEAST * changed.max())


def _shaded(face: Identity, levels: dict[int, float], size: int) -> list[np.ndarray]:
    """The colours of the face plane, 0-1 as displayed, float32 [h, w, 3], in each light."""
    canvas = draw_face(face, levels, 0.0, (0.0, 0.0), size)
    planes = (shade(canvas, light, np.eye(3)) for light in _LIGHTS)
    return [np.sqrt(np.clip(plane[..., :3], 0, 1)) for plane in planes]


def picture_regions(face: Identity, pose: Pose, aus: Sequence[int], size: int) -> np.ndarray:
    """The regions of n units in a picture of `size` pixels, uint8 [size, size, n], 255 inside.

    All 0 for a unit that the renderer does not move; between 0 and 255 on a region's edge.
    """
    head = still_head(face, size)
    nowhere = np.zeros((head.v.shape[0], head.u.shape[1]), bool)
    planes = np.stack(
        [plane_region(face, au, size) if au in RENDERED_AUS else nowhere for au in aus], -1
    ).astype(np.float32)
    found = []
    for start in range(0, len(aus), _CHANNELS):
        some = np.ascontiguousarray(planes[..., start : start + _CHANNELS])
        picture = project(head, some, pose, size)[0]
        found.append(np.rint(255 * picture.reshape(size, size, -1)).astype(np.uint8))
    return np.concatenate(found, -1)
