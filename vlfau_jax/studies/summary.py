"""Means and deviations over folds and seeds; undefined where one of them is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

NAN = float("nan")


def mean(values: Iterable[float]) -> float:
    """The mean; NaN where a value is NaN or there is none."""
    found = list(values)
    return float(np.mean(found)) if found else NAN


def deviation(values: Iterable[float]) -> float:
    """The sample standard deviation, over n - 1; NaN for fewer than two values or one NaN."""
    found = list(values)
    return float(np.std(found, ddof=1)) if len(found) > 1 else NAN


def summarised(per_au: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Each metric of one unit over several folds: its mean and deviation; of counts the sum."""
    found = {}
    for name in per_au[0]:
        values = [one[name] for one in per_au]
        if all(isinstance(value, int) for value in values):
            found[name] = {"sum": sum(values)}
        else:
            found[name] = {"mean": mean(values), "deviation": deviation(values)}
    return found
