"""Names that may be one person's, spelt in several ways: F01 and f01, P3 and P03, s_7 and s7.

One person in training and test at once makes a model look better than it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

from vlfau_jax.errors import UserError

_RUNS = re.compile(r"\d+|[^\W\d_]+")


def similar_names(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of two or more names that differ only in how they are written; all sorted.

    That is: in upper and lower case, zeros before a number, the Unicode form or width of letters,
    and in spaces, hyphens, underscores and other marks. Marks between two numbers count: 1_11 is
    not 11_1.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_core(name), []).append(name)
    return sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1)


def _core(name: str) -> str:
    """What of a name does not depend on how it is written."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    core = ""
    for run in _RUNS.findall(text):
        if run[0].isdecimal():
            core += "," * core[-1:].isdecimal() + str(int(run))
        else:
            core += run
    return core or text


def check_similar(
    names: Iterable[str], places: Mapping[str, str], *, accept: bool
) -> list[tuple[str, ...]]:
    """Finds the subjects who may be one person.

    Args:
        names: all subjects.
        places: subject -> where it stands first, for the message; may be empty.
        accept: whether they are known to be different people.

    Returns:
        The groups, if they are accepted.

    Raises:
        UserError: there are such subjects, and they are not accepted.
    """
    groups = similar_names(names)
    if groups and not accept:
        first = [f"{name} ({places[name]})" if name in places else name for name in groups[0]]
        others = f"; {len(groups) - 1} more such groups" if len(groups) > 1 else ""
        raise UserError(
            f"subjects {' and '.join(first[:4])} may be one person, who would be trained on and "
            f"tested{others}; spell one person in one way, or give --accept_similar_subjects if "
            "they are different people"
        )
    return groups
