"""Other tools' tables beside a run, on the same frames and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlfau_jax.errors import UserError
from vlfau_jax.evaluation.evaluate import PREDICTIONS, SCORES
from vlfau_jax.evaluation.scores import Scores
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.files import created
from vlfau_jax.metrics import bootstrap
from vlfau_jax.metrics.bootstrap import LEVEL, RESAMPLES, Counts
from vlfau_jax.metrics.folds import NAN, mean
from vlfau_jax.metrics.kinds import CountMetric, NumberOfFrames
from vlfau_jax.metrics.table import AU_METRICS, score
from vlfau_jax.studies.cell import read_scores
from vlfau_jax.studies.output import folder_for, write_table
from vlfau_jax.studies.predicted import Predicted, read_predictions
from vlfau_jax.studies.tables import NAME as TOOL_NAME
from vlfau_jax.studies.tables import Table, between, csv_text, number, p_text, signed
from vlfau_jax.studies.tool_tables import FramesTested, Reading, ToolAnswers, find_tables, read_tool

NAME = "comparison"
OURS = "vlfau_jax"

# Metrics that an intensity, which is a score but no probability, does not have.
_OF_PROBABILITIES = ("ece",)
# Metrics of the answers "on" and "off" alone; others need a score for every frame.
_OF_STATES = {m.name for m in AU_METRICS if isinstance(m, CountMetric | NumberOfFrames)}


def compare(
    workdir: str | Path,
    inputs: Sequence[str],
    out: str | Path,
    *,
    reading: Reading | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Scores the tables of other tools beside an evaluated run, and writes the comparison.

    Only frames count of which every tool has an answer, and of a unit only frames of which all that
    have the unit state it; those without are counted with the reason.

    Args:
        workdir: the run, which `evaluate` has scored.
        inputs: [NAME=]FILE or [NAME=]FOLDER of each tool.
        out: folder for comparison.json, .md, .tex and .csv.
        reading: how the tables are read; None for the defaults.
        overwrite: replace a comparison that is there.

    Returns:
        What comparison.json holds.

    Raises:
        UserError: the run is not evaluated; a table cannot be read or is about no tested frame; no
            unit or no frame is common to all.
    """
    workdir = Path(workdir)
    folder = folder_for(out, NAME, (".json", ".md", ".tex", ".csv"), overwrite)
    scores = read_scores(workdir / SCORES)
    predicted = read_predictions(workdir / PREDICTIONS, scores.aus)
    people = (*scores.test_subjects, *scores.train_subjects, *scores.validation_subjects)
    offset = scores.frame_offset if isinstance(scores.frame_offset, int) else 0
    tested = FramesTested(predicted.keys, people, offset)
    tools = _read_tools(inputs, tested, reading or Reading())
    result = summarise(predicted, tools, scores)
    with created("--out", folder):
        write_table(folder, NAME, result, table_of(result), _csv(result))
    return result


def _read_tools(inputs: Sequence[str], tested: FramesTested, reading: Reading) -> list[ToolAnswers]:
    found = [find_tables(argument) for argument in inputs]
    names = [name for name, _ in found]
    for name in names:
        if not TOOL_NAME.fullmatch(name):
            raise UserError(
                f"{name[:80]!r} is no name for a tool; write NAME=TABLE with letters, digits, "
                "spaces and . _ + -"
            )
        if names.count(name) > 1 or name == OURS:
            raise UserError(f"two tools are called {name!r}; write NAME=TABLE for each")
    return [read_tool(name, tables, tested, reading) for name, tables in found]


def summarise(predicted: Predicted, tools: Sequence[ToolAnswers], scores: Scores) -> dict[str, Any]:
    """What comparison.json holds."""
    rows = np.logical_and.reduce([tool.answered for tool in tools])
    if not rows.any():
        counts = ", ".join(f"{tool.name} {tool.answered.sum()}" for tool in tools)
        raise UserError(f"no frame has an answer of every tool (frames answered: {counts})")
    learned = predicted.predicted.any(0)
    ours = [au for au, taught in zip(predicted.aus, learned, strict=True) if taught]
    shared = [au for au in ours if all(au in tool.aus for tool in tools)]
    if not shared:
        listed = "; ".join(f"{t.name}: {', '.join(map(str, t.aus))}" for t in tools)
        raise UserError(
            f"no action unit is common to all ({OURS}: {', '.join(map(str, ours))}; {listed})"
        )
    # A frame of a unit counts where its label is known and all that have the unit state it.
    known = predicted.known & predicted.predicted
    for tool in tools:
        for column, au in enumerate(tool.aus):
            if au in predicted.aus:
                known[:, predicted.aus.index(au)] &= tool.known[:, column] | ~rows
    columns = [predicted.aus.index(au) for au in ours]
    known, labels = known[rows][:, columns], predicted.labels[rows][:, columns]
    whose = np.array([subject for subject, _, _ in predicted.keys])[rows]
    people, whose = np.unique(whose, return_inverse=True)
    sides = {OURS: (predicted.active[rows][:, columns], predicted.probabilities[rows][:, columns])}
    for tool in tools:
        sides[tool.name] = _of_units(tool, ours, rows)
    found, counts = {}, {}
    for name, (active, probabilities) in sides.items():
        units = _score(ours, active, probabilities, labels, known)
        tool = next((tool for tool in tools if tool.name == name), None)
        for au in tool.intensities & set(ours) if tool else ():
            units[au] |= dict.fromkeys(_OF_PROBABILITIES, NAN)
        found[name] = {au: units[au] for au in ours if tool is None or au in tool.aus}
        tallied = bootstrap.count(whose, len(people), active, labels, known)
        places = [ours.index(au) for au in shared]
        counts[name] = Counts(*(values[:, places] for values in tallied))
    compared = [au for au in shared if not np.isnan(found[OURS][au]["f1"])]
    results = {
        name: {
            "mean_f1": mean(units[au]["f1"] for au in compared),
            "per_au": units,
            **_versus_ours(name, counts, len(people)),
        }
        for name, units in found.items()
    }
    adjusted = bootstrap.holm([results[tool.name]["difference"]["p"] for tool in tools])
    for tool, p in zip(tools, adjusted, strict=True):
        results[tool.name]["difference"]["p_holm"] = p
        results[tool.name] |= {
            "columns": tool.columns,
            "numbering": tool.numbering,
            "frames_answered": int(tool.answered.sum()),
            "frames_without": dict(tool.reasons),
            "rows_passed_over": dict(tool.passed_over),
            "blank_cells": _blank(tool, ours, rows),
        }
    everywhere = {OURS: ours} | {tool.name: tool.aus for tool in tools}
    return {
        "tools": results,
        "aus": compared,
        "without_positives": [au for au in shared if au not in compared],
        "units_of_one_side": {
            name: [au for au in units if au not in shared] for name, units in everywhere.items()
        },
        "frames": int(rows.sum()),
        "frames_tested": len(rows),
        "test_subjects": people.tolist(),
        "dataset": scores.dataset,
        "fold": scores.fold,
        "label_rule": scores.label_rule,
        "threshold": scores.thresholds[0] if len(set(scores.thresholds)) == 1 else None,
        "bootstrap": {"resamples": RESAMPLES, "level": LEVEL, "subjects": len(people)},
        "synthetic": scores.synthetic,
        "note": scores.note,
    }


def _blank(tool: ToolAnswers, aus: Sequence[int], rows: np.ndarray) -> dict[int, int]:
    """In how many of the frames that are compared a tool leaves a unit's cell blank."""
    numbers = {
        au: int((~tool.known[rows, column]).sum())
        for column, au in enumerate(tool.aus)
        if au in aus
    }
    return {au: number for au, number in numbers.items() if number}


def _of_units(
    tool: ToolAnswers, aus: Sequence[int], rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """States and scores of `aus` in some frames, off and NaN for units that the tool lacks."""
    shape = (int(rows.sum()), len(aus))
    active, scores = np.zeros(shape, bool), np.full(shape, np.nan)
    for column, au in enumerate(aus):
        if au in tool.aus:
            active[:, column] = tool.active[rows, tool.aus.index(au)]
            scores[:, column] = tool.scores[rows, tool.aus.index(au)]
    return active, scores


def _score(
    aus: Sequence[int],
    active: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    known: np.ndarray,
) -> dict[int, dict[str, float]]:
    """`AU_METRICS` of each unit; without scores only those of states, and counts."""
    found = score(aus, np.nan_to_num(scores), active, labels, known)
    for column, au in enumerate(aus):
        if np.isnan(scores[known[:, column], column]).any():
            found[au] = {
                name: value if name in _OF_STATES else NAN for name, value in found[au].items()
            }
    return {au: dict(values) for au, values in found.items()}


def _versus_ours(name: str, counts: Mapping[str, Counts], people: int) -> dict[str, Any]:
    """A tool's mean F1 less ours, with its interval and p."""
    if name == OURS:
        return {}
    draws = bootstrap.resample_difference([counts[name]], [counts[OURS]])
    pooled = (float(bootstrap.mean_f1(counts[side].pooled())) for side in (name, OURS))
    low, high = bootstrap.interval(draws, people)
    theirs, ours = pooled
    difference = {"mean": theirs - ours, "low": low, "high": high}
    return {"difference": difference | {"p": bootstrap.p_value(draws, people)}}


def notes_of(result: Mapping[str, Any]) -> list[str]:
    """What must be read beside the table."""
    tools = {name: one for name, one in result["tools"].items() if name != OURS}
    notes = [
        f"{result['frames']:,} of {result['frames_tested']:,} test frames, of which every tool has "
        f"an answer; {len(result['test_subjects'])} subjects; the mean is over "
        f"{len(result['aus'])} units that all have."
    ]
    for name, one in tools.items():
        notes.append(f"{name}: {one['numbering']}.")
        if one["frames_without"]:
            notes.append(f"{name}: frames without an answer: {_listed(one['frames_without'])}.")
        if one["rows_passed_over"]:
            notes.append(f"{name}: passed over: {_listed(one['rows_passed_over'])}.")
        if one["blank_cells"]:
            blank = ", ".join(f"AU{au:02d} {n:,}" for au, n in one["blank_cells"].items())
            notes.append(f"{name}: frames that count in nobody's scores, blank cells: {blank}.")
        d = one["difference"]
        if not np.isnan(d["low"]):
            notes.append(
                f"{name} less {OURS}: {signed(d['mean'])}, {LEVEL:.0%} interval "
                f"{between(d['low'], d['high'])}, p {p_text(d['p_holm'])} (Holm-adjusted; "
                "bootstrap over subjects)."
            )
    for name, aus in result["units_of_one_side"].items():
        if aus:
            notes.append(f"Not in all, so in no mean: AU {', '.join(map(str, aus))} of {name}.")
    if result["without_positives"]:
        listed = ", ".join(map(str, result["without_positives"]))
        notes.append(f"No frame is positive, so in no mean: AU {listed}.")
    return [*notes, *filter(None, [result["note"]])]


def _listed(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())


def table_of(result: Mapping[str, Any]) -> Table:
    """F1 of every unit that we and a tool have."""
    tools = result["tools"]
    rows = []
    for au, unit in tools[OURS]["per_au"].items():
        cells = [tools[name]["per_au"].get(au, {}).get("f1", NAN) for name in tools]
        rows.append(
            (f"AU{au:02d} {ACTION_UNITS[au].name}", number(unit["positives"]), *map(number, cells))
        )
    means = [tools[name]["mean_f1"] for name in tools]
    rows.append((f"mean {AU_METRICS[0].heading}", "", *map(number, means)))
    return Table(
        f"{result['dataset']} fold {result['fold']}: {AU_METRICS[0].heading} on the same frames",
        ("unit", "positives", *tools),
        tuple(rows),
        tuple(notes_of(result)),
        (len(rows) - 1,),
    )


def _csv(result: Mapping[str, Any]) -> str:
    """A line for every tool and unit: every metric."""
    rows = [
        {"tool": name, "au": au} | dict(unit)
        for name, one in result["tools"].items()
        for au, unit in one["per_au"].items()
    ]
    return csv_text([*dict.fromkeys(key for row in rows for key in row)], rows)
