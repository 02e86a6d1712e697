"""The scores of a report as its page shows them: headline, table of units, protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vlfau_jax.metrics.table import (
    AU_CHOICES,
    AU_FLOORS,
    AU_METRICS,
    EXPLANATION_METRICS,
    LANGUAGE_METRICS,
    MAP_METRICS,
    MAPS,
)
from vlfau_jax.report.formats import people, protocol_field, share, unit_name

_ENDS = {
    end: f"{which} end of the 95 % interval of F1, 0 to 1: bootstrap over subjects."
    for end, which in (("low", "Lower"), ("high", "Upper"))
}
SENTENCES = {"local": "single units", "global": "the whole face"}


@dataclass(frozen=True)
class Headline:
    """One figure at the top of the page: its value, what it is, its floor or "", its meaning."""

    value: float | None
    heading: str
    floor: str
    description: str


@dataclass(frozen=True)
class Column:
    """A column of the table of units."""

    heading: str
    description: str


@dataclass(frozen=True)
class Row:
    """A row of the table: the metric with its floors (as bar and marks), then every cell."""

    au: int | None
    bar: float | None
    marks: tuple[float | None, ...]
    cells: tuple[float | int | None, ...]


@dataclass(frozen=True)
class Table:
    """The table of units; `mean` is its last row, whose cells end with the floors."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    mean: Row


def headlines(scores: Mapping[str, Any]) -> list[Headline]:
    """The mean of the first metric, and every explanation metric that has a value."""
    units, scored = len(scores["aus"]), scores["units_scored"]
    over = f"{units}" if scored == units else f"{scored} of {units}"
    heading = f"mean {AU_METRICS[0].heading} over {over} units"
    found = [
        Headline(
            scores["mean_f1"],
            heading,
            f"Floors: {_floors(scores['floors'])}",
            _interval(scores.get("intervals", {})),
        )
    ]
    values = scores["explanations"]
    for metric in EXPLANATION_METRICS:
        if values.get(metric.name) is not None:
            floor = metric.floor
            beside = f"Floor: {floor.heading} {share(values.get(floor.name))}" if floor else ""
            value = values[metric.name]
            found.append(Headline(value, metric.heading, beside, metric.description))
    return found


def _interval(intervals: Mapping[str, Any]) -> str:
    """The interval of the mean F1 in words; "" where there is none."""
    bounds = intervals.get("macro", {}).get(AU_METRICS[0].name)
    if bounds is None:
        return ""
    low, high = map(share, bounds)
    return f"95 % interval {low} to {high}, by bootstrap over {intervals['subjects']} subjects."


def _floors(values: Mapping[str, float | None]) -> str:
    return ", ".join(f"{floor.heading} {share(values.get(floor.name))}" for floor in AU_FLOORS)


def table(scores: Mapping[str, Any]) -> Table:
    """The table of units: the first metric, its floors and interval, other thresholds, the rest.

    Numbers of frames stand last: they have no mean.
    """
    first, *rest = AU_METRICS
    counts = [metric for metric in rest if metric.group in ("frames", "cells")]
    others = [metric for metric in rest if metric not in counts]
    chosen = [scores.get("choices", {}).get(choice.name) or {} for choice in AU_CHOICES]
    bounds = scores.get("intervals", {})
    macro = scores.get("averages", {}).get("macro", {})
    rows = []
    for au in scores["aus"]:
        unit = scores["per_au"][str(au)]
        floors = scores["floors_per_au"]
        marks = tuple(floors.get(floor.name, {}).get(str(au)) for floor in AU_FLOORS)
        value = unit.get(first.name)
        cells = (
            value,
            *marks,
            *_bounds(bounds.get("per_au", {}).get(str(au), {})),
            *(one.get("per_au", {}).get(str(au)) for one in chosen),
            *(unit.get(metric.name) for metric in (*others, *counts)),
        )
        rows.append(Row(au, value, marks, cells))
    marks = tuple(scores["floors"].get(floor.name) for floor in AU_FLOORS)
    cells = (
        scores["mean_f1"],
        *marks,
        *_bounds(bounds.get("macro", {})),
        *(one.get("mean_f1") for one in chosen),
        *(macro.get(metric.name) for metric in others),
    )
    mean = Row(None, scores["mean_f1"], marks, cells)
    columns = (
        *(Column(c.heading, c.description) for c in (first, *AU_FLOORS)),
        *(Column(f"{first.heading} {end}", text) for end, text in _ENDS.items()),
        *(Column(c.heading, c.description) for c in (*AU_CHOICES, *others, *counts)),
    )
    return Table(columns, tuple(rows), mean)


def _bounds(intervals: Mapping[str, Any]) -> tuple[float | None, float | None]:
    return tuple(intervals.get(AU_METRICS[0].name) or (None, None))


def words(scores: Mapping[str, Any]) -> list[tuple[Column, list[float | None]]]:
    """The metrics of the sentences' words: column, and a value for each kind that is written."""
    language = scores.get("language", {})
    kinds = [kind for kind in scores["captions"] if language.get(kind)]
    return [
        (Column(m.heading, m.description), [language[kind].get(m.name) for kind in kinds])
        for m in LANGUAGE_METRICS
        if kinds
    ]


@dataclass(frozen=True)
class GroupRow:
    """A group of people: its column, name, numbers of subjects and frames, mean F1 with bounds."""

    column: str
    name: str
    subjects: int
    frames: int
    value: float | None
    low: float | None
    high: float | None
    units: int


def groups(scores: Mapping[str, Any]) -> list[GroupRow]:
    """The groups of people whose scores there are."""
    first = AU_METRICS[0].name
    return [
        GroupRow(
            column,
            name,
            one["subjects"],
            one["frames"],
            one["mean"][first],
            *(one["mean_f1_interval"] or (None, None)),
            len(record["aus"]),
        )
        for column, record in scores.get("groups", {}).items()
        for name, one in record["groups"].items()
    ]


def maps_table(scores: Mapping[str, Any]) -> Table | None:
    """Of each unit's maps every metric of `MAP_METRICS`, and its floor; None without any."""
    units = scores["maps_per_au"]
    if not units:
        return None
    columns, names = [], []
    for metric in MAP_METRICS:
        for whose, prefix in MAPS.items():
            columns.append(Column(f"{metric.heading}, {whose}", metric.description))
            names.append(prefix + metric.name)
        columns.append(Column(metric.floor.heading, metric.floor.description))
        names.append(metric.floor.name)
    rows = [
        Row(int(au), None, (), tuple(unit.get(name) for name in names))
        for au, unit in units.items()
    ]
    means = tuple(scores["explanations"].get(name) for name in names)
    return Table(tuple(columns), tuple(rows), Row(None, None, (), means))


def untaught(scores: Mapping[str, Any]) -> str:
    """Which units have no score because nobody taught them, and why; "" for none."""
    return ", ".join(f"{unit_name(int(au))} ({why})" for au, why in scores["untaught"].items())


def missing_sentences(scores: Mapping[str, Any]) -> str:
    """What the model writes no sentences about; "" for one that writes all."""
    kinds = (about for kind, about in SENTENCES.items() if kind not in scores["captions"])
    return " or ".join(kinds)


def protocol(scores: Mapping[str, Any]) -> dict[str, str]:
    """What besides the model decides the scores, as pairs of a term and its text."""
    rule = scores["crop_rule"]
    kept_back = scores["validation_subjects"]
    missing = missing_sentences(scores)
    found = {
        "Data set": f"{scores['dataset']}, fold {scores['fold']}",
        "Folds": protocol_field(scores["folds"], "not recorded"),
        "Tested on": f"{people(scores['test_subjects'])}: {', '.join(scores['test_subjects'])}",
        "Kept back for validation": ", ".join(kept_back) or "nobody",
        "Checkpoint": f"{scores['checkpoint']}, step {scores['step']:,}",
        "Initial parameters": scores["beginning"],
        "Threshold": protocol_field(scores["threshold"]),
        "Best step on the test subjects": _best_step(scores.get("choices", {})),
        "Averaging": scores["average"],
        "Labels": protocol_field(scores["label_rule"]),
        "Excluded stretches": protocol_field(scores["excluded_stretches"]),
        "Raw layout": protocol_field(scores["layout"]),
        "Camera": protocol_field(scores["camera"], "the only one"),
        "Frame offset": protocol_field(scores["frame_offset"]),
        "Crop rule": f"{rule['name']} ({rule['digest']}), {scores['image_size']} px",
        "Sentences": f"none about {missing}" if missing else "units and whole face",
        "Sentence search": f"{scores['beams']} beams" if scores["beams"] > 1 else "greedy",
        "Config": scores["config_digest"][:12],
    }
    found = {term: text for term, text in found.items() if text}
    for name, one in scores["per_dataset"].items():
        found[f"{name} alone"] = (
            f"mean {AU_METRICS[0].heading} {share(one['mean_f1'])} ({_floors(one['floors'])}) "
            f"over the {one['units_scored']} units with positives of AU "
            f"{', '.join(map(str, one['aus']))}, {one['frames']:,} frames"
        )
    return found


def _best_step(choices: Mapping[str, Any]) -> str:
    """What training found on the test subjects, for comparison alone; "" where it did not look."""
    best = choices.get("best_test_step")
    if not best:
        return ""
    return (
        f"mean {AU_METRICS[0].heading} {share(best['mean_f1'])} at step {best['step']:,}; chosen "
        "by those who are tested, and no result"
    )
