"""Where on an aligned face each action unit shows.

A unit's region is a union of ellipses, symmetric about the face's middle, in a frame that alignment
by the eyes fixes: the origin is midway between the pupils, the unit of length their distance, x to
the right and y down. The places follow the muscles and the appearance changes of Ekman, Friesen and
Hager, "Facial Action Coding System" (2002), the sizes are those of a mean adult face, in our own
measure. They are priors: where a given face has its brow, only its own landmarks know. Of rendered
faces the renderer does (`data.synthetic.regions`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Ellipse = tuple[float, float, float, float]  # centre x and y, half axes along x and y

# The pointing game's tolerance: 15 pixels of 224 (Zhang et al., "Top-down Neural Attention by
# Excitation Backprop", ECCV 2016), as a share of the picture's side.
TOLERANCE = 15 / 224
# A region of at most so large a share of the picture, tolerance included, is compact: elsewhere the
# pointing game is won by pointing anywhere.
COMPACT = 0.30
SIDE = 64  # samples along a template's side

_EYES = ((0.5, 0.02, 0.32, 0.17),)
_BROW_INNER = ((0.25, -0.42, 0.25, 0.20), (0.0, -0.60, 0.35, 0.20))
_BROW_OUTER = ((0.65, -0.45, 0.30, 0.22),)
_GLABELLA = ((0.0, -0.28, 0.25, 0.25), (0.45, -0.30, 0.40, 0.15))
_CHEEK = ((0.55, 0.30, 0.35, 0.20), (0.85, 0.05, 0.15, 0.20))
_NOSE = ((0.12, 0.15, 0.16, 0.30), (0.20, 0.50, 0.15, 0.15))
_FOLD = ((0.35, 0.70, 0.15, 0.22),)  # the nasolabial one
_UPPER_LIP = ((0.0, 0.88, 0.35, 0.15),)
_LOWER_LIP = ((0.0, 1.20, 0.35, 0.15),)
_CORNERS = ((0.48, 1.02, 0.20, 0.20),)
_BELOW_CORNERS = ((0.45, 1.15, 0.20, 0.20),)
_LIPS = ((0.0, 1.03, 0.50, 0.24),)
_CHIN = ((0.0, 1.40, 0.35, 0.20),)
_JAW = ((0.0, 1.30, 0.55, 0.42),)

# Of an ellipse beside the middle, its mirror image belongs to the region, too.
REGIONS: Mapping[int, tuple[Ellipse, ...]] = {
    1: _BROW_INNER,
    2: _BROW_OUTER,
    4: _GLABELLA,
    5: ((0.5, -0.08, 0.32, 0.17),),
    6: _CHEEK,
    7: _EYES,
    9: _NOSE,
    10: _UPPER_LIP + _FOLD,
    11: _FOLD,
    12: (*_CORNERS, (0.50, 0.72, 0.22, 0.25)),
    13: (*_CORNERS, (0.45, 0.80, 0.20, 0.20)),
    14: _CORNERS,
    15: _BELOW_CORNERS,
    16: _LOWER_LIP,
    17: (*_CHIN, (0.0, 1.18, 0.25, 0.12)),
    18: ((0.0, 1.03, 0.32, 0.22),),
    20: ((0.45, 1.06, 0.25, 0.20),),
    22: _LIPS,
    23: _LIPS,
    24: _LIPS,
    25: _LIPS,
    26: _JAW,
    27: _JAW,
    28: _LIPS,
    43: _EYES,
    44: _EYES,
    45: _EYES,
    46: _EYES,
}


def template(au: int, eyes: Mapping[str, Any], side: int = SIDE) -> np.ndarray:
    """The region of a unit in an aligned crop.

    Args:
        au: the unit's number.
        eyes: where the crop rule puts the eyes: `eye_distance` and `eye_height`, shares of the
            crop's side, as in the rule's parameters.
        side: samples along the crop's side.

    Returns:
        bool [side, side], rows from top to bottom: whether each sample's centre lies in the region;
        all False for a unit without one.
    """
    place = (np.arange(side) + 0.5) / side
    x = (place[None, :] - 0.5) / eyes["eye_distance"]
    y = (place[:, None] - eyes["eye_height"]) / eyes["eye_distance"]
    found = np.zeros((side, side), bool)
    for centre_x, centre_y, half_x, half_y in REGIONS.get(au, ()):
        across = (np.abs(x) - centre_x) / half_x
        found |= across**2 + ((y - centre_y) / half_y) ** 2 <= 1
    return found


def has_eye_positions(crop: Mapping[str, Any]) -> bool:
    """Whether a crop rule, as its `describe` gives it, puts the eyes in fixed places."""
    return {"eye_distance", "eye_height"} <= set(crop.get("parameters", ()))


def templates(aus: Sequence[int], crop: Mapping[str, Any]) -> np.ndarray | None:
    """The regions of units, float32 [n, SIDE, SIDE] in {0, 1}; see `template`.

    None where the crop rule, as its `describe` gives it, puts the eyes in no fixed place.
    """
    if not has_eye_positions(crop):
        return None
    return np.stack([template(au, crop["parameters"]) for au in aus]).astype(np.float32)
