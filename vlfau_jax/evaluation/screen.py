"""Scores as tables on the screen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any

from vlfau_jax.data.read.folds import PUBLISHED
from vlfau_jax.evaluation.scores import DatasetScores, Scores
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.metrics.table import (
    AU_CHOICES,
    AU_FLOORS,
    AU_METRICS,
    EXPLANATION_METRICS,
    LANGUAGE_METRICS,
    MAP_METRICS,
    MAPS,
    ExplanationMetric,
)

# The floors are floors of F1, the first metric: they stand beside it. Numbers of the group "cells"
# are in scores.json and on the page.
_F1, *_OTHERS = AU_METRICS
_INTERVAL = "F1 95 %"
_NAMES = 27  # characters


def format_scores(scores: Scores) -> str:
    """Two tables with a line per unit, the means, the protocol, and scores of the sentences."""
    decisions = [metric for metric in _OTHERS if metric.group == "decisions"]
    headings = [_F1.heading, *(c.heading for c in (*AU_FLOORS, *decisions))]
    lines = [*_table(headings, _decisions(scores, decisions)), ""]
    others = [m for m in _OTHERS if m.group in ("scores", "frames")]
    others += [m for m in _OTHERS if m.group == "intensities" and _coded(scores, m.name)]
    choices = [choice for choice in AU_CHOICES if scores.choices.get(choice.name)]
    headings = [_INTERVAL, *(c.heading for c in (*choices, *others))]
    lines += [*_table(headings, _rest(scores, choices, others)), ""]
    lines += [
        f"{scores.dataset} fold {scores.fold}{_folds(scores)}, step {scores.step}, "
        f"{scores.frames} frames of {', '.join(scores.test_subjects)}; none of them trained on",
        f"began from {scores.beginning}",
        *_averages(scores),
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
    for column, record in scores.groups.items():
        lines.append(f"by {column}, mean F1 over the {len(record['aus'])} units that all have:")
        lines += [
            f"  {name}: {_cell(one['mean']['f1'])}{_bounds(one['mean_f1_interval'])}, "
            f"{one['subjects']} subjects, {one['frames']} frames"
            for name, one in record["groups"].items()
        ]
    lines += _words(scores)
    lines += [_maps(scores, whose) for whose in MAPS if scores.maps_per_au]
    if scores.counterfactual:
        lines += _counterfactual(scores.counterfactual)
    return "\n".join([*lines, *_notes(scores)])


def _notes(scores: Scores) -> Iterable[str]:
    return filter(None, (scores.explanations_note, scores.note))


def _decisions(scores: Scores, metrics: Sequence) -> Iterator[tuple[str, list[str]]]:
    """The rows of the first table: F1, its floors, and the other metrics of decisions."""
    for au in scores.aus:
        unit = scores.per_au[au]
        floors = [scores.floors_per_au[floor.name][au] for floor in AU_FLOORS]
        values = [unit[_F1.name], *floors, *(unit[metric.name] for metric in metrics)]
        yield _unit(au), [_cell(value) for value in values]
    macro = scores.averages.get("macro", {})
    yield "mean", [*_means(scores), *(_cell(macro.get(metric.name)) for metric in metrics)]
    for name, one in scores.per_dataset.items():
        note = f"{one.units_scored} units scored of AU {', '.join(map(str, one.aus))}"
        yield f"{name} alone", [*_means(one), f"  {note}; {one.frames} frames"]


def _rest(scores: Scores, choices: Sequence, metrics: Sequence) -> Iterator[tuple[str, list[str]]]:
    """The rows of the second table: F1's interval, other thresholds, metrics of scores, counts."""
    bounds = scores.intervals
    chosen = [scores.choices[choice.name] for choice in choices]
    for au in scores.aus:
        own = bounds.get("per_au", {}).get(str(au), {}).get(_F1.name)
        values = [one["per_au"].get(str(au)) for one in chosen]
        values += [scores.per_au[au][metric.name] for metric in metrics]
        yield _unit(au), [_range(own), *map(_cell, values)]
    macro = scores.averages.get("macro", {})
    values = [one["mean_f1"] for one in chosen]
    values += [macro.get(m.name, "") for m in metrics]
    yield "mean", [_range(bounds.get("macro", {}).get(_F1.name)), *map(_cell, values)]


def _coded(scores: Scores, name: str) -> bool:
    """Whether any unit has the metric."""
    return any(not math.isnan(unit[name]) for unit in scores.per_au.values())


def _averages(scores: Scores) -> Iterator[str]:
    """What the mean is, the other convention, and what the field reports besides."""
    micro = scores.averages.get("micro", {}).get(_F1.name)
    if micro is not None:
        yield f"mean: macro, over units; micro F1, all units pooled: {_cell(micro)}"
    if scores.choices and scores.choices["validation_thresholds"] is None:
        yield "no thresholds tuned on validation subjects: data.validation_subjects keeps some back"
    if best := scores.choices.get("best_test_step"):
        yield (
            f"best on the test subjects during training: mean F1 {_cell(best['mean_f1'])} at step "
            f"{best['step']}; chosen by those who are tested, and no result"
        )
    if scores.intervals:
        people = scores.intervals["subjects"]
        few = "; none of one subject" if people < 2 else ""
        yield (
            f"{_INTERVAL}: {scores.intervals['resamples']} bootstrap resamples of {people} "
            f"subjects, percentiles{few}"
        )


def _words(scores: Scores) -> Iterator[str]:
    """The metrics of the sentences' words, a line for each kind."""
    for kind in scores.captions:
        if values := scores.language.get(kind):
            yield f"{kind} sentences' words: " + ", ".join(
                f"{metric.heading} {_cell(values.get(metric.name))}" for metric in LANGUAGE_METRICS
            )


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


def _table(headings: Sequence[str], rows: Iterable[tuple[str, list[str]]]) -> Iterator[str]:
    """Lines of a table; cells beyond its headings are written as they are."""
    widths = [13 if heading == _INTERVAL else max(len(heading), 6) + 2 for heading in headings]
    for name, cells in chain([("unit", list(headings))], rows):
        padded = zip(cells, chain(widths, repeat(0)), strict=False)
        yield f"{name:{_NAMES}}" + "".join(f"{cell:>{width}}" for cell, width in padded)


def _unit(au: int) -> str:
    return f"AU{au:02d} {ACTION_UNITS[au].name}"


def _cell(value: float | str | None) -> str:
    if isinstance(value, (int, str)):
        return str(value)
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def _range(bounds: Sequence[float] | None) -> str:
    return "-" if bounds is None else f"{bounds[0]:.2f}-{bounds[1]:.2f}"


def _bounds(bounds: Sequence[float] | None) -> str:
    return "" if bounds is None else f" ({_range(bounds)})"


def _means(scores: Scores | DatasetScores) -> list[str]:
    return [_cell(scores.mean_f1), *(_cell(scores.floors[floor.name]) for floor in AU_FLOORS)]


def _explanation(scores: Scores, metric: ExplanationMetric) -> str:
    text = f"{metric.heading} {_cell(scores.explanations[metric.name])}"
    if metric.floor is None:
        return text
    return f"{text} ({metric.floor.heading}: {_cell(scores.explanations[metric.floor.name])})"
