"""Resizes and augments pictures with OpenCV, uint8 in and out; the device normalises them.

No caption contains left or right, so a mirrored face keeps its captions.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_ERASED = (0.02, 0.2)  # share of the picture
_ASPECT = 1 / 0.3  # the largest aspect ratio of an erased rectangle


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes a square picture to uint8 [size, size, 3].

    It is halved by area until less than a factor of two is left, and then interpolated. That
    filters as well as one area average and is four times as fast.
    """
    while image.shape[0] >= 2 * size:
        half = image.shape[0] // 2
        image = cv2.resize(image, (half, half), interpolation=cv2.INTER_AREA)
    if image.shape[0] == size:
        return np.ascontiguousarray(image)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)


def augment(
    image: np.ndarray,
    size: int,
    rng: np.random.Generator,
    *,
    min_area: float,
    flip: bool,
    jitter: float,
    erasing: float = 0.0,
) -> np.ndarray:
    """Makes a random view of a square picture [h, h, 3], uint8 [size, size, 3].

    Args:
        image: RGB uint8.
        size: pixels of the result's side.
        rng: seven numbers are drawn for each picture, whatever is used of them, and with `erasing`
            five more.
        min_area: smallest share of the picture's area that a crop keeps, 1 for none cut off.
        flip: mirror half of the pictures.
        jitter: brightness, contrast and saturation change by factors in 1 - jitter to 1 + jitter.
        erasing: share of the pictures that lose a rectangle, see `_erase`.
    """
    area, x, y, mirrored = rng.random(4)
    factors = rng.uniform(1 - jitter, 1 + jitter, 3).astype(np.float32)
    whole = image.shape[0]
    side = min(whole, round(whole * math.sqrt(min_area + area * (1 - min_area))))
    left, top = round(x * (whole - side)), round(y * (whole - side))
    image = resize(image[top : top + side, left : left + side], size)
    if flip and mirrored < 0.5:
        image = cv2.flip(image, 1)
    if jitter:
        image = _recolour(image, *factors)
    if erasing:
        erased, *place = rng.random(5)
        if erased < erasing:
            image = _erase(image, *place)
    return image


def _recolour(
    image: np.ndarray, brightness: float, contrast: float, saturation: float
) -> np.ndarray:
    """Applies all three as one affine map of RGB; contrast is about the picture's mean luma."""
    mean = float(_LUMA @ np.array(cv2.mean(image)[:3], np.float32)) * brightness
    mix = saturation * np.eye(3, dtype=np.float32) + (1 - saturation) * _LUMA[None, :]
    matrix = np.full((3, 4), mean * (1 - contrast), np.float32)
    matrix[:, :3] = mix * (brightness * contrast)
    return cv2.transform(image, matrix)


def _erase(image: np.ndarray, area: float, aspect: float, x: float, y: float) -> np.ndarray:
    """Erases a rectangle with the mean colour: Zhong et al., "Random Erasing" (AAAI 2020).

    Four numbers in [0, 1) choose the share of the picture, the aspect ratio (in its logarithm, so
    that upright and lying rectangles are equally frequent) and the place. The paper's share goes up
    to 0.4; a face crop has no background to lose, and half of that already covers a mouth or both
    eyes. At most sqrt(0.2 / 0.3) = 0.82 of the side long, the rectangle always fits and is never
    drawn again.
    """
    image = image.copy()
    size = image.shape[0]
    side = size * math.sqrt(_ERASED[0] + area * (_ERASED[1] - _ERASED[0]))
    stretch = _ASPECT ** (aspect - 0.5)  # the root of height / width
    height, width = max(1, round(side * stretch)), max(1, round(side / stretch))
    top, left = round(y * (size - height)), round(x * (size - width))
    image[top : top + height, left : left + width] = cv2.mean(image)[:3]
    return image
