"""Weights the training rows by their labels, and draws rows reproducibly for any step."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import numpy as np

from vlfau_jax.data.read.labels import Labels
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.errors import UserError


def row_weights(
    labels: Labels, rows: np.ndarray, options: DataOptions, sets: Sequence[str]
) -> np.ndarray | None:
    """The probability with which each of `rows` is drawn, float64 [len(rows)] with sum 1.

    The product of three nested choices, of which an outer one always holds exactly: a set by
    `mixture_weights`; of the set a subject, uniformly with `balance_subjects`; of the subject a
    row, with `balance_classes` by its share in classes that are uniform over all of `rows`. A
    choice that the options leave open follows the weights of what it contains.

    Args:
        labels: of all examples of the data set.
        rows: int64 positions of the training examples.
        options: what to balance.
        sets: names of the sets.

    Returns:
        The probabilities; None if the options balance nothing: then every row occurs once in each
        epoch.

    Raises:
        UserError: `mixture_weights` that do not fit the sets; classes to balance, but no labels.
    """
    _check_mixture(labels, rows, options, sets)
    if not (options.balance_classes or options.balance_subjects or options.mixture_weights):
        return None
    weights = class_weights(labels, rows) if options.balance_classes else np.ones(len(rows))
    if not weights.any():
        raise UserError("data.balance_classes: no training face has a known label")
    if options.balance_subjects:
        weights = _share_out(weights, labels.subject[rows])
    if options.mixture_weights:
        weights = _share_out(weights, labels.part[rows], options.mixture_weights)
    return weights / weights.sum()


def class_weights(labels: Labels, rows: np.ndarray) -> np.ndarray:
    """Weights float64 [len(rows)] for drawing a class uniformly, and then one of its rows.

    The classes are the units that are active anywhere, and "no unit active" of those known. A row
    is in the class of every unit that is active in it, so that P(row) ~ sum over its classes of
    1 / (rows of the class); units that occur together still raise each other's share. A row
    without a known label is in no class.
    """
    active, known = labels.au[rows], labels.known[rows]
    none = known.any(1) & ~active.any(1)
    classes = np.column_stack([active, none]).astype(np.float64)
    return classes @ (1 / np.maximum(classes.sum(0), 1))


def _share_out(
    weights: np.ndarray, group: np.ndarray, shares: Sequence[float] | None = None
) -> np.ndarray:
    """Scales `weights` so that the sum of group g is shares[g], or 1 each."""
    totals = np.bincount(group, weights)
    wanted = np.ones(len(totals)) if shares is None else np.array(shares)[: len(totals)]
    wanted = wanted / wanted.max()  # two shares of 1e308 have no sum
    return weights * (wanted / np.where(totals > 0, totals, 1))[group]


def _check_mixture(
    labels: Labels, rows: np.ndarray, options: DataOptions, sets: Sequence[str]
) -> None:
    shares = options.mixture_weights
    if not shares:
        return
    given = f"data.mixture_weights={shares}"
    if len(sets) == 1:
        raise UserError(f"{given}: {sets[0]} is one set; give shares with data.name='bp4d+disfa'")
    if len(shares) != len(sets):
        raise UserError(f"{given}: give {len(sets)} shares, one each for {', '.join(sets)}")
    if not all(math.isfinite(share) and share > 0 for share in shares):
        raise UserError(f"{given}: shares are above 0; leave a set out of data.name instead")
    for part, name in enumerate(sets):
        if not (labels.part[rows] == part).any():
            raise UserError(f"{given}: there is no face of {name} to train on")


class Draws(Sequence[int]):
    """Endless draws from `rows` with replacement; the k-th depends on the seed and k alone.

    The stream can therefore be divided among hosts, threads and processes, and resumed at any step.
    Grain takes the largest possible length for endless.
    """

    def __init__(self, rows: np.ndarray, weights: np.ndarray, seed: int) -> None:
        self._rows = rows
        self._upto = np.cumsum(weights)
        self._upto /= self._upto[-1]
        self._seed = seed

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> int:
        # A counter-based generator starts at `index` without drawing what is before it.
        number = np.random.Generator(np.random.Philox(key=self._seed, counter=index)).random()
        return int(self._rows[np.searchsorted(self._upto, number, side="right")])
