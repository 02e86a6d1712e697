"""Cross-validation: an experiment on every fold, and one table."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vlfau_jax.data.read.dataset import open_dataset
from vlfau_jax.data.read.folds import MOST_FOLDS
from vlfau_jax.errors import UserError
from vlfau_jax.evaluation.evaluate import PAGE, Render
from vlfau_jax.evaluation.scoring import SYNTHETIC_WARNING
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.files import TABLE_LIMIT, absolute_folder, read_bytes, written_whole
from vlfau_jax.metrics import bootstrap
from vlfau_jax.metrics.bootstrap import LEVEL, RESAMPLES, Counts
from vlfau_jax.metrics.folds import NAN, averaged, deviation, mean, pooled
from vlfau_jax.metrics.table import AU_METRICS, COMPARED
from vlfau_jax.studies import checks
from vlfau_jax.studies.cell import (
    Cell,
    Finished,
    check_begun,
    check_failed,
    read_cell,
    run_cells,
)
from vlfau_jax.studies.output import alone, write_table
from vlfau_jax.studies.protocols import check_people, same_protocol
from vlfau_jax.studies.tables import Table, csv_text, number
from vlfau_jax.train.experiment import Settings
from vlfau_jax.train.loop import Evaluator

NAME = "crossval"
SUBJECT_FOLDS = "folds.csv"
_MOST_LISTED = 10  # folds whose people are named on the screen; crossval.json has all

AVERAGES = {
    "mean": "of a unit: the mean of a metric over the folds; of all: that of F1 over the units "
    "that have an F1 in every fold",
    "deviation": "the sample standard deviation over the folds (n - 1); of all: of the means "
    "of the folds, over the same units",
    "pooled": "counts of all folds added, then the metric, of units that every fold has learned; "
    "of all: the mean of F1 over the units that have one",
    "interval": "of the pooled mean F1, by a bootstrap over the test subjects",
}


def crossval(
    settings: Settings,
    workdir: str | Path,
    *,
    folds: Sequence[int] = (),
    leave_one_subject_out: bool = False,
    only: Sequence[int] = (),
    collect: bool = False,
    resume: bool = False,
    other_code: bool = False,
    evaluator: Evaluator | None = None,
    render: Render | None = None,
    render_table: Callable[[Mapping[str, Any]], str] | None = None,
) -> dict[str, Any]:
    """Trains and evaluates each fold in `workdir`/foldK, then writes the table of all.

    Args:
        settings: the experiment; its data.fold is not read.
        workdir: the study's folder; gets crossval.json, .md, .tex, .csv and .html.
        folds: which; empty for all that the data have.
        leave_one_subject_out: every subject is a fold of its own, in the order of their names;
            `folds` then chooses some of these.
        only: the folds that this process trains, of those of the study; empty for all.
        collect: train nothing, and make the table of what is there.
        resume: go on with the runs that are there; a finished one is kept.
        other_code: let folds be of different code.
        evaluator: scores subjects during training.
        render: makes each fold's report.html.
        render_table: makes crossval.html from what crossval.json holds; None writes none.

    Returns:
        What crossval.json holds.

    Raises:
        UserError: a fold cannot be trained; a folder is in use; folds whose protocols differ.
        RunError: a fold failed, after all others were trained and the table was written.
    """
    folder = absolute_folder("--workdir", workdir)
    if leave_one_subject_out:
        settings = _each_subject(settings, folder)
    folds = tuple(folds) or checks.folds_of(settings)
    cells = {fold: cell_of(settings, folder, fold) for fold in folds}
    checks.check_asked("fold", only, folds)
    failed: list[str] = []
    if not collect:
        mine = [cells[fold] for fold in only or folds]
        check_begun(mine, resume=resume)
        checks.check_data(mine)
        checks.check_built(mine if settings.train.warm_start else mine[:1])
        failed = run_cells(mine, evaluator=evaluator, render=render)
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        finished = {fold: found for fold, cell in cells.items() if (found := read_cell(cell))}
        if not finished:
            check_failed(failed, folder)
            raise UserError(
                f"--workdir={workdir} holds no finished fold of {', '.join(map(str, folds))}; "
                "train them first, without --collect"
            )
        result = summarise(finished, folds, other_code=other_code)
        more = {".html": render_table(result) if render_table else None}
        write_table(folder, NAME, result, table_of(result), _csv(result), more)
    check_failed(failed, folder)
    return result


def cell_of(settings: Settings, folder: Path, fold: int) -> Cell:
    """The cell of a fold."""
    data = replace(settings.data, fold=fold)
    return Cell(folder / f"fold{fold}", f"fold {fold}", replace(settings, data=data))


def _each_subject(settings: Settings, folder: Path) -> Settings:
    """The experiment with a fold for each subject, by a table that is written into `folder`.

    Raises:
        UserError: there is another table, or a study without one; the subjects are too few or too
            many.
    """
    dataset = open_dataset(settings.data)
    people = checks.tested_people(dataset)
    if not 2 <= len(people) <= MOST_FOLDS:
        raise UserError(
            f"--leave_one_subject_out: {dataset.folder} has {len(people)} subjects with frames; 2 "
            f"to {MOST_FOLDS} can each be a fold"
        )
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["subject", "fold"])
    # Who has no frame is tested nowhere, and must be in the table.
    writer.writerows([s, people.index(s) + 1 if s in people else 1] for s in dataset.subjects)
    path, text = folder / SUBJECT_FOLDS, file.getvalue()
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        if not path.exists():
            if begun := next(folder.glob("fold[0-9]*/"), None):
                raise UserError(f"{begun} is a fold of several subjects; give another --workdir")
            with written_whole(path) as partial:
                partial.write_text(text, encoding="utf-8")
        elif read_bytes(path, TABLE_LIMIT).decode(errors="replace") != text:
            raise UserError(
                f"{path} is about other subjects than {dataset.folder}; give another --workdir"
            )
    return replace(settings, data=replace(settings.data, folds=str(path)))


def summarise(
    finished: Mapping[int, Finished], folds: Sequence[int], *, other_code: bool = False
) -> dict[str, Any]:
    """What crossval.json holds, of the finished folds; means are NaN where a fold is missing.

    Raises:
        UserError: their protocols differ, or two test one person.
    """
    cells = list(finished.values())
    protocol = same_protocol(cells, other_code=other_code)
    check_people(cells)
    missing = [fold for fold in folds if fold not in finished]
    aus = cells[0].scores.aus
    # Of a unit that a fold did not learn there are no counts of that fold's people.
    learned = [not any(au in one.scores.untaught for one in cells) for au in aus]
    counts = Counts(
        *(
            np.where(learned, np.concatenate(parts), 0)
            for parts in zip(*(c.counts for c in cells), strict=True)
        )
    )
    over, whole = averaged([one.scores.per_au for one in cells]), pooled(aus, counts.pooled())
    per_au, left_out = {}, {}
    for au in aus:
        undefined = {
            fold: _why(one, au)
            for fold, one in finished.items()
            if np.isnan(one.scores.per_au[au]["f1"])
        }
        if undefined:
            left_out[au] = undefined
        per_au[au] = {
            "folds": {fold: one.scores.per_au[au]["f1"] for fold, one in finished.items()},
            **_unless(missing, {name: _both(over[au], whole[au], name) for name in over[au]}),
        }
    common = [au for au in aus if au not in left_out]
    means = {
        fold: mean(one.scores.per_au[au]["f1"] for au in common) for fold, one in finished.items()
    }
    draws = bootstrap.resample([counts])
    people = sorted(subject for one in cells for subject in one.subjects)
    low, high = bootstrap.interval(draws, len(people))
    synthetic = any(one.scores.synthetic for one in cells)
    return {
        "mean_f1": NAN if missing else mean(means.values()),
        "deviation": NAN if missing else deviation(means.values()),
        "pooled_f1": NAN if missing else float(bootstrap.mean_f1(counts.pooled())),
        "interval": {
            "low": NAN if missing else low,
            "high": NAN if missing else high,
            "level": LEVEL,
            "resamples": RESAMPLES,
        },
        "averages": AVERAGES,
        "aus": aus,
        "left_out": left_out,
        "per_au": per_au,
        "explanations": {
            name: _unless(missing, {"value": _over(cells, name)})["value"]
            for name in cells[0].scores.explanations
        },
        "per_dataset": {
            name: _unless(missing, {"f1": _of_set(cells, name)})["f1"]
            for name in cells[0].scores.per_dataset
        },
        "folds": {
            fold: {
                "workdir": one.cell.folder.name,
                "report": f"{one.cell.folder.name}/{PAGE}"
                if (one.cell.folder / PAGE).exists()
                else None,
                "mean_f1": one.scores.mean_f1,
                "mean_f1_of_common_units": means[fold],
                "per_dataset": {
                    name: each.mean_f1 for name, each in one.scores.per_dataset.items()
                },
                "explanations": one.scores.explanations,
                "frames": one.scores.frames,
                "test_subjects": one.subjects,
                "train_subjects": one.scores.train_subjects,
            }
            for fold, one in finished.items()
        },
        "missing": missing,
        "test_subjects": people,
        "protocol": protocol,
        "synthetic": synthetic,
        "note": SYNTHETIC_WARNING if synthetic else "",
    }


def _why(one: Finished, au: int) -> str:
    """Why a unit has no F1 in a fold."""
    if au in one.scores.untaught:
        return f"not learned: {one.scores.untaught[au]} in training"
    return "no positives"


def _both(
    over: Mapping[str, Mapping[str, float]], whole: Mapping[str, float], name: str
) -> dict[str, float]:
    """A unit's metric over the folds, and of their counts added where it is one of counts."""
    return dict(over[name]) | ({"pooled": whole[name]} if name in whole else {})


def _over(cells: Sequence[Finished], name: str) -> dict[str, float]:
    values = [one.scores.explanations.get(name, NAN) for one in cells]
    return {"mean": mean(values), "deviation": deviation(values)}


def _of_set(cells: Sequence[Finished], name: str) -> dict[str, float]:
    values = [one.scores.per_dataset[name].mean_f1 for one in cells]
    return {"mean": mean(values), "deviation": deviation(values)}


def _unless(missing: Sequence[int], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, each of their numbers NaN where folds are missing."""
    if not missing:
        return dict(values)
    return {name: dict.fromkeys(inner, NAN) for name, inner in values.items()}


def notes_of(result: Mapping[str, Any]) -> list[str]:
    """What must be read beside the table."""
    notes = []
    if len(result["folds"]) <= _MOST_LISTED:  # publications number the folds differently
        for fold, one in result["folds"].items():
            people = ", ".join(one["test_subjects"])
            notes.append(f"Fold {fold} tests {people} ({one['frames']:,} frames).")
    if result["missing"]:
        listed = ", ".join(map(str, result["missing"]))
        one = len(result["missing"]) == 1
        notes.append(
            f"Fold {listed} is missing: there is no mean until it is trained."
            if one
            else f"Folds {listed} are missing: there is no mean until they are trained."
        )
    for au, folds in result["left_out"].items():
        why = ", ".join(f"fold {fold}: {reason}" for fold, reason in folds.items())
        notes.append(f"AU{au:02d} lacks an F1 in some folds and is in no mean over them ({why}).")
    low, high = result["interval"]["low"], result["interval"]["high"]
    if not np.isnan(low):
        units = sum(not np.isnan(unit["f1"]["pooled"]) for unit in result["per_au"].values())
        notes.append(
            f"Pooled mean F1 {number(result['pooled_f1'])} over {units} units, {LEVEL:.0%} "
            f"interval {number(low)} to {number(high)} by {RESAMPLES:,} resamples of "
            f"{len(result['test_subjects'])} subjects."
        )
    if isinstance(result["protocol"]["code"], list):
        notes.append(f"Made by different code: {'; '.join(result['protocol']['code'])}.")
    return [*notes, *filter(None, [result["note"]])]


def table_of(result: Mapping[str, Any]) -> Table:
    """The table: a row for every unit, the mean, and a row for every score of sentences."""
    folds, rows = result["folds"], []
    for au in result["aus"]:
        unit = result["per_au"][au]
        cells = [unit["folds"][fold] for fold in folds]
        cells += [unit["f1"]["mean"], unit["f1"]["deviation"], unit["f1"]["pooled"]]
        rows.append((f"AU{au:02d} {ACTION_UNITS[au].name}", *map(number, cells)))
    rules = [len(rows)]
    cells = [one["mean_f1_of_common_units"] for one in folds.values()]
    cells += [result["mean_f1"], result["deviation"], result["pooled_f1"]]
    rows.append((f"mean {AU_METRICS[0].heading}", *map(number, cells)))
    for name, both in result["per_dataset"].items():
        cells = [one["per_dataset"][name] for one in folds.values()]
        rows.append((f"{name} alone", *map(number, [*cells, both["mean"], both["deviation"], NAN])))
    rules.append(len(rows))
    for metric in COMPARED:
        cells = [one["explanations"].get(metric.name, NAN) for one in folds.values()]
        if not all(np.isnan(cells)):
            both = result["explanations"][metric.name]
            cells += [both["mean"], both["deviation"], NAN]
            rows.append((metric.heading, *map(number, cells)))
    protocol = result["protocol"]
    return Table(
        f"{protocol['dataset']}: {AU_METRICS[0].heading} by unit and fold, step "
        f"{protocol['step']:,} ({protocol['checkpoint']})",
        ("unit", *(f"fold {fold}" for fold in folds), "mean", "deviation", "pooled"),
        tuple(rows),
        tuple(notes_of(result)),
        tuple(rules),
    )


def _csv(result: Mapping[str, Any]) -> str:
    """A line for every unit: its F1 in each fold, and every metric over the folds."""
    rows = []
    for au in result["aus"]:
        unit = dict(result["per_au"][au])
        row = {"au": au, **{f"f1_fold{fold}": f1 for fold, f1 in unit.pop("folds").items()}}
        for metric, values in unit.items():
            row |= {f"{metric}_{kind}": value for kind, value in values.items()}
        rows.append(row)
    return csv_text([*dict.fromkeys(name for row in rows for name in row)], rows)
