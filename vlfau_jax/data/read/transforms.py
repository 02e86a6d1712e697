"""Resizes and augments pictures with OpenCV, uint8 in and out; the device normalises them.

No caption contains left or right, so a mirrored face keeps its captions.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_IDENTITY = np.eye(3, dtype=np.float32)
_ERASED = (0.02, 0.2)  # share of the picture
_ASPECT = 1 / 0.3  # the largest aspect ratio of an erased rectangle


def resize(image: np.ndarray, size: int, out: np.ndarray | None = None) -> np.ndarray:
    """Resizes a square picture to uint8 [size, size, 3], which is `out` where that is given.

    It is halved by area until less than a factor of two is left, and then interpolated. That
    filters as well as one area average and is four times as fast.
    """
    while image.shape[0] >= 2 * size:
        half = image.shape[0] // 2
        image = cv2.resize(image, (half, half), interpolation=cv2.INTER_AREA)
    if image.shape[0] == size and out is None:
        return np.ascontiguousarray(image)
    if image.shape[0] == size:
        out[:] = image
        return out
    return cv2.resize(image, (size, size), out, interpolation=cv2.INTER_LINEAR)


class View(NamedTuple):
    """A random view of a square picture, whatever that one's size.

    Attributes:
        side: the crop's, as a share of the picture's; above 1 it holds the whole picture.
        x: share of the columns outside the crop that are to its left; of a larger crop, share of
            its columns outside the picture that are to the picture's left.
        y: the same of the rows above.
        mirrored: whether left and right are exchanged.
        factors: of brightness, contrast and saturation, float32 [3]; None to leave them.
        erased: see `_erase`; None to erase nothing.
    """

    side: float
    x: float
    y: float
    mirrored: bool
    factors: np.ndarray | None
    erased: tuple[float, float, float, float] | None

    def square(self, whole: int) -> tuple[int, int, int]:
        """Left, top and side of the crop in a picture of `whole` pixels; the first may be < 0."""
        side = round(whole * self.side)
        return round(self.x * (whole - side)), round(self.y * (whole - side)), side


def draw_view(
    rng: np.random.Generator,
    *,
    min_area: float,
    flip: bool,
    jitter: float,
    erasing: float = 0.0,
    max_area: float = 1.0,
) -> View:
    """Draws a view.

    Args:
        rng: seven numbers are drawn for each view, whatever is used of them, and with `erasing`
            five more.
        min_area: smallest share of the picture's area that a crop keeps, 1 for none cut off.
        flip: mirror half of the pictures.
        jitter: brightness, contrast and saturation change by factors in 1 - jitter to 1 + jitter.
        erasing: share of the pictures that lose a rectangle, see `_erase`.
        max_area: largest area of a crop over the picture's, 1 or more; the area is uniform between
            `min_area` and this.
    """
    area, x, y, mirrored = rng.random(4).tolist()
    factors = rng.uniform(1 - jitter, 1 + jitter, 3).astype(np.float32)
    erased, *place = rng.random(5).tolist() if erasing else (1.0,)
    return View(
        side=math.sqrt(min_area + area * (max_area - min_area)),
        x=x,
        y=y,
        mirrored=flip and mirrored < 0.5,
        factors=factors if jitter else None,
        erased=tuple(place) if erased < erasing else None,
    )


def augment(
    image: np.ndarray, view: View, out: np.ndarray, place: np.ndarray | None = None
) -> None:
    """Makes a view of a square picture in `out`, one effect after the other.

    Args:
        image: RGB uint8 [h, h, 3].
        view: what of it.
        out: where the view is made, uint8 [size, size, 3], contiguous.
        place: where left, top and side of the view are written, float32 [3], as shares of the
            picture's side; from the right where the view is mirrored. Of a view larger than the
            picture left and top are not positive, and the side is above 1.
    """
    whole, size = image.shape[0], out.shape[0]
    left, top, side = view.square(whole)
    if place is not None:
        shown = whole - side - left if view.mirrored else left
        place[:] = np.array([shown, top, side]) / whole
    if side > whole:
        image = cv2.copyMakeBorder(
            image, -top, side - whole + top, -left, side - whole + left, cv2.BORDER_REPLICATE
        )
    else:
        image = image[top : top + side, left : left + side]
    resize(image, size, out)
    if view.mirrored:
        cv2.flip(out, 1, out)
    if view.factors is not None:
        _recolour(out, *view.factors)
    if view.erased is not None:
        _erase(out, *view.erased)


def _mean(image: np.ndarray) -> np.ndarray:
    """The mean colour, float64 [3]: that of cv2.mean, whose sums take five times as long."""
    return np.array(cv2.sumElems(image)[:3]) * (1 / (image.shape[0] * image.shape[1]))


def _recolour(image: np.ndarray, brightness: float, contrast: float, saturation: float) -> None:
    """Applies all three as one affine map of RGB; contrast is about the picture's mean luma."""
    mean = float(_LUMA @ _mean(image).astype(np.float32)) * brightness
    mix = saturation * _IDENTITY + (1 - saturation) * _LUMA
    matrix = np.full((3, 4), mean * (1 - contrast), np.float32)
    matrix[:, :3] = mix * (brightness * contrast)
    cv2.transform(image, matrix, image)


def _erase(image: np.ndarray, area: float, aspect: float, x: float, y: float) -> None:
    """Paints a rectangle in the mean colour: Zhong et al., "Random Erasing" (AAAI 2020).

    Four numbers in [0, 1) choose the share of the picture, the aspect ratio (in its logarithm, so
    that upright and lying rectangles are equally frequent) and the place. The paper's share goes up
    to 0.4; a face crop has no background to lose, and half of that already covers a mouth or both
    eyes. At most sqrt(0.2 / 0.3) = 0.82 of the side long, the rectangle always fits and is never
    drawn again.
    """
    size = image.shape[0]
    side = size * math.sqrt(_ERASED[0] + area * (_ERASED[1] - _ERASED[0]))
    stretch = _ASPECT ** (aspect - 0.5)  # the root of height / width
    height, width = max(1, round(side * stretch)), max(1, round(side / stretch))
    top, left = round(y * (size - height)), round(x * (size - width))
    colour = _mean(image).astype(np.uint8).tolist()
    cv2.rectangle(image, (left, top, width, height), colour, cv2.FILLED)
