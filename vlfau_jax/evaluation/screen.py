"""Scores as a table on the screen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from vlfau_jax.data.read.folds import PUBLISHED
from vlfau_jax.evaluation.scores import DatasetScores, Scores
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.metrics.table import (
    AU_FLOORS,
    AU_METRICS,
    EXPLANATION_METRICS,
    MAP_METRICS,
    MAPS,
    ExplanationMetric,
)

# The floors are floors of F1, the first metric: they stand beside it.
_F1, *_OTHERS = AU_METRICS
_HEADINGS = [column.heading for column in (_F1, *AU_FLOORS, *_OTHERS)]
_WIDTHS = [max(len(heading), 6) + 2 for heading in _HEADINGS]


def format_scores(scores: Scores) -> str:
    """A line per unit with its floors, the means, the protocol, and the scores of the sentences."""
    lines = [_row("unit", _HEADINGS)]
    for au in scores.aus:
        unit = scores.per_au[au]
        floors = [scores.floors_per_au[floor.name][au] for floor in AU_FLOORS]
        values = [unit[_F1.name], *floors, *(unit[metric.name] for metric in _OTHERS)]
        lines.append(_row(f"AU{au:02d} {ACTION_UNITS[au].name}", map(_cell, values)))
    lines += [
        _row("mean", _means(scores)),
        *(
            _row(f"{name} alone", _means(one))
            + f"  {one.units_scored} units scored of AU {', '.join(map(str, one.aus))}; "
            f"{one.frames} frames"
            for name, one in scores.per_dataset.items()
        ),
        "",
        f"{scores.dataset} fold {scores.fold}{_folds(scores)}, step {scores.step}, "
        f"{scores.frames} frames of {', '.join(scores.test_subjects)}; none of them trained on",
        f"began from {scores.beginning}",
    ]
    if scores.untaught:
        units = ", ".join(f"AU{au:02d} ({reason})" for au, reason in scores.untaught.items())
        lines.append(
            f"not scored, because the training labels could not teach them: {units}; the mean is "
            f"over {scores.units_scored} of {len(scores.aus)} units"
        )
    for kind in scores.captions:
        metrics = [metric for metric in EXPLANATION_METRICS if metric.sentences == kind]
        values = ", ".join(_explanation(scores, metric) for metric in metrics)
        lines.append(f"{kind} sentences: {values}")
    lines += [_maps(scores, whose) for whose in MAPS if scores.maps_per_au]
    if scores.counterfactual:
        lines += _counterfactual(scores.counterfactual)
    return "\n".join([*lines, *filter(None, (scores.explanations_note, scores.note))])


def _maps(scores: Scores, whose: str) -> str:
    """A line about the maps of the branches or of the words."""
    values = (
        f"{metric.heading} {_cell(scores.explanations[MAPS[whose] + metric.name])} "
        f"({metric.floor.heading}: {_cell(scores.explanations[metric.floor.name])})"
        for metric in MAP_METRICS
    )
    return f"maps of the {'branches' if whose == 'branch' else whose}: {', '.join(values)}"


def _counterfactual(found: Mapping[str, Any]) -> list[str]:
    """Lines about what `evaluation.counterfactual` measured."""
    cover = {name: _cell(value) for name, value in found["cover"].items()}
    lines = [
        f"hidden regions ({found['regions']}), {found['cases']} units of {found['faces']} faces: "
        f"the score falls by {cover['drop']} (elsewhere: {cover['control_drop']}), "
        f"{cover['silenced']} of the sentences no longer state the unit "
        f"(elsewhere: {cover['control_silenced']})"
    ]
    for kind in ("deletion", "insertion"):
        areas = (f"{whose} {_cell(area)}" for whose, area in found[kind].items())
        lines.append(f"area under {kind}: {', '.join(areas)}")
    return lines


def _folds(scores: Scores) -> str:
    """Whose folds they are, where they are not the published ones."""
    of_sets = scores.folds if isinstance(scores.folds, Mapping) else {scores.dataset: scores.folds}
    others = [f"{name}: {rule}" for name, rule in of_sets.items() if rule not in (PUBLISHED, None)]
    return f" (folds of {'; '.join(others)})" if others else ""


def _row(name: str, cells: Iterable[str]) -> str:
    """A line of the table, as far as there are cells."""
    columns = zip(cells, _WIDTHS, strict=False)
    return f"{name:27}" + "".join(f"{cell:>{width}}" for cell, width in columns)


def _cell(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.3f}"


def _means(scores: Scores | DatasetScores) -> list[str]:
    return [_cell(scores.mean_f1), *(_cell(scores.floors[floor.name]) for floor in AU_FLOORS)]


def _explanation(scores: Scores, metric: ExplanationMetric) -> str:
    text = f"{metric.heading} {_cell(scores.explanations[metric.name])}"
    if metric.floor is None:
        return text
    return f"{text} ({metric.floor.heading}: {_cell(scores.explanations[metric.floor.name])})"
