"""The people of a rendered tree as a table of groups: people.csv, which `--groups` reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vlfau_jax.data.set_record import MESH
from vlfau_jax.data.synthetic.identity import Identity, draw_identity
from vlfau_jax.data.synthetic.mesh.traits import Traits, draw_traits
from vlfau_jax.data.synthetic.pictures import write_csv
from vlfau_jax.data.synthetic.renderer import LUMINANCE

PEOPLE = "people.csv"

# Where groups meet. They are fixed, not the tree's own thirds: more subjects move nobody.
DARK, LIGHT = 0.515, 0.71  # luminance of the skin, sRGB, so that each has a third of all people
BEARDED = 0.2  # cover of the beard; below it is a shaved man's shadow
YOUNG, MIDDLE = 0.25, 0.5  # of Traits.age, from which on a face is middle and old; 0 is smooth
RESTING = 1.0  # a level from which on the face at rest seems to contract the unit


def group_row(face: Identity, traits: Traits | None) -> dict[str, str]:
    """The groups that a person is in, by column.

    Args:
        face: who.
        traits: what the head in three dimensions has besides; None for a relief.
    """
    return {
        "sex": "female" if face.sex == "F" else "male",
        "skin_tone": _skin_tone(face),
        "hair": face.hair_style,
        "beard": face.beard_style if face.beard >= BEARDED else "none",
        "glasses": face.glasses,
        **({} if traits is None else _groups_of_traits(traits)),
    }


def _skin_tone(face: Identity) -> str:
    luminance = float(np.dot(face.skin, LUMINANCE))
    if luminance < DARK:
        return "dark"
    return "middle" if luminance < LIGHT else "light"


def _groups_of_traits(traits: Traits) -> dict[str, str]:
    ages = {"smooth": traits.age == 0, "young": traits.age < YOUNG, "middle": traits.age < MIDDLE}
    return {
        "age": next((name for name, holds in ages.items() if holds), "old"),
        "lipstick": _answer(traits.lipstick > 0),
        "resting": _answer(max(traits.resting) >= RESTING),
    }


def _answer(holds: bool) -> str:
    return "yes" if holds else "no"


def write_people(root: Path, subjects: Sequence[str], seed: int, renderer: str) -> None:
    """Writes people.csv: a row for every subject, in their order.

    Args:
        root: of the raw tree.
        subjects: their names, one or more.
        seed: of the tree.
        renderer: one of RENDERERS.
    """
    rows = []
    for subject in subjects:
        face = draw_identity(seed, subject)
        traits = draw_traits(face) if renderer == MESH else None
        rows.append({"subject": subject} | group_row(face, traits))
    write_csv(root / PEOPLE, [[*rows[0]], *([*row.values()] for row in rows)])
