"""How well the units are recognised: F1 and its neighbours, pooled over every frame of a test fold.

The field's protocol pools the true and false positives of all frames before it divides, and
averages F1 over the units afterwards; a mean over batches or subjects would be another number.
Plain NumPy: a whole test fold of BP4D (50,000 frames, 12 units) fits many times over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

NAN = float("nan")


@dataclass(frozen=True)
class AuScore:
    """One unit's scores, as shares of 1; NaN where a quotient has nothing to divide by.

    precision, recall, f1 and auc are NaN for a unit without positives (0 would call a perfect
    silence a failure); precision also where the unit is never predicted, auc also without
    negatives. `frames` counts the known labels, `positives` those that are on.
    """

    precision: float
    recall: float
    f1: float
    accuracy: float
    auc: float
    positives: int
    frames: int


def roc_auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a positive outscores a negative, a tie counts half.

    scores float [m], positive bool [m]. NaN unless both classes occur. By mean ranks
    (Mann and Whitney 1947), so that equal scores share theirs.
    """
    hits = int(positive.sum())
    misses = positive.size - hits
    if not hits or not misses:
        return NAN
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    rank = np.cumsum(counts) - (counts - 1) / 2
    return float((rank[inverse][positive].sum() - hits * (hits + 1) / 2) / (hits * misses))


def _divide(part: int, whole: int) -> float:
    return part / whole if whole else NAN


def score_unit(scores: np.ndarray, predicted: np.ndarray, positive: np.ndarray) -> AuScore:
    """Scores of one unit: scores float [m], predicted and positive bool [m], known frames only."""
    true_on = int((predicted & positive).sum())
    false_on = int((predicted & ~positive).sum())
    missed = int((~predicted & positive).sum())
    positives = true_on + missed
    return AuScore(
        precision=_divide(true_on, true_on + false_on) if positives else NAN,
        recall=_divide(true_on, positives),
        f1=_divide(2 * true_on, 2 * true_on + false_on + missed) if positives else NAN,
        accuracy=_divide(positive.size - false_on - missed, positive.size),
        auc=roc_auc(scores, positive),
        positives=positives,
        frames=positive.size,
    )


def score(
    aus: Sequence[int],
    probabilities: np.ndarray,
    labels: np.ndarray,
    known: np.ndarray,
    threshold: float = 0.5,
) -> dict[int, AuScore]:
    """Scores of every unit, by its number; a frame whose label is unknown counts nowhere.

    probabilities float [m, n] in 0-1, labels [m, n] in {0, 1}, known bool [m, n]; a unit is
    predicted on when its probability exceeds the threshold.
    """
    if not probabilities.shape == labels.shape == known.shape == (len(labels), len(aus)):
        raise ValueError(
            f"{len(aus)} units, but probabilities {probabilities.shape}, labels {labels.shape}, "
            f"known {known.shape}"
        )
    scores = {}
    for column, au in enumerate(aus):
        rows = known[:, column]
        value = probabilities[rows, column]
        scores[au] = score_unit(value, value > threshold, labels[rows, column] > 0)
    return scores


def mean_f1(scores: Mapping[int, AuScore]) -> float:
    """Mean F1 over the units that have one; NaN when none has."""
    defined = [unit.f1 for unit in scores.values() if not np.isnan(unit.f1)]
    return float(np.mean(defined)) if defined else NAN


def constant_floor(
    aus: Sequence[int], active: Sequence[bool], labels: np.ndarray, known: np.ndarray
) -> dict[int, AuScore]:
    """Scores of the answer that never looks at the face: unit i always `active[i]`.

    With every unit on this is the field's floor "all on"; with `more_frequent_state` of the
    training subjects it is "best constant", which has the best accuracy that a constant can
    promise and F1 0 for each unit it leaves off.
    """
    constant = np.broadcast_to(np.asarray(active, np.float32), labels.shape)
    return score(aus, constant, labels, known)


def more_frequent_state(positives: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Bool [n]: whether unit i is on in at least half of its known training labels (counts [n])."""
    return 2 * np.asarray(positives) >= np.maximum(np.asarray(known), 1)
