"""The ablation table: rows of switches, each trained with several seeds and the same budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vlfau_jax.errors import UserError
from vlfau_jax.files import absolute_folder
from vlfau_jax.studies import checks
from vlfau_jax.studies.ablation_result import csv_of, summarise, table_of
from vlfau_jax.studies.cell import Cell, check_begun, check_failed, read_cell, run_cells
from vlfau_jax.studies.output import alone, write_table
from vlfau_jax.studies.tables import NAME as ROW_NAME
from vlfau_jax.train.experiment import Settings
from vlfau_jax.train.loop import Evaluator

NAME = "ablation"

# What all rows share: the budget, and who and what is tested.
SHARED = (
    "seed",
    "train.steps",
    "train.batch_size",
    "data.name",
    "data.data_dir",
    "data.variant",
    "data.fold",
    "data.folds",
    "data.aus",
    "data.threshold",
    "data.exclude_stretches",
)


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: as the table shows it; the folder of its cells is the name with underscores.
        overrides: the config keys that it changes, "model.taps" -> value.
        settings: the experiment with them.
    """

    name: str
    overrides: Mapping[str, Any]
    settings: Settings

    @property
    def folder(self) -> str:
        """The folder of its cells in the study's."""
        return folder_name(self.name)


@dataclass(frozen=True)
class Job:
    """The cells that one process trains, of those of the study; None is all.

    Attributes:
        row, seed, fold: those of this row, seed and fold.
        cell: the one of this number, from 1, in the order of `Ablation.cells`: for job arrays.
        shared: other processes may train the same cells: each takes the next that nobody has.
    """

    row: str | None = None
    seed: int | None = None
    fold: int | None = None
    cell: int | None = None
    shared: bool = False


@dataclass(frozen=True)
class Ablation:
    """An ablation study.

    Attributes:
        rows: the first is the reference, to which the others are compared.
        seeds: of every row.
        folds: of every row and seed.
        folder: the study's.
    """

    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    folds: tuple[int, ...]
    folder: Path

    @property
    def cells(self) -> dict[tuple[str, int, int], Cell]:
        """All cells by (row, seed, fold); seeds change slowest, so that early tables are whole."""
        return {
            (row.name, seed, fold): self._cell(row, seed, fold)
            for seed in self.seeds
            for row in self.rows
            for fold in self.folds
        }

    def _cell(self, row: Row, seed: int, fold: int) -> Cell:
        data = replace(row.settings.data, fold=fold)
        settings = replace(row.settings, seed=seed, data=data)
        folder = self.folder / row.folder / f"seed{seed}" / f"fold{fold}"
        return Cell(folder, f"{row.name}, seed {seed}, fold {fold}", settings)

    def of(self, job: Job) -> list[Cell]:
        """The cells of a job. Raises UserError for one that is not there."""
        cells = self.cells
        if job.cell is not None:
            if not 1 <= job.cell <= len(cells):
                raise UserError(f"--cell={job.cell}: the study has cells 1 to {len(cells)}")
            return [list(cells.values())[job.cell - 1]]
        wanted = (job.row, job.seed, job.fold)
        there = ([row.name for row in self.rows], self.seeds, self.folds)
        for kind, one, values in zip(("row", "seed", "fold"), wanted, there, strict=True):
            checks.check_asked(kind, () if one is None else (one,), values)
        return [
            cell
            for key, cell in cells.items()
            if all(one in (None, value) for one, value in zip(wanted, key, strict=True))
        ]


def folder_name(name: str) -> str:
    """The folder of a row."""
    return name.replace(" ", "_")


def plan(
    rows: Sequence[Row], workdir: str | Path, seeds: Sequence[int], folds: Sequence[int]
) -> Ablation:
    """The study of some rows.

    Raises:
        UserError: two rows share a folder or all settings; a row changes what all must share; a
            fold is 0, which tests nobody.
    """
    check_names([row.name for row in rows])
    for row in rows:
        if changed := [key for key in row.overrides if key in SHARED]:
            raise UserError(
                f"row {row.name!r} changes {changed[0]}, which all rows share so that they can be "
                "compared; set it for the whole study"
            )
        twin = next((other for other in rows if other.settings == row.settings), row)
        if twin is not row:
            raise UserError(
                f"rows {twin.name!r} and {row.name!r} are the same experiment with this --config; "
                "leave one out, or change its keys"
            )
    if 0 in folds:
        raise UserError("fold 0 tests nobody; give folds from 1 on, such as --folds=1,2,3")
    return Ablation(tuple(rows), tuple(seeds), tuple(folds), absolute_folder("--workdir", workdir))


def check_names(names: Sequence[str]) -> None:
    """Raises UserError for names of rows that are no names of folders, or not each once."""
    for name in names:
        if not ROW_NAME.fullmatch(name):
            raise UserError(
                f"row {name[:80]!r}: give a name of at most 60 letters, digits, spaces and . _ + - "
                "that begins with a letter or digit"
            )
    folders = [folder_name(name).casefold() for name in names]
    for name, folder in zip(names, folders, strict=True):
        if folders.count(folder) > 1:
            raise UserError(f"row {name!r} comes twice, or differs in spaces or case alone")


def ablate(
    study: Ablation,
    *,
    job: Job = Job(),
    collect: bool = False,
    resume: bool = False,
    other_code: bool = False,
    evaluator: Evaluator | None = None,
    render: Callable[[Mapping[str, Any]], str] | None = None,
) -> dict[str, Any] | None:
    """Trains and evaluates the cells of a job, then writes the table of all that are there.

    Args:
        study: the rows, seeds and folds.
        job: the cells to train.
        collect: train nothing.
        resume: go on with the runs that are there; a finished one is kept.
        other_code: let cells be of different code.
        evaluator: scores subjects during training.
        render: makes ablation.html from what ablation.json holds; None writes none.

    Returns:
        What ablation.json holds; None where a shared job has left all cells to other processes.

    Raises:
        UserError: a row cannot be built, a folder is in use, protocols differ, nothing is finished.
        RunError: a cell failed, after all others were trained and the table was written.
    """
    failed: list[str] = []
    if not collect:
        mine = study.of(job)
        check_begun(mine, resume=resume)
        _check(study, mine)
        failed = run_cells(mine, shared=job.shared, evaluator=evaluator)
    study.folder.mkdir(parents=True, exist_ok=True)
    with alone(study.folder):
        result = result_of(study, other_code=other_code)
        if result is None:
            check_failed(failed, study.folder)
            if job.shared:  # the first cells are still being trained by others
                return None
            raise UserError(nothing_in(study.folder))
        more = {".html": render(result) if render else None}
        write_table(study.folder, NAME, result, table_of(result), csv_of(result), more)
    check_failed(failed, study.folder)
    return result


def result_of(study: Ablation, *, other_code: bool = False) -> dict[str, Any] | None:
    """What the finished cells of a study say together; None where none is finished.

    Raises:
        UserError: as `summarise`, or a cell's files are damaged.
    """
    finished = {key: found for key, cell in study.cells.items() if (found := read_cell(cell))}
    if not finished:
        return None
    rows = {row.name: dict(row.overrides) for row in study.rows}
    return summarise(finished, rows, study.seeds, study.folds, other_code=other_code)


def nothing_in(folder: Path) -> str:
    """The message for a study without a finished cell."""
    return f"{folder} holds no finished cell of this study; train some without --collect"


def _check(study: Ablation, mine: Sequence[Cell]) -> None:
    """Builds one cell of each row, and opens the data of each fold, before anything is trained.

    A job of one cell builds its own row alone: each of the others is built by its own job.
    """
    by_row = {cell.folder.parent.parent: cell for cell in reversed(mine)}
    by_fold = {cell.settings.data.fold: cell for cell in reversed(mine)}
    checks.check_data(reversed(by_fold.values()))
    checks.check_built(reversed(by_row.values()))
