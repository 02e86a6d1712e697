"""The scores of a report as its page shows them: headline, table of units, protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vlfau_jax.metrics.table import (
    AU_FLOORS,
    AU_METRICS,
    EXPLANATION_METRICS,
    MAP_METRICS,
    MAPS,
)
from vlfau_jax.report.formats import people, protocol_field, share, unit_name

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
    found = [Headline(scores["mean_f1"], heading, f"Floors: {_floors(scores['floors'])}", "")]
    values = scores["explanations"]
    for metric in EXPLANATION_METRICS:
        if values.get(metric.name) is not None:
            floor = metric.floor
            beside = f"Floor: {floor.heading} {share(values.get(floor.name))}" if floor else ""
            value = values[metric.name]
            found.append(Headline(value, metric.heading, beside, metric.description))
    return found


def _floors(values: Mapping[str, float | None]) -> str:
    return ", ".join(f"{floor.heading} {share(values.get(floor.name))}" for floor in AU_FLOORS)


def table(scores: Mapping[str, Any]) -> Table:
    """The table of units: the first metric, its floors, then the other metrics."""
    first, *others = AU_METRICS
    rows = []
    for au in scores["aus"]:
        unit = scores["per_au"][str(au)]
        floors = scores["floors_per_au"]
        marks = tuple(floors.get(floor.name, {}).get(str(au)) for floor in AU_FLOORS)
        value = unit.get(first.name)
        cells = (value, *marks, *(unit.get(metric.name) for metric in others))
        rows.append(Row(au, value, marks, cells))
    marks = tuple(scores["floors"].get(floor.name) for floor in AU_FLOORS)
    mean = Row(None, scores["mean_f1"], marks, (scores["mean_f1"], *marks))
    columns = [Column(c.heading, c.description) for c in (first, *AU_FLOORS, *others)]
    return Table(tuple(columns), tuple(rows), mean)


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
    for name, one in scores["per_dataset"].items():
        found[f"{name} alone"] = (
            f"mean {AU_METRICS[0].heading} {share(one['mean_f1'])} ({_floors(one['floors'])}) "
            f"over the {one['units_scored']} units with positives of AU "
            f"{', '.join(map(str, one['aus']))}, {one['frames']:,} frames"
        )
    return found
