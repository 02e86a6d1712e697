"""The identity of a rendered face: everything that neither muscles nor light change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np

Colour = tuple[float, float, float]

# sRGB 0-255; a subject's tone is between two neighbours, so that the range is covered evenly.
SKIN_TONES = (
    (246, 214, 192),
    (232, 188, 158),
    (212, 162, 126),
    (184, 130, 94),
    (142, 96, 68),
    (104, 70, 52),
)
HAIR_COLOURS = (
    (22, 18, 17),
    (52, 34, 24),
    (92, 60, 36),
    (150, 108, 62),
    (196, 160, 104),
    (128, 58, 30),
    (150, 148, 146),
)
IRIS_COLOURS = (
    (60, 38, 22),
    (92, 62, 36),
    (110, 100, 60),
    (84, 112, 92),
    (92, 126, 158),
    (110, 120, 128),
)
HAIR_STYLES = {
    "F": ("long", "bob", "bun", "short", "fringe"),
    "M": ("short", "crop", "part", "receding", "bald"),
}


@dataclass(frozen=True)
class Identity:
    """One subject's neutral face.

    Lengths are face units: the eye line is v = 0, the chin about v = 1.1, the head about 0.79 wide
    to each side. Colours are sRGB, 0-1. `asymmetry` is the share by which the side on the viewer's
    right moves more, and the other side less.
    """

    subject: str
    sex: str
    head_width: float
    jaw_power: float
    jaw_taper: float
    chin: float
    forehead: float
    skin: Colour
    freckles: float
    blush: float
    eye_spacing: float
    eye_width: float
    eye_upper: float
    eye_lower: float
    eye_tilt: float
    lid_fold: float
    iris: Colour
    brow_height: float
    brow_arch: float
    brow_slope: float
    brow_thickness: float
    brow_inner: float
    brow_outer: float
    brow_colour: Colour
    nose_width: float
    nose_length: float
    nose_height: float
    mouth_height: float
    mouth_width: float
    lip_upper: float
    lip_lower: float
    lip_colour: Colour
    mouth_curve: float
    nasolabial: float
    cheekbone: float
    brow_ridge: float
    age_lines: float
    hair_style: str
    hairline: float
    hair_volume: float
    hair_colour: Colour
    beard: float
    beard_style: str
    glasses: str
    glasses_colour: Colour
    asymmetry: float
    texture_seed: int


def _between(stops: tuple[tuple[int, int, int], ...], position: float) -> np.ndarray:
    low = min(int(position), len(stops) - 2)
    share = position - low
    return ((1 - share) * np.array(stops[low]) + share * np.array(stops[low + 1])) / 255


def _colour(values: np.ndarray) -> Colour:
    r, g, b = (float(x) for x in np.clip(values, 0.01, 0.99))
    return r, g, b


class _Draw:
    """One subject's random numbers, in a fixed order: sex and colours first, then the shapes."""

    def __init__(self, seed: int, subject: str) -> None:
        self.rng = rng = np.random.default_rng([seed, crc32(subject.encode())])
        coin = "F" if rng.random() < 0.45 else "M"
        self.sex = subject[0] if subject[0] in "FM" else coin
        self.man = 1.0 if self.sex == "M" else 0.0
        self.tone = tone = float(rng.uniform(0, len(SKIN_TONES) - 1.001))
        self.skin = _between(SKIN_TONES, tone) * (1 + rng.normal(0, 0.02, 3))
        dark_hair = tone > 2.6
        hair = np.array(HAIR_COLOURS[rng.integers(0, 2 if dark_hair else len(HAIR_COLOURS))]) / 255
        self.hair = hair * rng.uniform(0.85, 1.2)
        irises = IRIS_COLOURS[:2] if dark_hair else IRIS_COLOURS
        self.iris = np.array(irises[rng.integers(0, len(irises))]) / 255
        redness = np.array((1.0, 0.62, 0.60)) if self.man else np.array((1.02, 0.52, 0.54))
        self.lips = self.skin * (redness + rng.normal(0, 0.03, 3))
        self.bearded = self.man * float(rng.random() < 0.45)

    def near(self, mean: float, spread: float) -> float:
        """A normal number about `mean`, clipped at 1.8 `spread`."""
        return float(mean + spread * np.clip(self.rng.normal(), -1.8, 1.8))


def draw_identity(seed: int, subject: str) -> Identity:
    """Draws the face of `subject`; the same (seed, subject) always gives the same face.

    The sex is the id's first letter (F or M, as in BP4D); for other ids (SN001) it is drawn.
    """
    draw = _Draw(seed, subject)
    return Identity(
        subject=subject,
        sex=draw.sex,
        **_draw_head(draw),
        **_draw_eyes_and_brows(draw),
        **_draw_nose_and_mouth(draw),
        **_draw_hair(draw),
        asymmetry=float(draw.rng.uniform(-0.12, 0.12)),
        texture_seed=int(draw.rng.integers(0, 2**31)),
    )


def _draw_head(draw: _Draw) -> dict[str, Any]:
    return {
        "head_width": draw.near(0.785 + 0.02 * draw.man, 0.028),
        "jaw_power": draw.near(2.3 + 0.5 * draw.man, 0.25),
        "jaw_taper": draw.near(1.75 + 0.15 * draw.man, 0.1),
        "chin": draw.near(1.08 + 0.05 * draw.man, 0.03),
        "forehead": draw.near(1.16, 0.03),
        "skin": _colour(draw.skin),
        "freckles": float(max(0.0, draw.rng.normal(0.1, 0.3))) * (draw.tone < 2),
        "blush": float(draw.rng.uniform(0.1, 1.0)),
    }


def _draw_eyes_and_brows(draw: _Draw) -> dict[str, Any]:
    return {
        "eye_spacing": draw.near(0.345, 0.013),
        "eye_width": draw.near(0.180, 0.008),
        "eye_upper": draw.near(0.096 - 0.008 * draw.man, 0.008),
        "eye_lower": draw.near(0.062, 0.006),
        "eye_tilt": draw.near(-0.03, 0.05),
        "lid_fold": draw.near(0.045, 0.01),
        "iris": _colour(draw.iris * draw.rng.uniform(0.85, 1.15)),
        "brow_height": draw.near(-0.245 + 0.02 * draw.man, 0.018),
        "brow_arch": draw.near(0.045 - 0.012 * draw.man, 0.012),
        "brow_slope": draw.near(0.01, 0.022),
        "brow_thickness": draw.near(0.026 + 0.010 * draw.man, 0.005),
        "brow_inner": draw.near(0.135, 0.012),
        "brow_outer": draw.near(0.585, 0.018),
        "brow_colour": _colour(draw.hair * 0.75 * (0.5 if draw.hair.mean() > 0.45 else 1.0) + 0.02),
    }


def _draw_nose_and_mouth(draw: _Draw) -> dict[str, Any]:
    return {
        "nose_width": draw.near(0.118 + 0.008 * draw.man, 0.011),
        "nose_length": draw.near(0.43, 0.015),
        "nose_height": draw.near(0.19 + 0.02 * draw.man, 0.025),
        "mouth_height": draw.near(0.695 + 0.01 * draw.man, 0.013),
        "mouth_width": draw.near(0.298 + 0.01 * draw.man, 0.014),
        "lip_upper": draw.near(0.066 - 0.010 * draw.man, 0.008),
        "lip_lower": draw.near(0.090 - 0.010 * draw.man, 0.009),
        "lip_colour": _colour(draw.lips),
        "mouth_curve": draw.near(0.0, 0.009),
        "nasolabial": float(draw.rng.uniform(0.05, 0.3)),
        "cheekbone": draw.near(0.035, 0.01),
        "brow_ridge": draw.near(0.012 + 0.02 * draw.man, 0.006),
        "age_lines": float(draw.rng.uniform(0, 0.14)),
    }


def _draw_hair(draw: _Draw) -> dict[str, Any]:
    return {
        "hair_style": str(draw.rng.choice(HAIR_STYLES[draw.sex])),
        "hairline": draw.near(-0.80, 0.04),
        "hair_volume": draw.near(0.07, 0.02),
        "hair_colour": _colour(draw.hair),
        "beard": float(draw.rng.uniform(0.25, 0.8))
        if draw.bearded
        else draw.man * float(draw.rng.uniform(0, 0.16)),
        "beard_style": str(draw.rng.choice(("stubble", "goatee", "moustache"))),
        "glasses": str(draw.rng.choice(("none",) * 14 + ("round", "square"))),
        "glasses_colour": _colour(
            np.array(
                ((0.06, 0.06, 0.07), (0.3, 0.18, 0.1), (0.35, 0.35, 0.38))[draw.rng.integers(0, 3)]
            )
        ),
    }
