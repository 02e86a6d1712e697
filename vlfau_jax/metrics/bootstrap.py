"""Bootstrap over subjects: intervals and paired differences of scores from counts per subject.

Frames of one person are no independent draws, so subjects are resampled with all their frames
(the cluster bootstrap: Davison and Hinkley 1997, section 3.8). A resample draws as many subjects as
there are, with replacement; its counts are sums, W c for a matrix W of how often it drew each, so
that thousands of resamples cost one product. In a paired difference both sides have the same W.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

NAN = float("nan")
RESAMPLES = 2000
LEVEL = 0.95


class Counts(NamedTuple):
    """True and false positives and negatives, each int64 [..., subjects, units] or summed."""

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray

    def pooled(self) -> Counts:
        """Summed over subjects, [..., units]."""
        return Counts(*(values.sum(-2) for values in self))


# Counts [..., units] -> a score [...].
Statistic = Callable[[Counts], np.ndarray]


class Interval(NamedTuple):
    """A percentile interval; NaN at both ends where it is undefined."""

    low: float
    high: float


def count(
    subject: np.ndarray,
    subjects: int,
    active: np.ndarray,
    labels: np.ndarray,
    known: np.ndarray,
) -> Counts:
    """Counts of each subject.

    Args:
        subject: int [m], whose frame it is, 0 to `subjects` - 1.
        subjects: how many there are.
        active: bool [m, n], the predictions.
        labels: [m, n] in {0, 1}.
        known: bool [m, n]; what is unknown counts nowhere.
    """
    positive = labels > 0
    found = []
    for where in (active & positive, active & ~positive, ~active & positive, ~active & ~positive):
        total = np.zeros((subjects, active.shape[1]), np.int64)
        np.add.at(total, subject, where & known)
        found.append(total)
    return Counts(*found)


def f1(counts: Counts) -> np.ndarray:
    """F1 of each unit, 2 tp / (2 tp + fp + fn), float64 [..., n]; NaN without positives."""
    whole = 2 * counts.tp + counts.fp + counts.fn
    positives = counts.tp + counts.fn > 0
    return np.where(positives, 2 * counts.tp / np.maximum(whole, 1), NAN)


def mean_f1(counts: Counts) -> np.ndarray:
    """Mean of F1 over the units that have one, float64 [...]; NaN where none has."""
    values = f1(counts)
    defined = ~np.isnan(values)
    total = np.where(defined, values, 0.0).sum(-1)
    number = defined.sum(-1)
    return np.where(number, total / np.maximum(number, 1), NAN)


def draws(subjects: int, resamples: int, seed: int) -> np.ndarray:
    """How often each resample draws each subject, int64 [resamples, subjects]."""
    rng = np.random.default_rng([seed, subjects])
    return rng.multinomial(subjects, np.full(subjects, 1 / subjects), size=resamples)


def resample(
    counts: Sequence[Counts],
    statistic: Statistic = mean_f1,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> np.ndarray:
    """The statistic in each resample of the subjects, float64 [resamples].

    Args:
        counts: of one run, or of several on the same subjects in the same order, such as those of
            several seeds: the statistic is then their mean in each resample.
        statistic: of counts that are summed over subjects.
        resamples: how many.
        seed: of the draws, which depend on it and on the number of subjects alone.
    """
    weights = draws(len(counts[0].tp), resamples, seed)
    runs = [statistic(Counts(*(weights @ values for values in one))) for one in counts]
    return np.mean(runs, 0)


def resample_difference(
    first: Sequence[Counts],
    second: Sequence[Counts],
    statistic: Statistic = mean_f1,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> np.ndarray:
    """The statistic of `first` less that of `second` in the same resamples, float64 [resamples].

    Args:
        first: as the counts of `resample`.
        second: likewise, of the same subjects in the same order.
        statistic: see there.
        resamples: see there.
        seed: see there.
    """
    given = {"resamples": resamples, "seed": seed}
    return resample(first, statistic, **given) - resample(second, statistic, **given)


def interval(values: np.ndarray, subjects: int, level: float = LEVEL) -> Interval:
    """The percentile interval of resampled values; undefined for fewer than two subjects."""
    values = values[~np.isnan(values)]
    if subjects < 2 or not len(values):
        return Interval(NAN, NAN)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def p_value(differences: np.ndarray, subjects: int) -> float:
    """Two-sided p of "no difference", from resampled differences: 2 min(P(d <= 0), P(d >= 0)).

    With one added to both counts, so that it is never 0 (Davison and Hinkley 1997, section 4.2).
    NaN for fewer than two subjects.
    """
    values = differences[~np.isnan(differences)]
    if subjects < 2 or not len(values):
        return NAN
    tails = (np.sum(values <= 0), np.sum(values >= 0))
    return float(min(1.0, 2 * (min(tails) + 1) / (len(values) + 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjustment of several p-values; NaN stays NaN and counts as no test."""
    values = np.asarray(p_values, float)
    tested = [int(k) for k in np.argsort(values) if not np.isnan(values[k])]
    adjusted, largest = [NAN] * len(values), 0.0
    for rank, k in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * float(values[k])))
        adjusted[k] = largest
    return adjusted
