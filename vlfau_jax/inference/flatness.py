"""How flat a face is: a drawing has areas of one colour, where a photograph has skin and noise.

Of the middle of the crop, the share of pixels around which hardly anything changes. The limit of
0.2 was chosen by faces that YuNet finds and that are dropped for no other reason:

| | faces | median | most | above 0.2 |
|---|---|---|---|---|
| photographs of 28 people | 44 | 0.01 | 0.07 | 0 |
| these, changed as below | 688 | 0.01 | 0.16 | 0 |
| these at 2.5 and 4 times their brightness | 67 | 0.01 | 0.20 | 1 |
| frames of videos of three people, compressed | 130 | 0.01 | 0.08 | 0 |
| faces of two renderers, also as JPEG, reduced, dark or bright | 707 | 0.00 | 0.15 | 0 |
| plain cartoons, as PNG, as JPEG and reduced | 155 | 0.59 | 0.68 | 155 |
| emoji, likewise | 56 | 0.50 | 0.75 | 56 |
| cartoons with skin of pure white, yellow or magenta, likewise | 35 | 0.56 | 0.67 | 32 |
| photographs in 8 colours | 55 | 0.29 | 0.64 | 41 |
| in 4 levels a channel; in 6; in 8 | 161 | 0.11 | 0.46 | 37 |
| after a cartoon filter: bilateral, in steps of 24 levels, with outlines | 55 | 0.16 | 0.35 | 17 |
| after mean shift, a median of 9 pixels or OpenCV's stylisation | 274 | 0.01 | 0.19 | 0 |
| lines on white paper | 30 | 0.00 | 0.06 | 0 |
| photographs as OpenCV's pencil sketches | 73 | 0.00 | 0.02 | 0 |

The photographs were changed by JPEG of quality 30-95, to a quarter to three times the size, to 0.35
to 1.8 of their brightness and 0.4 of their contrast, by blurring, and by taking away their noise;
the videos are H.264 of crf 30-41 and MPEG-4 of 150 kbit/s; JPEG is of quality 60-95 elsewhere.

So it tells plain drawings only: not lines on paper, nor paintings, puppets and computer graphics
with skin that is shaded. It takes 0.2 ms a face.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

_SEMI_AXES = (0.30, 0.38)  # of the ellipse that is measured: across and down, of the crop's side
_STEEP = 0.9  # quantile of the changes: those at the edges of the face's parts
_FLAT = 0.02  # of a steep change; neither brightness nor contrast matters then
_ROUNDING = 1e-3  # grey levels
_CLIPPED = 4  # grey levels from black or white: what the camera could not tell apart
_LEAST = 0.25  # of the ellipse; where more is clipped, nothing is said
_NEIGHBOURS = np.ones((3, 3), np.uint8)


def flat_share(crop: np.ndarray) -> float:
    """The share of a face's pixels around which the grey value hardly changes.

    Black and white pixels are left out: over- and underexposed photographs have areas of them.

    Args:
        crop: RGB uint8 [s, s, 3], not enlarged from fewer pixels: that would smooth it.

    Returns:
        0-1; 0 where little but black and white is left.
    """
    inside = _ellipse(len(crop))
    clipped = cv2.inRange(crop, (0,) * 3, (_CLIPPED,) * 3)
    clipped |= cv2.inRange(crop, (255 - _CLIPPED,) * 3, (255,) * 3)
    measured = inside & (clipped == 0)
    if measured.sum() < _LEAST * inside.sum():
        return 0.0
    # Not rounded to whole levels, of which a dark photograph has few. The median takes away the
    # dots that JPEG leaves beside edges.
    grey = cv2.medianBlur(cv2.cvtColor(crop.astype(np.float32), cv2.COLOR_RGB2GRAY), 3)
    change = (cv2.dilate(grey, _NEIGHBOURS) - cv2.erode(grey, _NEIGHBOURS))[measured]
    steep = np.partition(change, int(_STEEP * len(change)))[int(_STEEP * len(change))]
    return float(np.mean(change <= max(_FLAT * steep, _ROUNDING)))


@lru_cache(maxsize=128)
def _ellipse(side: int) -> np.ndarray:
    """Which pixels of a crop are in its middle, bool [side, side]."""
    place = (2 * np.arange(side) + 1 - side) / (2 * side)  # the same left and right
    across, down = _SEMI_AXES
    return (place / across) ** 2 + (place[:, None] / down) ** 2 <= 1
