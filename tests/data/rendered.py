"""Where the renderer draws the eyes: the truth that detectors and crops are held against."""

from __future__ import annotations

import math

import numpy as np

from vlfau_jax.data.synthetic.head import still_head
from vlfau_jax.data.synthetic.identity import Identity
from vlfau_jax.data.synthetic.renderer import FACE_UNIT, Pose


def true_eyes(face: Identity, pose: Pose, size: int) -> np.ndarray:
    """The eyes [2, 2] in pixels: the renderer's pose, applied to two places of its relief."""
    head = still_head(face, size)
    yaw, pitch, roll = (math.radians(x) for x in (pose.yaw, pose.pitch, pose.roll))
    row = round((0 - head.v[0, 0]) * head.scale)
    places = []
    for u in (-face.eye_spacing, face.eye_spacing):
        depth = head.depth[row, round((u - head.u[0, 0]) * head.scale)] - 0.30
        p, q = u * math.cos(yaw) + math.sin(yaw) * depth, math.sin(pitch) * depth
        x, y = p * math.cos(roll) - q * math.sin(roll), p * math.sin(roll) + q * math.cos(roll)
        places.append((x + pose.shift_u, y - 0.06 + pose.shift_v))
    return np.array(places) * FACE_UNIT * size * pose.scale + size / 2
