"""Metrics of one action unit over the frames of a test fold whose label is known.

Each takes the unit's scores, float [m] in 0-1, whether the model predicts it, bool [m], and whether
it is truly on, bool [m], and gives one number; NaN where a quotient has nothing to divide by. The
field's protocol pools the true and false positives of all frames before it divides, and averages F1
over the units afterwards; a mean over batches or subjects would be another number.

Without positives, precision, recall, F1 and AUC are NaN: 0 would count the correct answer "never"
as a failure. Plain NumPy: a whole test fold of BP4D (50,000 frames, 12 units) fits many times over.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NAN = float("nan")


def is_active(probabilities: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """Whether each of [m, n] probabilities exceeds its unit's threshold [n]; equal ones do not."""
    return probabilities > np.asarray(thresholds, probabilities.dtype)


def f1(scores: np.ndarray, predicted: np.ndarray, positive: np.ndarray) -> float:
    """F1, the harmonic mean of precision and recall; NaN without positives."""
    hits, false, missed = _counts(predicted, positive)
    return _divide(2 * hits, 2 * hits + false + missed) if hits + missed else NAN


def precision(scores: np.ndarray, predicted: np.ndarray, positive: np.ndarray) -> float:
    """Share of the predicted frames that are on; NaN without positives or predictions."""
    hits, false, missed = _counts(predicted, positive)
    return _divide(hits, hits + false) if hits + missed else NAN


def recall(scores: np.ndarray, predicted: np.ndarray, positive: np.ndarray) -> float:
    """Share of the positives that are predicted; NaN without positives."""
    hits, _, missed = _counts(predicted, positive)
    return _divide(hits, hits + missed)


def accuracy(scores: np.ndarray, predicted: np.ndarray, positive: np.ndarray) -> float:
    """Share of the frames whose state is predicted; NaN without frames."""
    _, false, missed = _counts(predicted, positive)
    return _divide(positive.size - false - missed, positive.size)


def roc_auc(scores: np.ndarray, predicted: np.ndarray, positive: np.ndarray) -> float:
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


def positives(scores: np.ndarray, predicted: np.ndarray, positive: np.ndarray) -> int:
    """How many frames are on."""
    return int(positive.sum())


def frames(scores: np.ndarray, predicted: np.ndarray, positive: np.ndarray) -> int:
    """How many frames have a known label."""
    return positive.size


def more_frequent_state(positives: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Bool [n]: whether unit i is on in at least half of its known training labels (counts [n])."""
    return 2 * np.asarray(positives) >= np.maximum(np.asarray(known), 1)


def _counts(predicted: np.ndarray, positive: np.ndarray) -> tuple[int, int, int]:
    """True positives, false positives, false negatives."""
    return (
        int((predicted & positive).sum()),
        int((predicted & ~positive).sum()),
        int((~predicted & positive).sum()),
    )


def _divide(part: int, whole: int) -> float:
    return part / whole if whole else NAN
