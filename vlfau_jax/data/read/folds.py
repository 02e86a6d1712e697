"""Three subject-exclusive folds: the published ones, or others for data sets without any.

The parts of BP4D and DISFA are those that ME-GraphAU and JAA-Net publish. Fold 1 tests part 3, fold
2 part 2, fold 3 part 1 (ME-GraphAU's numbering; others count the other way, so test subjects are
printed with every score). Fold 0 trains on all subjects and tests none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from typing import NamedTuple

import numpy as np

from vlfau_jax.data.sets import DataSet
from vlfau_jax.errors import UserError

FOLDS = 3


class Split(NamedTuple):
    """Three disjoint groups of subjects, each sorted."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


def split_subjects(
    data_set: DataSet, subjects: Sequence[str], fold: int, given: Mapping[str, int] | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Splits the present `subjects` into sorted training and test subjects.

    A subject that is in no part (a synthetic extra) trains in fold 0 only.

    Args:
        data_set: its published parts, if it has any, decide.
        subjects: the subjects of the prepared set.
        fold: 1 to 3, or 0 to train on all.
        given: subject -> the fold that tests it, as stated by the data; used if no parts are
            published. Unless all subjects have one, they are assigned to folds in sorted order.

    Raises:
        UserError: unknown fold, or a fold that leaves one of the two sides empty.
    """
    tests = _testing_folds(data_set, subjects, given or {})
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
                f"data.fold={fold} of {data_set.name} leaves no {side} subject among "
                f"{', '.join(sorted(subjects))}; it tests {', '.join(tested) or 'no subject'}; "
                "give more subjects, or data.fold=0 to train on all and test none"
            )
    return train, test


def _testing_folds(
    data_set: DataSet, subjects: Sequence[str], given: Mapping[str, int]
) -> dict[str, int]:
    """Subject -> the fold that tests it."""
    parts = data_set.published.parts
    if parts:
        return {s: len(parts) - k for k, part in enumerate(parts) for s in part}
    if all(given.get(s) for s in subjects):
        return {s: given[s] for s in subjects}
    return {s: k % FOLDS + 1 for k, s in enumerate(sorted(subjects))}


def draw_validation(groups: Sequence[Sequence[str]], count: int, seed: int) -> tuple[str, ...]:
    """Draws `count` of the training subjects, from the `groups` of the data sets in turn; sorted.

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
