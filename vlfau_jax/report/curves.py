"""The training curves of a report: which series of metrics.jsonl, thinned and drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlfau_jax.losses.joint import OF_MAPS

Point = tuple[float, float]

MOST_POINTS = 300  # of a series; more than the pixels of a chart can show

# Title, unit, and the keys of metrics.jsonl that a chart draws.
CHARTS = (
    ("Loss", "weighted sum of the terms", ("total",)),
    ("Loss by term", "unweighted means", ("au", "dice", "local", "global")),
    ("Attention maps by term", "unweighted means", OF_MAPS),
    ("Learning rate", "per step", ("learning_rate",)),
    ("Gradient norm", "before clipping", ("grad_norm",)),
    ("Speed", "images/s", ("images_per_second",)),
)
# Scores during training have keys such as `validation_mean_f1`: side, then metric.
SIDES = {
    "validation": "on the validation subjects, who are never trained on",
    "test": "on the test subjects; nothing was chosen by it",
}


@dataclass(frozen=True)
class Chart:
    """Series over the training steps; each has finite points at two steps or more.

    Attributes:
        title: its heading.
        unit: what the vertical axis measures.
        series: points by name.
        axis: what the horizontal axis counts; any other than "step" is a share, 0 to 1.
    """

    title: str
    unit: str
    series: Mapping[str, Sequence[Point]]
    axis: str = "step"

    @property
    def description(self) -> str:
        """What the curves show, in words."""
        ends = (
            f"{name} from {points[0][1]:.4g} at {self.axis} {points[0][0]:.4g} "
            f"to {points[-1][1]:.4g} at {self.axis} {points[-1][0]:.4g}"
            for name, points in self.series.items()
        )
        return f"{self.title}, {self.unit}: {'; '.join(ends)}"


def charts(records: Iterable[Mapping[str, Any]]) -> list[Chart]:
    """The charts that the lines of metrics.jsonl hold data for."""
    records = list(records)
    found = []
    for title, unit, names in CHARTS[:3] + _score_charts(records) + CHARTS[3:]:
        series = {name: thin(_points(records, name)) for name in names}
        series = {
            name: points for name, points in series.items() if len({x for x, _ in points}) > 1
        }
        if series:
            found.append(Chart(title, unit, series))
    return found


def reliability(scores: Mapping[str, Any]) -> list[Chart]:
    """The reliability curve of all units pooled, beside the diagonal; none of two points or less.

    Args:
        scores: what scores.json holds.
    """
    points = [(p, share) for p, share, _ in scores.get("calibration", {}).get("all", [])]
    if len(points) < 2:
        return []
    series = {"all units": points, "calibrated": [(p, p) for p, _ in points]}
    return [Chart("Reliability", "share of frames that are on", series, "probability")]


def _score_charts(records: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, str, tuple[str]], ...]:
    """A chart for each score during training, in the order in which they were first written."""
    names = dict.fromkeys(name for record in records for name in record)
    found = []
    for name in names:
        side, _, metric = name.partition("_")
        if side in SIDES and metric:
            title = metric.replace("_", " ").replace("f1", "F1")
            found.append((title[0].upper() + title[1:], SIDES[side], (name,)))
    return tuple(found)


def _points(records: Sequence[Mapping[str, Any]], name: str) -> list[Point]:
    """The finite values of a key over the steps."""
    points = ((r["step"], r[name]) for r in records if r.get(name) is not None)
    return [(float(x), float(y)) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def thin(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most `most` points, each the mean of as many neighbours as that takes."""
    group = math.ceil(len(points) / most)
    if group <= 1:
        return list(points)
    groups = [points[i : i + group] for i in range(0, len(points), group)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]
