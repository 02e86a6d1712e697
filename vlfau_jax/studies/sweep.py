"""An ablation for each of several values of one key: how its rows fare over that value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlfau_jax.errors import RunError, UserError
from vlfau_jax.metrics.table import AU_METRICS
from vlfau_jax.studies import checks
from vlfau_jax.studies.ablation import Ablation, nothing_in, result_of
from vlfau_jax.studies.output import alone, write_table
from vlfau_jax.studies.tables import Table, between, csv_text, p_text, signed, spread

NAME = "sweep"


@dataclass(frozen=True)
class Sweep:
    """A key, and the study of each of its values.

    Attributes:
        key: such as "data.training_subjects".
        points: value, as it was written -> the study, in its own folder.
        folder: of them all.
    """

    key: str
    points: Mapping[str, Ablation]
    folder: Path


def point_folder(key: str, value: str) -> str:
    """The folder of a point: `training_subjects=4`."""
    return f"{key.rpartition('.')[2]}={value}"


def sweep(
    study: Sweep,
    train: Callable[[Ablation], Any] | None = None,
    *,
    values: Sequence[str] = (),
    other_code: bool = False,
    draw: Callable[[Mapping[str, Any]], str] | None = None,
) -> dict[str, Any] | None:
    """Runs the study of each point, then writes the curves of all that is there.

    Args:
        study: the key and its points.
        train: runs a point's study (`ablate`); None trains nothing.
        values: those of the points to train; empty for all.
        other_code: let cells be of different code.
        draw: makes sweep.svg from what sweep.json holds; None writes none.

    Returns:
        What sweep.json holds; None where other processes still train the first cells.

    Raises:
        UserError: as `train`; or nothing was trained, and no point has a finished cell.
        RunError: cells failed, after all others were trained and the curves were written.
    """
    failed = []
    mine = {value: study.points[value] for value in values or study.points}
    if train and len(mine) > 1:  # a bad value is told before the first is trained
        checks.check_data(
            cell
            for point in mine.values()
            for cell in {key[2]: cell for key, cell in point.cells.items()}.values()
        )
    for value, point in mine.items() if train else ():
        try:
            train(point)
        except RunError as error:
            failed.append(f"{study.key}={value}: {error}")
    study.folder.mkdir(parents=True, exist_ok=True)
    with alone(study.folder):
        found = {
            value: result_of(point, other_code=other_code) for value, point in study.points.items()
        }
        if not any(found.values()):
            if train:
                _tell(failed)
                return None
            raise UserError(nothing_in(study.folder))
        result = curves(study.key, found)
        more = {".svg": draw(result) if draw else None}
        write_table(study.folder, NAME, result, table_of(result), csv_of(result), more)
    _tell(failed)
    return result


def _tell(failed: Sequence[str]) -> None:
    if failed:
        raise RunError("; ".join(failed))


def curves(key: str, found: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Any]:
    """What sweep.json holds, from what each point's ablation.json holds; None where nothing is."""
    there = [result for result in found.values() if result]
    first = there[0]
    rows: dict[str, dict[str, Any]] = {
        name: {"overrides": row["overrides"], "points": []} for name, row in first["rows"].items()
    }
    for value, result in found.items():
        for name, row in rows.items():
            of = result["rows"][name] if result else {}
            row["points"].append(
                {
                    "value": value,
                    "f1": {k: of.get("f1", {}).get(k) for k in ("mean", "deviation")},
                    "difference": {
                        k: of.get("difference", {}).get(k)
                        for k in ("mean", "deviation", "pooled", "low", "high", "p", "p_holm")
                    },
                }
            )
    return {
        "key": key,
        "values": list(found),
        "reference": first["reference"],
        "rows": rows,
        "seeds": first["seeds"],
        "folds": first["folds"],
        "missing": [
            f"{key}={value}: {'; '.join(result['missing']) if result else 'nothing is there'}"
            for value, result in found.items()
            if not result or result["missing"]
        ],
        "left_out": {value: result["left_out"] for value, result in found.items() if result},
        "method": first["method"],
        "dataset": first["protocol"]["dataset"],
        "synthetic": any(result["synthetic"] for result in there),
        "note": next((result["note"] for result in there if result["note"]), ""),
    }


def table_of(result: Mapping[str, Any]) -> Table:
    """A line for each value: F1 of every row, and its difference to the reference."""
    heading = AU_METRICS[0].heading
    columns, lines = [result["key"]], [[value] for value in result["values"]]
    for name, row in result["rows"].items():
        columns.append(f"{heading} {name}")
        of_reference = name == result["reference"]
        if not of_reference:
            columns += ["difference", "interval", "p"]
        for line, point in zip(lines, row["points"], strict=True):
            d = point["difference"]
            line.append(spread(point["f1"]["mean"], point["f1"]["deviation"]))
            if not of_reference:
                line += [signed(d["mean"]), between(d["low"], d["high"]), p_text(d["p_holm"])]
    seeds, folds = result["seeds"], result["folds"]
    notes = [
        f"{len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}, fold "
        f"{', '.join(map(str, folds))}. Differences are to {result['reference']!r}, as in an "
        "ablation; p is adjusted for the number of rows (Holm), not for that of values.",
        *(f"Missing, so without numbers: {where}." for where in result["missing"][:10]),
        *_fewer_units(result),
        *filter(None, [result["note"]]),
    ]
    caption = f"Mean {heading} on {result['dataset']} over {result['key']}"
    return Table(caption, tuple(columns), tuple(map(tuple, lines)), tuple(notes))


def _fewer_units(result: Mapping[str, Any]) -> list[str]:
    """Which units count at some values and not at others, whose means are of different units."""
    texts = {
        value: ", ".join(
            f"AU{int(au):02d} in fold {', '.join(map(str, folds))}" for au, folds in units.items()
        )
        for value, units in result["left_out"].items()
    }
    if len(set(texts.values())) < 2:
        return []
    return [
        f"Beware, these means are of other units than the rest: at {value} without {text}."
        for value, text in texts.items()
        if text
    ]


def csv_of(result: Mapping[str, Any]) -> str:
    """A line for every value and row, in full precision."""
    lines = [
        {"value": point["value"], "row": name}
        | {f"f1_{k}": v for k, v in point["f1"].items()}
        | {f"difference_{k}": v for k, v in point["difference"].items()}
        for name, row in result["rows"].items()
        for point in row["points"]
    ]
    return csv_text([*lines[0]], lines)
