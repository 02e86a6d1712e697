"""Describes a face in words: a sentence for each action unit's state, one about the whole face.

A local description states one action unit's state; a global description names the face and the
verb phrases of its active units, in the order of the data set's units.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from vlfau_jax.facs import ACTION_UNITS

NOUNS = ("man", "woman", "person")
_NOTHING_ACTIVE = "shows no action unit"


def noun_of(subject: str, sex: str = "") -> str:
    """The noun for a subject; without a `sex` it follows from ids like BP4D's (F001, M001)."""
    match = re.fullmatch(r"([FM])\d{3}", subject)
    return {"F": "woman", "M": "man", "female": "woman", "male": "man"}.get(
        sex or (match[1] if match else ""), "person"
    )


def local_description(au: int, active: bool) -> str:
    """The sentence that states whether action unit `au` is on."""
    unit = ACTION_UNITS[au]
    return unit.active if active else unit.inactive


def global_description(aus: Sequence[int], active: Sequence[bool], noun: str) -> str:
    """The sentence about the face, such as "a man raises outer brow, raises cheek and dimples"."""
    phrases = [ACTION_UNITS[au].verb_phrase for au, on in zip(aus, active, strict=True) if on]
    if not phrases:
        return f"a {noun} {_NOTHING_ACTIVE}."
    *firsts, last = phrases
    return f"a {noun} {', '.join(firsts)} and {last}." if firsts else f"a {noun} {last}."


def vocabulary_texts() -> Iterator[str]:
    """Yields texts that contain every word of all descriptions."""
    for au in ACTION_UNITS:
        yield local_description(au, True)
        yield local_description(au, False)
    aus = tuple(ACTION_UNITS)
    for noun in NOUNS:
        yield global_description(aus, [True] * len(aus), noun)
        yield global_description(aus, [False] * len(aus), noun)
