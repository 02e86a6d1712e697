"""The two parts of a set's people: on one something is chosen, on the other it is reported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

Part = Literal["choose", "report", "all"]
PARTS: tuple[Part, ...] = get_args(Part)
EVERY = 3  # of so many people one is in "choose"


def people_of(subjects: Sequence[str], part: Part) -> tuple[str, ...]:
    """Who is in a part, sorted; nobody is in both "choose" and "report", and "all" are everybody.

    Of the sorted subjects the first, fourth, seventh and so on are in "choose", all others in
    "report". It depends on the names alone.

    Args:
        subjects: all names of the set, in any order.
        part: one of `PARTS`.
    """
    people = sorted(set(subjects))
    chosen = people[::EVERY]
    if part == "choose":
        return tuple(chosen)
    return tuple(name for name in people if part == "all" or name not in chosen)
