"""The scores of many frames beside their labels, and all that is computed of them together.

Frames of shards or folds are merged before a metric is computed: the result is the whole's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from vlfau_jax.metrics.au import Counts, best_threshold, is_active
from vlfau_jax.metrics.bootstrap import (
    LEVEL,
    RESAMPLES,
    SEED,
    interval,
    mean_of_defined,
    resampled,
)
from vlfau_jax.metrics.calibration import Reliability
from vlfau_jax.metrics.kinds import CountMetric, Frames, NumberOfFrames
from vlfau_jax.metrics.table import AU_METRICS, UnitScores, macro, score

NAN = float("nan")


@dataclass(frozen=True, eq=False)
class ScoredFrames:
    """m frames of n units.

    Attributes:
        aus: the units' numbers, n of them.
        probabilities: float32 [m, n], 0-1.
        active: bool [m, n], whether each exceeds its threshold.
        labels: [m, n] in {0, 1}.
        known: bool [m, n], whether each label is known.
        untaught: the units that training could not teach; they are in no average.
        intensities: int8 [m, n], 0 to 5, -1 where unknown; None where none is coded.
    """

    aus: Sequence[int]
    probabilities: np.ndarray
    active: np.ndarray
    labels: np.ndarray
    known: np.ndarray
    untaught: Collection[int] = ()
    intensities: np.ndarray | None = None

    @staticmethod
    def merged(parts: Sequence[ScoredFrames]) -> ScoredFrames:
        """All frames of parts with the same units; where one codes no intensities, none counts.

        Raises:
            ValueError: the parts have other units, or were taught other ones.
        """
        first = parts[0]
        if any((p.aus, set(p.untaught)) != (first.aus, set(first.untaught)) for p in parts):
            raise ValueError("frames of other units cannot be merged")
        names = ["probabilities", "active", "labels", "known"]
        names += ["intensities"] if all(p.intensities is not None for p in parts) else []
        arrays = {name: np.concatenate([getattr(p, name) for p in parts]) for name in names}
        return replace(first, **{"intensities": None} | arrays)

    def at(self, rows: np.ndarray, units: np.ndarray | None = None) -> ScoredFrames:
        """Some of the frames, bool [m] or int, and of the units, bool [n] (None: all)."""
        units = np.ones(len(self.aus), bool) if units is None else units
        names = ["probabilities", "active", "labels", "known"]
        names += [] if self.intensities is None else ["intensities"]
        aus = tuple(au for au, wanted in zip(self.aus, units, strict=True) if wanted)
        return replace(
            self, aus=aus, **{name: getattr(self, name)[rows][:, units] for name in names}
        )

    def decided_by(self, thresholds: Mapping[int, float]) -> ScoredFrames:
        """The same frames, of which those with scores above each unit's threshold are active."""
        values = [thresholds[au] for au in self.aus]
        return replace(self, active=is_active(self.probabilities, values))

    def best_thresholds(self, otherwise: Sequence[float]) -> dict[int, float]:
        """Each unit's threshold of highest F1 on these frames (`au.best_threshold`).

        Args:
            otherwise: the threshold of each unit, [n], that has no positives here.
        """
        found = {}
        for column, (au, own) in enumerate(zip(self.aus, otherwise, strict=True)):
            known = self.known[:, column]
            scores, labels = self.probabilities[known, column], self.labels[known, column] > 0
            best = best_threshold(scores, labels)
            found[au] = float(own) if np.isnan(best) else best
        return found

    @cached_property
    def per_au(self) -> dict[int, UnitScores]:
        """`AU_METRICS` of each unit."""
        return score(
            self.aus,
            self.probabilities,
            self.active,
            self.labels,
            self.known,
            self.untaught,
            self.intensities,
        )

    @property
    def _taught(self) -> np.ndarray:
        return ~np.isin(self.aus, list(self.untaught))

    @property
    def _pooled(self) -> Frames:
        units = self._taught
        arrays = (self.probabilities, self.active, self.labels, self.known, self.intensities)
        return Frames.of(*(None if array is None else array[:, units] for array in arrays))

    def averages(self) -> dict[str, dict[str, float]]:
        """Both conventions of averaging over units, by name, then by metric.

        "macro" is the mean over the units in which a metric is defined, as the field averages F1;
        "micro" the metric of all (frame, unit) pooled, in which frequent units weigh more.
        """
        metrics = [metric for metric in AU_METRICS if not isinstance(metric, NumberOfFrames)]
        pooled = self._pooled
        return {
            "macro": {metric.name: macro(self.per_au, metric.name) for metric in metrics},
            "micro": {metric.name: metric.of(pooled) for metric in metrics},
        }

    def reliability(self) -> dict[str, list[tuple[float, float, int]]]:
        """Points of reliability curves (`Reliability.points`), of all units pooled and by unit."""
        pooled = self._pooled
        curves = {"all": Reliability.of(pooled.scores, pooled.positive).points}
        for column, au in enumerate(self.aus):
            known = self.known[:, column]
            scores, labels = self.probabilities[known, column], self.labels[known, column] > 0
            curves[str(au)] = Reliability.of(scores, labels).points if self._taught[column] else []
        return curves

    def intervals(
        self, subjects: np.ndarray, resamples: int = RESAMPLES, seed: int = SEED
    ) -> dict[str, object]:
        """Confidence intervals of metrics of counts, by bootstrap over subjects (bootstrap.py).

        "macro" is of the mean over the units that have the metric in a draw, "micro" of the pooled
        one. All are None where fewer than two subjects have a known label: one person says nothing
        about others.

        Args:
            subjects: int [m], the number of each frame's subject.
            resamples: how many draws.
            seed: of the draws.
        """
        judged = self.known & self._taught[None]
        present, place = np.unique(subjects[judged.any(1)], return_inverse=True)
        metrics = [metric for metric in AU_METRICS if isinstance(metric, CountMetric)]
        record: dict[str, object] = {
            "method": "percentile bootstrap over subjects",
            "level": LEVEL,
            "resamples": resamples,
            "seed": seed,
            "subjects": len(present),
        }
        if len(present) < 2:
            none = dict.fromkeys(metric.name for metric in metrics)
            return record | {"macro": none, "micro": none, "per_au": dict.fromkeys(self.aus, none)}
        rows = judged.any(1)
        counts = Counts.by_group(
            self.active[rows], self.labels[rows] > 0, judged[rows], place, len(present)
        )
        drawn = resampled(counts, resamples, seed)
        pooled = drawn.pooled(axis=1)

        def bounds(values: np.ndarray) -> tuple[float, float] | None:
            low, high = interval(values, len(present))
            return None if np.isnan(low) else (low, high)

        found: dict[str, dict] = {"macro": {}, "micro": {}, "per_au": {au: {} for au in self.aus}}
        for metric in metrics:
            values = metric.compute(drawn)
            found["macro"][metric.name] = bounds(mean_of_defined(values))
            found["micro"][metric.name] = bounds(metric.compute(pooled))
            for au, column in zip(self.aus, values.T, strict=True):
                found["per_au"][au][metric.name] = bounds(column)
        return record | found
