"""The scores of a report as its page shows them: headline, table of units, protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vlfau_jax.metrics.table import AU_METRICS, EXPLANATION_METRICS
from vlfau_jax.report.formats import people, protocol_field, share

# The metric whose floors scores.json holds, and which is averaged over the units.
FLOORED = "f1"
FLOORS = {
    "all_on": ("all on", "F1 of the answer that every unit is always active"),
    "best_constant": (
        "best constant",
        "F1 of the answer that each unit always has its more frequent state of training; 0 where "
        "that is inactive",
    ),
}
SENTENCES = {"local": "single units", "global": "the whole face"}


@dataclass(frozen=True)
class Headline:
    """One figure at the top of the page, with what it is and what stands beside it."""

    value: float
    heading: str
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
    """The mean F1 and every explanation metric that has a value."""
    floors = ", ".join(f"{FLOORS[name][0]} {share(v)}" for name, v in scores["floors"].items())
    units = f"mean F1 over {len(scores['aus'])} units"
    found = [Headline(scores["mean_f1"], units, f"floors: {floors}")]
    values = scores["explanations"]
    return found + [
        Headline(values[metric.name], metric.heading, metric.description)
        for metric in EXPLANATION_METRICS
        if values.get(metric.name) is not None
    ]


def table(scores: Mapping[str, Any]) -> Table:
    """The table of units: the metric that has floors, these, then the other metrics."""
    floors = scores["floors_per_au"]
    first = [metric for metric in AU_METRICS if metric.name == FLOORED]
    rest = [metric for metric in AU_METRICS if metric.name != FLOORED]
    columns = [Column(m.heading, m.description) for m in first]
    columns += [Column(*FLOORS[name]) for name in floors]
    columns += [Column(m.heading, m.description) for m in rest]
    rows = []
    for au in scores["aus"]:
        unit = scores["per_au"][str(au)]
        marks = tuple(values[str(au)] for values in floors.values())
        cells = (unit[FLOORED], *marks, *(unit[metric.name] for metric in rest))
        rows.append(Row(au, unit[FLOORED], marks, cells))
    marks = tuple(scores["floors"][name] for name in floors)
    mean = Row(None, scores["mean_f1"], marks, (scores["mean_f1"], *marks))
    return Table(tuple(columns), tuple(rows), mean)


def protocol(scores: Mapping[str, Any]) -> dict[str, str]:
    """What besides the model decides the scores, as pairs of a term and its text."""
    rule = scores["crop_rule"]
    kept_back = scores["validation_subjects"]
    missing = [about for kind, about in SENTENCES.items() if kind not in scores["captions"]]
    found = {
        "Data set": f"{scores['dataset']}, fold {scores['fold']}",
        "Tested on": f"{people(scores['test_subjects'])}: {', '.join(scores['test_subjects'])}",
        "Kept back for validation": ", ".join(kept_back) or "nobody",
        "Checkpoint": f"{scores['epoch']}, step {scores['step']:,}",
        "Initial parameters": scores["beginning"],
        "Threshold": f"{scores['threshold']:g}",
        "Averaging": scores["average"],
        "Labels": protocol_field(scores["label_rule"]),
        "Excluded stretches": protocol_field(scores["excluded_stretches"]),
        "Raw layout": protocol_field(scores["layout"]),
        "Camera": protocol_field(scores["camera"], "the only one"),
        "Frame offset": protocol_field(scores["frame_offset"]),
        "Crop rule": f"{rule['name']} ({rule['digest']}), {scores['image_size']} px",
        "Sentences": f"none about {' or '.join(missing)}" if missing else "units and whole face",
        "Sentence search": f"{scores['beams']} beams" if scores["beams"] > 1 else "greedy",
        "Config": scores["config_digest"][:12],
    }
    for name, one in scores["per_dataset"].items():
        floors = ", ".join(f"{FLOORS[key][0]} {share(v)}" for key, v in one["floors"].items())
        found[f"{name} alone"] = (
            f"mean F1 {share(one['mean_f1'])} ({floors}) over the {one['units_scored']} units with "
            f"positives of AU {', '.join(map(str, one['aus']))}, {one['frames']:,} frames"
        )
    return found
