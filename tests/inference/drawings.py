"""Plain cartoons of faces: areas of one colour, with hard edges."""

from __future__ import annotations

import cv2
import numpy as np

Colour = tuple[int, int, int]

SKINS: tuple[Colour, ...] = ((255, 224, 189), (241, 194, 125), (198, 134, 66), (141, 85, 36))
WHITE, LINE, LIPS = (255, 255, 255), (20, 15, 10), (160, 50, 55)


def cartoon(person: int, side: int = 160) -> np.ndarray:
    """One of any number of cartoons, RGB uint8 [side, side, 3]."""
    draw = np.random.default_rng(person)
    skin = SKINS[person % len(SKINS)]
    hair: Colour = tuple(draw.integers(20, 120, 3).tolist())
    large = np.full((1200, 1200, 3), draw.integers(120, 250, 3), np.uint8)

    def ellipse(x: int, y: int, across: int, down: int, colour: Colour, width: int = -1) -> None:
        cv2.ellipse(large, (3 * x, 3 * y), (3 * across, 3 * down), 0, 0, 360, colour, width)

    ellipse(200, 190, 118, 140, hair)
    cv2.rectangle(large, (450, 900), (750, 1200), skin, -1)
    ellipse(200, 215, 102, 128, skin)
    ellipse(200, 215, 102, 128, LINE, 3 * (person % 3 + 1))
    cv2.ellipse(large, (600, 450), (315, 240), 0, 180, 360, hair, -1)
    level, apart = 200 + int(draw.integers(-5, 6)), 46 + int(draw.integers(-3, 4))
    for x in (200 - apart, 200 + apart):
        ellipse(x, level, 24, 14, WHITE)
        ellipse(x, level, 24, 14, LINE, 6)
        ellipse(x, level, 11, 11, (70, 100, 60))
        ellipse(x, level, 5, 5, LINE)
        brow = np.array([(x - 28, level - 26), (x, level - 35), (x + 28, level - 28)]) * 3
        cv2.polylines(large, [brow], False, hair, 21)
    nose = np.array([(204, level), (188, 258), (210, 262)]) * 3
    cv2.polylines(large, [nose], False, tuple(int(0.6 * value) for value in skin), 12)
    if person % 2:
        ellipse(200, 298, 40, 9, LIPS)
        cv2.line(large, (480, 894), (720, 894), LINE, 9)
    else:
        cv2.ellipse(large, (600, 840), (120, 90), 0, 0, 180, LIPS, -1)
    return cv2.resize(large, (side, side), interpolation=cv2.INTER_AREA)
