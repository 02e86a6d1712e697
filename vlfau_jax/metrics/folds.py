"""Scores of several folds as one: both conventions of the field, each under its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vlfau_jax.metrics.au import Counts
from vlfau_jax.metrics.kinds import CountMetric, NumberOfFrames
from vlfau_jax.metrics.table import AU_METRICS, UnitScores

NAN = float("nan")


def averaged(folds: Sequence[Mapping[int, UnitScores]]) -> dict[int, UnitScores]:
    """The mean over folds of each unit's metrics; numbers of frames are summed.

    A fold in which a metric is undefined is left out of its mean; `folds_scored` says how many
    folds the mean of F1 is over, so that nothing is averaged silently.

    Args:
        folds: `AU_METRICS` of each unit, of each fold.

    Raises:
        ValueError: the folds have different units.
    """
    found = {}
    for au in _units(folds):
        values = {m.name: np.array([f[au].get(m.name, NAN) for f in folds]) for m in AU_METRICS}
        found[au] = {
            m.name: _sum(values[m.name]) if isinstance(m, NumberOfFrames) else _mean(values[m.name])
            for m in AU_METRICS
        }
        found[au]["folds_scored"] = int(np.sum(~np.isnan(values["f1"])))
    return found


def pooled(folds: Sequence[Mapping[int, UnitScores]]) -> dict[int, UnitScores]:
    """The metrics of counts, from the counts of all folds together, of each unit.

    Metrics of scores are NaN: they need the scores of all frames (`ScoredFrames.merged`).

    Args:
        folds: `AU_METRICS` of each unit, of each fold, with its numbers of frames.

    Raises:
        ValueError: the folds have different units.
    """
    found = {}
    for au in _units(folds):
        names = ("true_positives", "false_positives", "positives", "frames")
        # A unit that a fold was not taught has numbers of labels and none of predictions.
        scored = [f[au] for f in folds if not any(np.isnan(f[au].get(n, NAN)) for n in names)]
        tp, fp, on, frames = (int(sum(unit[name] for unit in scored)) for name in names)
        counts = Counts(*map(np.asarray, (tp, fp, on - tp, frames - on - fp)))
        found[au] = {m.name: NAN for m in AU_METRICS} | {
            m.name: float(m.compute(counts)) for m in AU_METRICS if isinstance(m, CountMetric)
        }
        found[au] |= {
            m.name: int(m.compute(counts)) for m in AU_METRICS if isinstance(m, NumberOfFrames)
        }
        found[au]["folds_scored"] = len(scored)
    return found


def _units(folds: Sequence[Mapping[int, UnitScores]]) -> list[int]:
    units = [list(fold) for fold in folds]
    if any(set(one) != set(units[0]) for one in units):
        raise ValueError(f"folds of different units: {units}")
    return units[0]


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else NAN


def _sum(values: np.ndarray) -> float:
    total = values.sum()
    return NAN if np.isnan(total) else int(total)
