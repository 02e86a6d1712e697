"""Where the eyes are: in crops, and in rendered pictures by the rules that find them."""

from __future__ import annotations

import math

import numpy as np

from vlfau_jax.data.crop.rule import CropRule
from vlfau_jax.data.raw.frames import Place

# In a crop of 64 pixels, by every rule that finds eyes.
POSITIONS = 64 * np.array([[0.5 - 0.358 / 2, 0.365], [0.5 + 0.358 / 2, 0.365]])


def mapped(alignment: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Positions [n, 2] in the crop of positions in the picture, by `alignment` [2, 3]."""
    return positions @ alignment[:, :2].T + alignment[:, 2]


def eye_errors(rendered: list[tuple[np.ndarray, np.ndarray]], rule: CropRule) -> list[float]:
    """Distance of each eye found from the true one, in eye distances."""
    faces = [(rule.find(picture, Place(""), ""), eyes) for picture, eyes in rendered]
    return [
        math.dist(found, true) / math.dist(*eyes)
        for face, eyes in faces
        if face is not None and face.eyes is not None
        for found, true in zip(face.eyes, eyes, strict=True)
    ]
