"""Training data made scarcer or worse on purpose: how much of it does a method need?

What is scored stays as it is. Every draw depends on the seed alone, and draws of one seed are
nested: the people of a smaller number are among those of a larger one, and the labels that are
wrong or missing at a smaller rate are so at a larger one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vlfau_jax.data.read.dataset import Dataset, open_dataset
from vlfau_jax.data.read.folds import Split, in_turn
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.errors import UserError


def open_for_training(options: DataOptions, seed: int) -> tuple[Dataset, Split]:
    """Opens the data of an experiment and splits its people.

    Args:
        options: the `data` keys; `training_subjects`, `active_share` and `label_noise` leave fewer
            or worse examples.
        seed: the experiment's.

    Returns:
        The data set, in whose training examples labels are flipped (a flipped one has no intensity)
        and of which some are left out (`Dataset.kept`); and the split with fewer people.

    Raises:
        UserError: as `open_dataset` and `Dataset.split`; there are fewer training subjects than
            asked for, or fewer are asked for than there are sets in a mixture; no face is left.
    """
    dataset = open_dataset(options)
    split = dataset.split(options.fold, options.validation_subjects, seed)
    if options.training_subjects:
        split = split._replace(train=_drawn(dataset, split.train, options.training_subjects, seed))
    if options.active_share == 1 and not options.label_noise:
        return dataset, split
    labels = dataset.labels
    mine = np.isin(dataset.subjects, split.train)[labels.subject]
    rng = np.random.default_rng([seed, 0x5CA2CE])
    missing, wrong = rng.random((2, *labels.au.shape))
    kept = dataset.kept & ~(mine & (labels.au & (missing >= options.active_share)).any(1))
    if not (kept & mine).any() and (dataset.kept & mine).any():
        raise UserError(
            f"data.active_share={options.active_share} leaves no face to train on: every one has "
            "active units; give more"
        )
    flipped = labels.known & mine[:, None] & (wrong < options.label_noise)
    labels = replace(
        labels, au=labels.au ^ flipped, level=np.where(flipped, np.int8(-1), labels.level)
    )
    return replace(dataset, labels=labels, kept=kept), split


def _drawn(dataset: Dataset, people: Sequence[str], count: int, seed: int) -> tuple[str, ...]:
    """`count` of `people`, from the sets of a mixture in turn; sorted."""
    groups = [[*set(people).intersection(one.subjects)] for one in dataset.sets]
    if not len(groups) <= count <= len(people):
        raise UserError(
            f"data.training_subjects={count}: give a number from {len(groups)} to {len(people)}, "
            "the training subjects that there are; 0 is all of them"
        )
    rng = np.random.default_rng([seed, 0x5CA2CE])
    return tuple(sorted(in_turn(groups, rng)[:count]))
