"""One cell of a study: a training run and its evaluation, in a folder of the study.

A cell's folder is an ordinary workdir, so that one that was trained and evaluated by the verbs
`train` and `evaluate`, as on several machines, is a cell as well. What the study adds is cell.json:
the counts of every test subject, digests of the data, and which code trained it.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
from pydantic import Field

from vlfau_jax.distributed.differences import differences
from vlfau_jax.errors import FileError, Interrupted, InUse, RunError, UserError, line
from vlfau_jax.evaluation.evaluate import PREDICTIONS, SCORES, Render, evaluate
from vlfau_jax.evaluation.scores import Scores
from vlfau_jax.files import RECORD_LIMIT, file_digest, locked, read_bytes
from vlfau_jax.metrics.bootstrap import Counts, f1
from vlfau_jax.records import Record, Sha256, Text, read_record
from vlfau_jax.studies.predicted import read_predictions
from vlfau_jax.train import manifest
from vlfau_jax.train.experiment import Settings
from vlfau_jax.train.loop import Evaluator, train
from vlfau_jax.train.run_files import FinalRecord
from vlfau_jax.train.workdir import (
    CHECKPOINTS,
    CONFIG_FILE,
    FINAL_FILE,
    FREE_KEYS,
    read_config,
    write_json,
)

CELL_FILE = "cell.json"

# What cells of one study may differ in: what a resumed run may, but for its length, the budget.
_FREE = frozenset(FREE_KEYS) - {"train.steps", "train.skip_steps"}
_MOST_NAMED = 5

_Count = Annotated[int, Field(ge=0, le=2**53)]
_Row = Annotated[list[_Count], Field(max_length=1000)]


class CellRecord(Record):
    """cell.json.

    Attributes:
        scores_sha256: of the scores.json that it was made beside.
        code: which code trained the run; None of runs that did not record it.
        data: digest of each prepared set, by its name.
        counts: of each test subject: tp, fp, fn, tn, each a list by unit.
    """

    scores_sha256: Sha256
    code: Text | None
    data: dict[Annotated[str, Field(max_length=500)], Sha256]
    counts: dict[
        Annotated[str, Field(max_length=500)],
        Annotated[list[_Row], Field(min_length=4, max_length=4)],
    ]


@dataclass(frozen=True)
class Cell:
    """One run that a study asks for.

    Attributes:
        folder: its workdir.
        title: what it is, for messages: "fold 2", or "no local, seed 1, fold 2".
        settings: the experiment.
    """

    folder: Path
    title: str
    settings: Settings


@dataclass(frozen=True)
class Finished:
    """What a finished cell found.

    Attributes:
        cell: which one.
        scores: its scores.json.
        code: which code trained it; None where that was not recorded.
        data: digest of each prepared set.
        subjects: who was tested, sorted.
        counts: of each of them, [subjects, units].
    """

    cell: Cell
    scores: Scores
    code: str | None
    data: Mapping[str, str]
    subjects: tuple[str, ...]
    counts: Counts


def check_begun(cells: Iterable[Cell], *, resume: bool) -> None:
    """Refuses cells whose folders hold other runs, before anything is trained.

    Raises:
        UserError: a folder is in use and `resume` was not given, or its run has another config.
    """
    for cell in cells:
        if not os.path.lexists(cell.folder / CONFIG_FILE):
            continue
        if not resume:
            raise UserError(
                f"{cell.folder} holds a run already; give --resume to go on with the study, or "
                "another --workdir"
            )
        check_config(cell)


def check_config(cell: Cell) -> None:
    """Raises UserError where the run in a cell's folder has another config than the study asks."""
    found, wanted = read_config(cell.folder), _as_json(cell.settings)
    changed = [
        f"{key}={before} (the study asks for {after})"
        for key, before, after in differences(found, wanted)
        if key not in _FREE
    ]
    if changed:
        more = f" and {len(changed) - _MOST_NAMED} more" if len(changed) > _MOST_NAMED else ""
        raise UserError(
            f"{cell.folder} was trained with another config: {', '.join(changed[:_MOST_NAMED])}"
            f"{more}; give the study that config, or another --workdir"
        )


def _as_json(settings: Settings) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

    return plain(asdict(settings))


def run_cell(
    cell: Cell, *, evaluator: Evaluator | None = None, render: Render | None = None
) -> None:
    """Trains and evaluates a cell, from where an earlier process was stopped; nothing where done.

    Args:
        cell: which one.
        evaluator: scores subjects during training, see `train`.
        render: makes report.html, see `evaluate`.

    Raises:
        UserError, RunError, Interrupted, KeyboardInterrupt: as `train` and `evaluate` do.
    """
    cell.folder.mkdir(parents=True, exist_ok=True)
    with locked(cell.folder):
        if not _trained(cell):
            begun = os.path.lexists(cell.folder / CONFIG_FILE)
            train(cell.settings, cell.folder, resume=begun, evaluator=evaluator)
        if not _evaluated(cell):
            evaluate(cell.folder, resume=True, render=render)
        read_cell(cell)
    # The next cell compiles its own programs; these would stay in memory.
    jax.clear_caches()
    gc.collect()


def run_cells(
    cells: Sequence[Cell],
    *,
    shared: bool = False,
    evaluator: Evaluator | None = None,
    render: Render | None = None,
) -> list[str]:
    """Runs cells one after the other; returns the titles of those that failed.

    One that fails (`RunError`: its values were no longer finite, say) must not keep the rest from
    being trained. Its reason is printed. With `shared`, a cell at which another process works is
    left to that process.

    Raises:
        UserError, Interrupted, KeyboardInterrupt: as `run_cell` does.
    """
    failed = []
    for number, cell in enumerate(cells, 1):
        print(f"{number} of {len(cells)}: {cell.title}, {cell.folder}", file=sys.stderr)
        try:
            run_cell(cell, evaluator=evaluator, render=render)
        except Interrupted:
            raise
        except InUse:
            if not shared:
                raise
            print(f"{cell.title}: another process is at it", file=sys.stderr)
        except RunError as error:
            print(line(f"{cell.title} failed: {error}"), file=sys.stderr)
            failed.append(cell.title)
    return failed


def check_failed(failed: Sequence[str], folder: Path) -> None:
    """Raises RunError where cells failed, which `run_cells` has told one by one."""
    if failed:
        more = f" and {len(failed) - _MOST_NAMED} more" if len(failed) > _MOST_NAMED else ""
        raise RunError(
            f"{folder}: {'; '.join(failed[:_MOST_NAMED])}{more} could not be finished, for the "
            "reason told above; once that is mended, go on with --resume"
        )


def _trained(cell: Cell) -> bool:
    final = _final(cell.folder)
    return final is not None and final.step == cell.settings.train.steps


def _final(folder: Path) -> FinalRecord | None:
    with suppress(FileError):
        return read_record(folder / FINAL_FILE, FinalRecord)
    return None


def _evaluated(cell: Cell) -> bool:
    path = cell.folder / SCORES
    if not (path.exists() and (cell.folder / PREDICTIONS).exists()):
        return False
    return read_scores(path).step == cell.settings.train.steps


def read_cell(cell: Cell) -> Finished | None:
    """What a cell found; None where it is not finished. Writes cell.json where there is none.

    Raises:
        UserError: the run there has another config; its files are damaged or do not fit together.
    """
    if not os.path.lexists(cell.folder / CONFIG_FILE):
        return None
    check_config(cell)
    if not (_trained(cell) and _evaluated(cell)):
        return None
    scores = read_scores(cell.folder / SCORES)
    digest = file_digest(cell.folder / SCORES)
    record = None
    with suppress(FileError):  # none yet, or damaged: it can be made again
        record = read_record(cell.folder / CELL_FILE, CellRecord)
    if record is None or record.scores_sha256 != digest or not _fits(record, scores):
        record = _make_record(cell, scores, digest)
        if not _fits(record, scores):
            raise UserError(
                f"{cell.folder}: {PREDICTIONS} is not of its {SCORES}; evaluate the run again"
            )
        write_json(cell.folder / CELL_FILE, record.model_dump())
    subjects, counts = tuple(record.counts), _counts(record)
    return Finished(cell, scores, record.code, record.data, subjects, counts)


def read_scores(path: Path) -> Scores:
    """The scores that `evaluate` wrote. Raises UserError where they are missing or damaged."""
    if not os.path.lexists(path):
        raise UserError(f"{path} is missing; score the run with `python -m vlfau_jax evaluate`")
    try:
        mapping = json.loads(read_bytes(path, RECORD_LIMIT))
    except (ValueError, RecursionError) as error:
        raise FileError(path, f"no usable JSON ({error}); evaluate the run again") from None
    return Scores.from_json(mapping, str(path))


def _make_record(cell: Cell, scores: Scores, digest: str) -> CellRecord:
    predicted = read_predictions(cell.folder / PREDICTIONS, scores.aus)
    subjects, counts = predicted.counts()
    final = _final(cell.folder)
    by_subject = np.stack(counts, 1)  # [subjects, 4, units]
    return CellRecord(
        scores_sha256=digest,
        code=final.code if final else None,
        data=_data_digests(cell.folder, scores.step),
        counts=dict(zip(subjects, by_subject.tolist(), strict=True)),
    )


def _data_digests(folder: Path, step: int) -> dict[str, str]:
    """Digests of the prepared sets that a run was trained on, from its last checkpoint."""
    place = folder / CHECKPOINTS / str(step)
    try:
        record = manifest.read_record(place)
    except manifest.DamagedError as error:
        raise UserError(
            f"{place} {error}; it says which data the run was trained on: train the cell again"
        ) from error
    return dict((record.get("inference") or {}).get("set_digests", {}))


def _counts(record: CellRecord) -> Counts:
    return Counts(*np.array([*record.counts.values()], np.int64).swapaxes(0, 1))


def _fits(record: CellRecord, scores: Scores) -> bool:
    """Whether a cell's counts give the F1 of its scores."""
    lengths = {len(row) for rows in record.counts.values() for row in rows}
    if lengths != {len(scores.aus)}:
        return False
    ours = f1(_counts(record).pooled())
    theirs = np.array([scores.per_au[au]["f1"] for au in scores.aus], float)
    return np.allclose(ours, theirs, 0, 1e-9, equal_nan=True)
