"""The crop rule none: the centre square of the picture."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from vlfau_jax.data.crop.face import Face
from vlfau_jax.data.crop.rule import CropRule
from vlfau_jax.data.raw.frames import Place


class CentreSquare(CropRule):
    """The picture's centre square is taken, for faces that are cropped already."""

    name = "none"
    version = 1
    PARAMETERS: ClassVar[dict[str, Any]] = {
        "zoom": 1.0,
        "shift_down": 0.0,
        "smooth_frames": 1,
    }
    FINDS_FACES = False

    def find(self, image: np.ndarray, place: Place, root: str) -> Face:
        height, width = image.shape[:2]
        side = min(height, width)
        return Face(((width - side) / 2, (height - side) / 2, side, side), None)
