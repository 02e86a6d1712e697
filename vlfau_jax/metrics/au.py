"""Metrics of an action unit over the frames of a test fold whose label is known.

Those of decisions are quotients of four counts (`Counts`), those of scores need the scores
themselves. NaN where a quotient has nothing to divide by, never 0: without positives, precision,
recall and F1 are NaN, since 0 would count the correct answer "never" as a failure. The field's
protocol pools the counts of all frames before it divides, and averages F1 over the units
afterwards; a mean over batches or subjects would be another number.

Counts of shards add, scores of shards are concatenated: either way the metric is the whole's.
Plain NumPy: a whole test fold of BP4D (50,000 frames, 12 units) fits many times over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

NAN = float("nan")


def is_active(probabilities: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """Whether each of [m, n] probabilities exceeds its unit's threshold [n]; equal ones do not."""
    return probabilities > np.asarray(thresholds, probabilities.dtype)


class Counts(NamedTuple):
    """Numbers of frames by prediction and label, int64 arrays of one shape.

    Attributes:
        tp: true positives: predicted on, and on.
        fp: false positives: predicted on, and off.
        fn: false negatives: predicted off, and on.
        tn: true negatives: predicted off, and off.
    """

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray

    @classmethod
    def of(cls, active: np.ndarray, positive: np.ndarray, known: np.ndarray) -> Counts:
        """Those of each unit, int64 [n], from bool [m, n]; a label that is not known counts not."""
        return cls(*(np.sum(known & cell, 0) for cell in _cells(active, positive)))

    @classmethod
    def by_group(
        cls,
        active: np.ndarray,
        positive: np.ndarray,
        known: np.ndarray,
        group: np.ndarray,
        groups: int,
    ) -> Counts:
        """Those of each group and unit, int64 [groups, n]; `group` int [m] in 0 to groups - 1."""
        return cls(
            *(
                np.stack(
                    [np.bincount(group[column], minlength=groups) for column in (known & cell).T], 1
                )
                for cell in _cells(active, positive)
            )
        )

    def __add__(self, other: Counts) -> Counts:
        """The counts of both shards' frames."""
        return Counts(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    def pooled(self, axis: int = -2) -> Counts:
        """Summed along an axis: over subjects, those of [..., subjects, units]."""
        return Counts(*(values.sum(axis) for values in self))

    @property
    def positives(self) -> np.ndarray:
        """Frames whose label is on."""
        return self.tp + self.fn

    @property
    def negatives(self) -> np.ndarray:
        """Frames whose label is off."""
        return self.fp + self.tn

    @property
    def frames(self) -> np.ndarray:
        """Frames whose label is known."""
        return self.positives + self.negatives


def _cells(active: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, ...]:
    return active & positive, active & ~positive, ~active & positive, ~active & ~positive


def f1(c: Counts) -> np.ndarray:
    """F1, the harmonic mean of precision and recall; NaN without positives."""
    return _divide(2 * c.tp, 2 * c.tp + c.fp + c.fn, c.positives > 0)


def precision(c: Counts) -> np.ndarray:
    """Share of the predicted frames that are on; NaN without positives or predictions."""
    return _divide(c.tp, c.tp + c.fp, c.positives > 0)


def recall(c: Counts) -> np.ndarray:
    """Share of the positives that are predicted; NaN without positives."""
    return _divide(c.tp, c.positives)


def accuracy(c: Counts) -> np.ndarray:
    """Share of the frames whose state is predicted; NaN without frames."""
    return _divide(c.tp + c.tn, c.frames)


def balanced_accuracy(c: Counts) -> np.ndarray:
    """Mean of the shares of the positives and of the negatives that are right; NaN without both."""
    return (_divide(c.tp, c.positives) + _divide(c.tn, c.negatives)) / 2


def mcc(c: Counts) -> np.ndarray:
    """Matthews' correlation coefficient (1975), Pearson's phi of labels and predictions.

    NaN where labels or predictions are all alike.
    """
    on, off = np.asarray(c.tp + c.fp, float), np.asarray(c.fn + c.tn, float)
    scale = np.sqrt(on * off * c.positives * c.negatives)
    # Not tp * tn - fp * fn: its products exceed what integers hold in sums over many folds.
    return _divide(np.asarray(c.tp, float) * c.tn - np.asarray(c.fp, float) * c.fn, scale)


def roc_auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a positive outscores a negative, a tie counts half.

    NaN unless both classes occur. By mean ranks (Mann and Whitney 1947), so that equal scores share
    theirs.
    """
    hits = int(positive.sum())
    misses = positive.size - hits
    if not hits or not misses:
        return NAN
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    rank = np.cumsum(counts) - (counts - 1) / 2
    return float((rank[inverse][positive].sum() - hits * (hits + 1) / 2) / (hits * misses))


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Average precision: sum over thresholds of precision times the recall that each adds.

    Equal scores pass a threshold together, and nothing is interpolated. NaN without positives.
    """
    hits = int(positive.sum())
    if not hits:
        return NAN
    tp, predicted = _passing(scores, positive)
    return float(np.sum(np.diff(tp, prepend=0) / hits * tp / predicted))


def best_threshold(scores: np.ndarray, positive: np.ndarray) -> float:
    """The threshold with the highest F1, half-way between the scores that it separates.

    Of several, the one nearest to 0.5. NaN without positives, or where every score is 0.

    Args:
        scores: float32 [m], 0 to 1; a score above the threshold counts as on.
        positive: bool [m].
    """
    hits = int(positive.sum())
    if not hits:
        return NAN
    tp, predicted = _passing(scores, positive)
    values = np.unique(scores)[::-1]
    below = np.append(values[1:], np.zeros(1, values.dtype))
    middle = (values + below) / 2
    thresholds = np.where(middle < values, middle, below)  # of neighbours among floats, the lower
    value = np.where(values > below, 2 * tp / (predicted + hits), -1.0)  # a score of 0 never passes
    best = np.flatnonzero(value == value.max())
    if value[best[0]] < 0:
        return NAN
    return float(thresholds[best[np.argmin(np.abs(thresholds[best] - 0.5))]])


def _passing(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many positives, and frames, have at least each distinct score, from the highest on."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    on = np.bincount(inverse[positive], minlength=len(counts))
    return np.cumsum(on[::-1]), np.cumsum(counts[::-1])


def more_frequent_state(positives: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Bool [n]: whether unit i is on in at least half of its known training labels (counts [n])."""
    return 2 * np.asarray(positives) >= np.maximum(np.asarray(known), 1)


def _divide(part: np.ndarray, whole: np.ndarray, defined: np.ndarray | bool = True) -> np.ndarray:
    """Part over whole, NaN where `whole` is 0 or the quotient is not `defined`."""
    defined = np.asarray(defined) & (np.asarray(whole) > 0)
    return np.where(defined, part / np.where(defined, whole, 1), NAN)
