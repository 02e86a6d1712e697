"""Which rows training sees more often: weights from labels, and draws that any step can repeat."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import numpy as np

from vlfau_jax.data.raw.codes import Labels
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.errors import UserError


def row_weights(
    labels: Labels, rows: np.ndarray, options: DataOptions, sets: Sequence[str]
) -> np.ndarray | None:
    """How often each of `rows` is to be drawn, float64 [len(rows)] with sum 1.

    The product of three choices, each inside the one before, so that an outer one always holds
    exactly: a set by `mixture_weights`; in it a subject, all alike with `balance_subjects`; of
    theirs a row, by its share in classes that come alike over all of `rows` with
    `balance_classes`. A choice that the options do not make goes by the weights of what is in it.

    Args:
        labels: of all examples of the data set.
        rows: int64 positions of the training examples.
        options: what to balance.
        sets: names of the joined sets.

    Returns:
        None if the options balance nothing: then every row comes once in each epoch.

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
    """float64 [len(rows)], for drawing a class and then one of its rows, each with equal chances.

    The classes are the units that are active anywhere, and "no unit active" of those known. A row
    is in the class of every unit that is active in it, so that P(row) ~ sum over its classes of
    1 / rows of them; units that occur together still raise each other's share. A row of which
    nothing is known is in no class.
    """
    active, known = labels.au[rows], labels.known[rows]
    none = known.any(1) & ~active.any(1)
    classes = np.column_stack([active, none]).astype(np.float64)
    return classes @ (1 / np.maximum(classes.sum(0), 1))


def _share_out(
    weights: np.ndarray, group: np.ndarray, shares: Sequence[float] | None = None
) -> np.ndarray:
    """`weights` scaled so that group g's sum is shares[g], or 1 each."""
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

    So a stream of them is cut among hosts, threads and processes, or gone on with at any step, as
    it stands. Grain takes the largest length for endless.
    """

    def __init__(self, rows: np.ndarray, weights: np.ndarray, seed: int) -> None:
        self._rows = rows
        self._upto = np.cumsum(weights)
        self._upto /= self._upto[-1]
        self._seed = seed

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> int:
        # A counter-based generator: it is set to place `index`, not run up to it.
        number = np.random.Generator(np.random.Philox(key=self._seed, counter=index)).random()
        return int(self._rows[np.searchsorted(self._upto, number, side="right")])
