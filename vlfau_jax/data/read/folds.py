"""The field's three subject-exclusive folds, as ME-GraphAU and JAA-Net publish them.

Fold 1 tests part 3, fold 2 part 2, fold 3 part 1 (ME-GraphAU's numbering; others count the other
way, so test subjects are printed with every score). Fold 0 trains on everybody and tests nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from typing import NamedTuple

import numpy as np

from vlfau_jax.errors import UserError

_BP4D = (
    "F001 F002 F008 F009 F010 F016 F018 F023 M001 M004 M007 M008 M012 M014",
    "F003 F005 F011 F013 F020 F022 M002 M005 M010 M011 M013 M016 M017 M018",
    "F004 F006 F007 F012 F014 F015 F017 F019 F021 M003 M006 M009 M015",
)
_DISFA = (
    "SN001 SN002 SN009 SN010 SN016 SN026 SN027 SN030 SN032",
    "SN006 SN011 SN012 SN013 SN018 SN021 SN024 SN028 SN031",
    "SN003 SN004 SN005 SN007 SN008 SN017 SN023 SN025 SN029",
)
PARTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "bp4d": tuple(tuple(part.split()) for part in _BP4D),
    "disfa": tuple(tuple(part.split()) for part in _DISFA),
}
FOLDS = 3


class Split(NamedTuple):
    """Three groups of subjects, each sorted; nobody is in two."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


def split_subjects(
    dataset: str, subjects: Sequence[str], fold: int, given: Mapping[str, int] | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Splits the `subjects` at hand into sorted training and test subjects.

    A subject that is in no part (a synthetic extra) trains in fold 0 only.

    Args:
        dataset: one with published parts, or any other.
        subjects: who is there.
        fold: 1 to 3, or 0 to train on everybody.
        given: the fold that tests each subject, read where no parts are published. If it is 0 or
            missing, the data do not say: the subjects are dealt to the folds in sorted order.

    Raises:
        UserError: unknown fold, or a fold that leaves one of the two sides empty.
    """
    tests = _testing_folds(dataset, subjects, given or {})
    if fold not in range(FOLDS + 1):
        raise UserError(f"data.fold={fold} does not exist; expected 0 (all train) to {FOLDS}")
    if fold == 0:
        return tuple(sorted(subjects)), ()
    train = tuple(sorted(s for s in subjects if tests.get(s, fold) != fold))
    test = tuple(sorted(s for s in subjects if tests.get(s) == fold))
    for side, found in (("training", train), ("test", test)):
        if not found:
            tested = sorted(s for s, number in tests.items() if number == fold)
            raise UserError(
                f"data.fold={fold} of {dataset} leaves no {side} subject among "
                f"{', '.join(sorted(subjects))}; it tests {', '.join(tested) or 'nobody'}; give "
                "more subjects, or data.fold=0 to train on all and test nobody"
            )
    return train, test


def _testing_folds(
    dataset: str, subjects: Sequence[str], given: Mapping[str, int]
) -> dict[str, int]:
    """Subject -> the fold that tests them."""
    if dataset in PARTS:
        parts = PARTS[dataset]
        return {s: len(parts) - k for k, part in enumerate(parts) for s in part}
    if all(given.get(s) for s in subjects):
        return {s: given[s] for s in subjects}
    return {s: k % FOLDS + 1 for k, s in enumerate(sorted(subjects))}


def draw_validation(groups: Sequence[Sequence[str]], count: int, seed: int) -> tuple[str, ...]:
    """`count` of the training subjects of each data set's `groups`, in turn, sorted.

    The draw depends on the subjects, the count and the seed alone.

    Raises:
        UserError: a data set would be left without a training subject.
    """
    rng = np.random.default_rng([seed, 0x5EED])
    drawn = [[sorted(group)[i] for i in rng.permutation(len(group))] for group in groups]
    turns = [subject for subject in chain(*zip_longest(*drawn)) if subject is not None][:count]
    if count and any(set(group) <= set(turns) for group in groups):
        sizes = [len(group) for group in groups]
        most = len(groups) * (min(sizes) - 1) + sizes.index(min(sizes))
        raise UserError(
            f"data.validation_subjects={count} leaves nobody to train on among "
            f"{', '.join(sorted(chain(*groups)))}; give at most {most}"
        )
    return tuple(sorted(turns))
