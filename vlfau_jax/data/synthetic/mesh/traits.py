"""What the head in three dimensions has beside an `Identity`: depth, fat, make-up, rest, ..."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from vlfau_jax.data.synthetic.identity import Identity
from vlfau_jax.data.synthetic.renderer import RENDERED_AUS

# A face at rest may look like a unit (low brows, corners that hang): share of people for each unit,
# and the level that it looks like at most, FACS intensities 0-5.
RESTING_SHARE = 0.12
RESTING_LEVEL = 1.6
ODD_SHARE = 0.25  # of the people have a skin of any colour; as many, drawn apart, such brows
# Mean and standard deviation of the log of how strongly a person's muscles show.
STRENGTH = (-0.15, 0.30)


@dataclass(frozen=True)
class Traits:
    """One person's head beyond `Identity`; lengths in face units, shares 0-1.

    Attributes:
        depth: of the head, 1 the usual.
        face_depth: how far nose, mouth and chin stand before the ears, 1 the usual.
        jaw_square: width of the jaw's lower half.
        cheek_fat: fullness of the lower cheek.
        temple: hollow of the temple.
        nose_bridge: half width of the bridge.
        nose_hump: of its profile, negative for a saddle.
        nose_tip: radius of the tip.
        nose_up: how far the tip points up.
        lip_pout: how far the lips stand out.
        eye_depth: how deep the eyes lie.
        eye_size: factor of the opening.
        lid_heavy: how far the upper lid hangs at rest.
        eye_bags: swelling under the eyes.
        chin_boss: height of the chin's boss.
        age: lines and slack skin.
        pores: strength of the skin's relief.
        shine: of the skin.
        moles: how many.
        pale: how far the lips have the skin's colour.
        lipstick: its cover.
        lipstick_colour: linear RGB.
        eyeshadow: its cover.
        eyeliner: darkness of the lids' edges.
        brow_up, brow_arch: how much higher and more arched the brows are than the identity's.
        mouth_curve: how much lower the mouth's corners hang.
        teeth_up: how far the upper teeth are hidden by the lip.
        seam: darkness of the line between closed lips.
        lashes: how dark and wide the line of the upper lashes is.
        brow_density: cover of the brows.
        nose_red: redness of nose and cheeks.
        tan: colour cast of the skin, linear RGB factors.
        fringe: y to which hair hangs over the forehead at its middle, and by how much more on the
            viewer's right, per unit; far above the head where there is none.
        combed: direction of the hair over the forehead, radians from straight down.
        dyed: sRGB of brows and beard where they have another colour than the identity's, else ().
        resting: level of each of RENDERED_AUS that the face at rest looks like, 0-5.
        strength: factor of each unit's movement in this person.
        folding: factor of each unit's folds.
        bias: share by which each unit moves more on the right than on the left.
    """

    depth: float
    face_depth: float
    jaw_square: float
    cheek_fat: float
    temple: float
    nose_bridge: float
    nose_hump: float
    nose_tip: float
    nose_up: float
    lip_pout: float
    eye_depth: float
    eye_size: float
    lid_heavy: float
    eye_bags: float
    chin_boss: float
    age: float
    pores: float
    shine: float
    moles: int
    pale: float
    lipstick: float
    lipstick_colour: tuple[float, float, float]
    eyeshadow: float
    eyeliner: float
    brow_up: float
    brow_arch: float
    mouth_curve: float
    teeth_up: float
    seam: float
    lashes: float
    brow_density: float
    nose_red: float
    tan: tuple[float, float, float]
    fringe: tuple[float, float]
    combed: float
    dyed: tuple[float, ...]
    resting: tuple[float, ...]
    strength: tuple[float, ...]
    folding: tuple[float, ...]
    bias: tuple[float, ...]


@lru_cache(maxsize=64)
def draw_traits(face: Identity) -> Traits:
    """Draws the traits of a person; the same identity always has the same ones."""
    rng = np.random.default_rng([face.texture_seed, 3])
    woman = face.sex == "F"
    n = len(RENDERED_AUS)
    made_up = rng.random() < (0.55 if woman else 0.08)
    # Almost half of the faces are as smooth as a doll's: what moves is all that there is to see.
    smooth = rng.random() < 0.45
    age = 0.0 if smooth else float(rng.beta(1.3, 2.2))
    resting = np.where(
        rng.random(n) < RESTING_SHARE, RESTING_LEVEL * rng.beta(1.5, 2.0, n), 0.15 * rng.random(n)
    )
    for opened in (25, 26):  # a mouth at rest is closed
        resting[RENDERED_AUS.index(opened)] = 0.0
    hangs = {"fringe": 1.0, "bald": 0.0, "receding": 0.0, "crop": 0.1}.get(face.hair_style, 0.5)
    low, slant = float(rng.uniform(-0.62, -0.30)), float(rng.normal(0, 0.25))
    if rng.random() >= hangs:
        low, slant = -9.0, 0.0

    def near(mean: float, spread: float) -> float:
        return float(mean + spread * np.clip(rng.normal(), -2, 2))

    red = rng.uniform(0, 1)
    # Colours that no person has keep the network from reading a face by them.
    odd = rng.random() < ODD_SHARE
    casts = (0.22, 0.16, 0.22) if odd else (0.06, 0.04, 0.06)
    dyed = rng.uniform(0.05, 0.95) * rng.uniform(0.5, 1.0, 3) if rng.random() < ODD_SHARE else ()
    return Traits(
        depth=near(1.0, 0.06),
        face_depth=near(1.0, 0.05),
        jaw_square=near(0.0 if woman else 0.05, 0.05),
        cheek_fat=near(0.02, 0.025),
        temple=near(0.02, 0.012),
        nose_bridge=near(0.062, 0.010),
        nose_hump=near(0.0, 0.018),
        nose_tip=near(0.078, 0.010),
        nose_up=near(0.0, 0.02),
        lip_pout=near(0.030, 0.010),
        eye_depth=near(0.0, 0.012),
        eye_size=near(1.0, 0.11),
        lid_heavy=float(rng.beta(1.2, 4.0)) * 0.3,
        eye_bags=float(rng.beta(1.2, 2.5)) * (0.4 + 0.6 * age),
        chin_boss=near(0.05, 0.02),
        age=age,
        pores=float(rng.uniform(0.0, 0.2) if smooth else rng.uniform(0.2, 1.0)),
        shine=float(rng.uniform(0.1, 1.4)),
        moles=int(rng.poisson(1.2)),
        pale=float(rng.uniform(0, 0.5 if woman else 0.85)),
        lipstick=float(rng.uniform(0.3, 0.9)) if made_up else 0.0,
        lipstick_colour=(0.35 + 0.3 * red, 0.02 + 0.10 * red, 0.04 + 0.12 * red),
        eyeshadow=float(rng.uniform(0.0, 0.6)) if made_up else 0.0,
        eyeliner=float(rng.uniform(0.3, 1.0)) if made_up else float(rng.beta(0.6, 2.0)),
        brow_up=near(0.0, 0.006),
        brow_arch=near(0.0, 0.006),
        mouth_curve=near(0.0, 0.012),
        teeth_up=float(rng.uniform(-0.01, 0.05)),
        seam=float(rng.uniform(0.2, 0.85)),
        lashes=float(rng.uniform(0.4, 1.0)) * (1.0 if woman else 0.6),
        brow_density=float(rng.uniform(0.35, 0.97)),
        nose_red=float(rng.uniform(0, 0.25)),
        tan=tuple(float(x) for x in np.exp(rng.normal(0, casts).clip(-0.45, 0.45))),
        fringe=(low, slant),
        combed=float(rng.uniform(-1.5, 1.5)) if rng.random() < 0.6 else 0.0,
        dyed=tuple(float(x) for x in dyed),
        resting=tuple(float(x) for x in resting),
        strength=tuple(
            float(x) for x in np.exp(STRENGTH[0] + STRENGTH[1] * rng.normal(size=n).clip(-2, 2))
        ),
        folding=tuple(
            float(x) * (0.25 if smooth else 1.0)
            for x in np.exp(0.6 * rng.normal(size=n).clip(-2, 1.6))
        ),
        bias=tuple(float(x) for x in 0.12 * rng.normal(size=n).clip(-2, 2)),
    )
