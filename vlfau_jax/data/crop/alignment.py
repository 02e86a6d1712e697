"""From a face to its crop: the pose that puts eyes or box in their places, and the warp."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np

from vlfau_jax.data.crop.face import Face

# Parameters of rules that find eyes: the positions of the eyes in the crop, as shares of its side.
# An upright rendered face is cropped as by version 1 of the rule cascade, which did not find eyes:
# over 324 of them the midpoint of the true eyes was 0.135 of the side above the crop's centre
# (standard deviation 0.021) and their distance 0.358 of the side (0.020).
EYE_POSITIONS = {"eye_distance": 0.358, "eye_height": 0.365}


class Pose(NamedTuple):
    """Where a crop lies in its picture: centre and log of the side in source pixels, and angle.

    The angle is in radians, clockwise as pictures are displayed.
    """

    x: float
    y: float
    log_side: float
    angle: float


def pose_of(face: Face, parameters: Mapping[str, Any]) -> Pose:
    """The pose that puts the eyes at a rule's positions, or an upright one around the box.

    Args:
        face: what the rule found.
        parameters: the rule's. With eyes: `eye_distance`, `eye_height` (shares of the side) and
            `max_angle` (degrees, the most by which a head is turned upright). With a box only:
            `zoom` (the crop's side over the box's longer one) and `shift_down` (share of the box's
            height).
    """
    p = parameters
    if face.eyes is None:
        left, top, width, height = face.box
        side = max(width, height) * p["zoom"]
        return Pose(
            left + width / 2, top + height / 2 + p["shift_down"] * height, math.log(side), 0.0
        )
    (x, y), (dx, dy) = face.eyes.mean(0), face.eyes[1] - face.eyes[0]
    side = math.hypot(dx, dy) / p["eye_distance"]
    limit = math.radians(p["max_angle"])
    angle = min(max(math.atan2(dy, dx), -limit), limit)
    down = (0.5 - p["eye_height"]) * side
    return Pose(x - math.sin(angle) * down, y + math.cos(angle) * down, math.log(side), angle)


def square_of(pose: Pose) -> tuple[float, float, float, float]:
    """Left, top, width and height of the upright square with a pose's centre and side."""
    side = math.exp(pose.log_side)
    return pose.x - side / 2, pose.y - side / 2, side, side


def alignment_of(pose: Pose, size: int) -> np.ndarray:
    """The similarity transform from source to crop positions, float32 [2, 3]."""
    scale = size / math.exp(pose.log_side)
    cos, sin = scale * math.cos(pose.angle), scale * math.sin(pose.angle)
    turn = np.array([[cos, sin], [-sin, cos]])
    shift = size / 2 - turn @ (pose.x, pose.y)
    return np.column_stack([turn, shift]).astype(np.float32)


def warp(image: np.ndarray, alignment: np.ndarray, size: int) -> np.ndarray:
    """Cuts the crop out of a picture; edge pixels are repeated where it extends beyond the picture.

    Args:
        image: RGB uint8 [h, w, 3].
        alignment: the similarity transform from source to crop positions, [2, 3].
        size: pixels of the crop's side.

    Returns:
        RGB uint8 [size, size, 3].
    """
    turn, shift = alignment[:, :2].astype(np.float64), alignment[:, 2].astype(np.float64)
    corners = np.linalg.solve(
        turn, np.array([[0, 0, size, size], [0, size, 0, size]]) - shift[:, None]
    )
    # Bilinear interpolation reads four pixels only: squares of k by k pixels are averaged first.
    k = max(1, round(1 / math.hypot(*turn[0])))
    first, patch = _patch(image, corners, k)
    # OpenCV counts from the centre of the first pixel.
    offset = shift + turn @ first + k * turn @ (0.5, 0.5) - 0.5
    matrix = np.column_stack([k * turn, offset])
    return cv2.warpAffine(
        patch, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def _patch(image: np.ndarray, corners: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The part of `image` that contains `corners` [2, n], reduced k times, after its top left."""
    ends = np.array(image.shape[1::-1])
    low = np.clip(np.floor(corners.min(1)) - 2 * k, 0, ends - 1).astype(int)
    high = np.clip(np.ceil(corners.max(1)) + 2 * k, low + 1, ends).astype(int)
    width, height = np.maximum(1, (high - low) // k)
    if k > 1:  # whole squares only; at most k - 1 pixels of the picture's far edges are left out
        high = np.minimum(high, low + np.multiply((width, height), k))
    patch = image[low[1] : high[1], low[0] : high[0]]
    if k > 1:
        patch = cv2.resize(patch, (int(width), int(height)), interpolation=cv2.INTER_AREA)
    return low, patch
