"""Scores of several folds or seeds as one: both conventions of the field, each under its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from vlfau_jax.metrics.au import Counts
from vlfau_jax.metrics.kinds import CountMetric, NumberOfFrames
from vlfau_jax.metrics.table import AU_METRICS, UnitScores

NAN = float("nan")


def mean(values: Iterable[float]) -> float:
    """The mean; NaN where a value is NaN or there is none."""
    found = list(values)
    return float(np.mean(found)) if found else NAN


def deviation(values: Iterable[float]) -> float:
    """The sample standard deviation, over n - 1; NaN for fewer than two values or one NaN."""
    found = list(values)
    return float(np.std(found, ddof=1)) if len(found) > 1 else NAN


def averaged(folds: Sequence[Mapping[int, UnitScores]]) -> dict[int, dict[str, dict[str, float]]]:
    """Of each unit, the "mean" and "deviation" of each metric over folds, or its "sum".

    Numbers of frames are summed. A metric that one fold lacks has no mean: over the other folds it
    would be of other people than the rest of the table.

    Args:
        folds: `AU_METRICS` of each unit, of each fold.

    Raises:
        ValueError: the folds have different units.
    """
    if any(fold.keys() != folds[0].keys() for fold in folds):
        raise ValueError(f"folds of different units: {[list(fold) for fold in folds]}")
    found: dict[int, dict[str, dict[str, float]]] = {}
    for au in folds[0]:
        found[au] = {}
        for metric in AU_METRICS:
            values = [fold[au].get(metric.name, NAN) for fold in folds]
            if isinstance(metric, NumberOfFrames):
                found[au][metric.name] = {"sum": NAN if np.isnan(values).any() else sum(values)}
            else:
                found[au][metric.name] = {"mean": mean(values), "deviation": deviation(values)}
    return found


def pooled(aus: Sequence[int], counts: Counts) -> dict[int, dict[str, float]]:
    """Of each unit, the metrics of decisions from the counts of all folds together.

    Metrics of scores need the scores of all frames (`ScoredFrames.merged`).

    Args:
        aus: the units' numbers, n of them.
        counts: int64 [n], those of all folds added.
    """
    metrics = [metric for metric in AU_METRICS if isinstance(metric, CountMetric)]
    values = np.stack([metric.compute(counts) for metric in metrics], 1)
    return {
        au: {metric.name: float(value) for metric, value in zip(metrics, unit, strict=True)}
        for au, unit in zip(aus, values, strict=True)
    }
