"""Verbs that end in a table: crossval and ablate of several runs, compare, and transfer."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from absl import flags
from ml_collections import ConfigDict, config_flags
from pydantic import Field

from vlfau_jax.cli.training import HARDWARE, for_this_device
from vlfau_jax.cli.verb import CONFIG, GROUPS, WORKDIR, Flag, Later, verb
from vlfau_jax.errors import UserError
from vlfau_jax.options import Seed, Share

if TYPE_CHECKING:
    from vlfau_jax.studies.ablation import Row

_MOST_FOLDS = 1000
_Fold = Annotated[int, Field(ge=1, le=_MOST_FOLDS)]

COLLECT = Flag("collect", bool, "train nothing; make the table of what is there", False)
RESUME = Flag("resume", bool, "go on with the runs that are there; finished ones are kept", False)
OTHER_CODE = Flag(
    "accept_other_code", bool, "let the table have runs of different versions of the code", False
)


@verb(
    CONFIG,
    HARDWARE,
    replace(
        WORKDIR,
        help="the study's folder: a run's folder for each fold, and the table",
        bucket=False,
    ),
    Flag("folds", str, "which folds, such as 1,2,3; all that the data have when absent"),
    Flag("leave_one_subject_out", bool, "every subject is a fold of its own", False),
    Flag("fold", _Fold, "train this fold alone, as one job of several, and refresh the table"),
    COLLECT,
    RESUME,
    OTHER_CODE,
    imports=(
        "vlfau_jax.evaluation.during_training",
        "vlfau_jax.report",
        "vlfau_jax.report.crossval_page",
        "vlfau_jax.studies.crossval",
    ),
    keeps_programs=True,
)
def crossval(fv: flags.FlagValues, _: list[str]) -> None:
    """Train and evaluate an experiment on every fold: one table."""
    from vlfau_jax.cli.settings import resolve
    from vlfau_jax.evaluation.during_training import score_during_training
    from vlfau_jax.report import render
    from vlfau_jax.report.crossval_page import render_crossval
    from vlfau_jax.studies.crossval import crossval

    _check_collect(fv, "fold")
    given = config_flags.get_override_values(fv["config"])
    if "data.fold" in given:
        raise UserError("--config.data.fold: crossval trains every fold; give --folds or --fold")
    if fv.leave_one_subject_out and "data.folds" in given:
        raise UserError("--config.data.folds: --leave_one_subject_out makes the folds; give one")
    crossval(
        resolve(for_this_device(fv)),
        fv.workdir,
        folds=_numbers("--folds", fv.folds) if fv.folds is not None else (),
        leave_one_subject_out=fv.leave_one_subject_out,
        only=() if fv.fold is None else (fv.fold,),
        collect=fv.collect,
        resume=fv.resume,
        other_code=fv.accept_other_code,
        evaluator=score_during_training,
        render=render,
        render_table=render_crossval,
    )


@verb(
    CONFIG,
    HARDWARE,
    replace(
        WORKDIR,
        help="the study's folder: a run's folder for each cell, and the table",
        bucket=False,
    ),
    Flag("rows", str, "what each row changes, X.py[:args] or one that ships", "ablation"),
    Flag("only", str, "the study has these rows alone, separated by commas"),
    Flag("seeds", Annotated[int, Field(ge=1, le=1000)], "seeds of a row, from --config.seed on", 3),
    Flag("folds", str, "folds of every row and seed, such as 1,2,3; data.fold when absent"),
    Flag(
        "over",
        str,
        "repeat the study for each value of a config key, KEY=V1,V2,...: curves beside the tables",
    ),
    Flag("at", str, "of --over, train this value alone"),
    Flag("row", str, "train the cells of this row alone, as one job of several"),
    Flag("seed", Seed, "train the cells of this seed alone"),
    Flag("fold", _Fold, "train the cells of this fold alone"),
    Flag(
        "cell",
        Annotated[int, Field(ge=1, le=10_000_000)],
        "train the cell of this number alone, from 1, as --list counts them",
    ),
    Flag(
        "shared",
        bool,
        "with --resume: several processes train the study, each takes cells that nobody has",
        False,
    ),
    Flag("list", bool, "print the cells, a line each, and train nothing", False),
    COLLECT,
    RESUME,
    OTHER_CODE,
    imports=(
        "vlfau_jax.evaluation.during_training",
        "vlfau_jax.report.ablation_page",
        "vlfau_jax.studies.sweep",
    ),
    keeps_programs=True,
)
def ablate(fv: flags.FlagValues, _: list[str]) -> None:
    """Train every row of an ablation with several seeds: one table, with paired differences."""
    from vlfau_jax.cli.config_files import read_ablation
    from vlfau_jax.evaluation.during_training import score_during_training
    from vlfau_jax.report.ablation_page import render_ablation
    from vlfau_jax.studies.ablation import Ablation, Job, ablate, plan
    from vlfau_jax.studies.sweep import Sweep, point_folder, sweep

    _check_collect(fv, "row", "seed", "fold", "cell", "at")
    if fv.cell is not None:
        for name in ("row", "seed", "fold"):
            if fv[name].value is not None:
                raise UserError(f"--cell={fv.cell} is one cell already; leave out --{name}")
    if fv.shared and not fv.resume:
        raise UserError("--shared: give --resume, too, as every process meets runs of the others")
    if fv.at is not None and fv.over is None:
        raise UserError(f"--at={fv.at}: only --over has values to choose from")
    given = config_flags.get_override_values(fv["config"])
    if fv.folds is not None and "data.fold" in given:
        raise UserError("--config.data.fold: --folds says which folds are trained; give one")
    config = for_this_device(fv)
    rows = _chosen(read_ablation(fv.rows), fv.only)
    folds = _numbers("--folds", fv.folds) if fv.folds is not None else (config.data.fold,)
    seeds = [config.seed + k for k in range(fv.seeds)]

    def planned(overrides: Mapping[str, Any], folder: Path) -> Ablation:
        return plan(_rows(config, rows, overrides), folder, seeds=seeds, folds=folds)

    workdir = Path(fv.workdir)
    key, values = _over(fv.over, rows) if fv.over is not None else ("", {"": None})
    studies = {
        text: planned({key: value}, workdir / point_folder(key, text))
        if key
        else planned({}, workdir)
        for text, value in values.items()
    }
    if fv.at is not None and fv.at not in studies:
        raise UserError(f"--at={fv.at}: --over has {', '.join(studies)}")
    mine = [*studies] if fv.at is None else [fv.at]
    job = Job(fv.row, fv.seed, fv.fold, fv.cell, fv.shared)
    if fv.list:
        for study in (studies[text] for text in mine):
            chosen = {cell.folder for cell in study.of(job)}
            for number, cell in enumerate(study.cells.values(), 1):
                if cell.folder in chosen:
                    print(f"{number}\t{cell.title}\t{cell.folder}")
        return

    def run(study: Ablation) -> None:
        ablate(
            study,
            job=job,
            collect=fv.collect,
            resume=fv.resume,
            other_code=fv.accept_other_code,
            evaluator=score_during_training,
            render=render_ablation,
        )

    if not key:
        run(*studies.values())
        return
    from vlfau_jax.report.sweep_picture import sweep_svg  # imports matplotlib

    sweep(
        Sweep(key, studies, workdir),
        None if fv.collect else run,
        values=mine,
        other_code=fv.accept_other_code,
        draw=sweep_svg,
    )


@verb(
    replace(
        WORKDIR,
        help="an evaluated run: its predictions.jsonl has our answers and the labels",
        bucket=False,
    ),
    Flag("out", str, "folder for comparison.json, .md, .tex and .csv", required=True),
    Flag("overwrite", bool, "replace a comparison that is there", False),
    Flag(
        "frames_from",
        Annotated[int, Field(ge=0, le=1)],
        "the number that the other tables give the frame that the labels call 1; by default, 0 "
        "where a tool's tables have a frame 0 and the labels have none",
    ),
    Flag(
        "min_confidence", Share, "rows below it are no answer, where a table has confidences", 0.0
    ),
    Flag(
        "intensity",
        Annotated[float, Field(gt=0, le=5)],
        "a unit of which a table has only an intensity (AU12_r) is active from here on",
        2.0,
    ),
    imports=("vlfau_jax.studies.compare",),
    inputs=" [NAME=]TABLE...",
)
def compare(fv: flags.FlagValues, inputs: list[str]) -> None:
    """Score other tools' tables beside a run, on the same frames and labels."""
    from vlfau_jax.studies.compare import compare
    from vlfau_jax.studies.tool_tables import Reading

    compare(
        fv.workdir,
        inputs,
        fv.out,
        reading=Reading(fv.frames_from, fv.min_confidence, fv.intensity),
        overwrite=fv.overwrite,
    )


@verb(
    Flag("model", str, "a model folder that export wrote", required=True),
    Flag("data_dir", str, "where prepare wrote the set to score it on", required=True),
    Flag(
        "dataset",
        str,
        "which set, where there are several",
        choices=Later("vlfau_jax.data.sets", "SETS"),
    ),
    Flag("variant", str, "which of its crops, such as cascade_128, where there are several", ""),
    Flag(
        "part",
        str,
        "of the sorted people: choose, every third from the first on; report, the others; or all",
        "all",
        choices=Later("vlfau_jax.studies.parts", "PARTS"),
    ),
    Flag("shifts", str, "a transfer.json whose shifts are added to the logits, as F1 shifted"),
    GROUPS,
    Flag("out", str, "folder for transfer.json, .md, .tex, .csv and .html"),
    Flag("overwrite", bool, "replace those that are there", False),
    Flag("crop_file", str, "the model or table that the model's crop rule reads", ""),
    Flag(
        "batch_size",
        Annotated[int, Field(ge=1, le=4096)],
        "faces in each run of the program, at most",
        32,
    ),
    imports=("vlfau_jax.report.transfer_page", "vlfau_jax.studies.transfer"),
    keeps_programs=True,
)
def transfer(fv: flags.FlagValues, _: list[str]) -> None:
    """Score an exported model on another domain's prepared set, on a part of its people."""
    from vlfau_jax.report.transfer_page import render_transfer
    from vlfau_jax.studies.transfer import Target, transfer

    transfer(
        fv.model,
        fv.data_dir,
        Target(fv.dataset or "", fv.variant, fv.part),
        shifts=fv.shifts,
        groups=fv.groups,
        out=fv.out,
        overwrite=fv.overwrite,
        batch_size=fv.batch_size,
        crop_file=fv.crop_file,
        render=render_transfer,
    )


def _check_collect(fv: flags.FlagValues, *jobs: str) -> None:
    for name in jobs:
        if fv.collect and fv[name].value is not None:
            raise UserError(f"--collect trains nothing; leave out --{name}")
    if fv.collect and fv.resume:
        raise UserError("--collect trains nothing; leave out --resume")


def _chosen(
    rows: Mapping[str, Mapping[str, Any]], only: str | None
) -> dict[str, Mapping[str, Any]]:
    """The rows of --only, in the order of the file; the first is the reference."""
    if only is None:
        return dict(rows)
    names = [name.strip() for name in only.split(",")]
    for name in names:
        if name not in rows:
            raise UserError(f"--only={only}: no row {name!r}; there are {', '.join(rows)}")
    return {name: rows[name] for name in rows if name in names}


def _over(text: str, rows: Mapping[str, Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    """The key of --over, and its values as they were written and as they are."""
    from vlfau_jax.cli.settings import check_key
    from vlfau_jax.studies.tables import NAME

    key, equals, listed = text.partition("=")
    values = {one.strip(): _value(one.strip()) for one in listed.split(",")}
    if not (key and equals and all(values)) or len(values) < len(listed.split(",")):
        raise UserError(f"--over={text}: give a key and its values, each once: KEY=V1,V2,...")
    try:
        check_key(f"config.{key}")
    except UserError as error:
        raise UserError(f"--over={text}: {error}") from None
    if key in ("seed", "data.fold"):
        raise UserError(f"--over={text}: --seeds and --folds say which are trained")
    for value in values:
        if not NAME.fullmatch(value):
            raise UserError(
                f"--over={text}: the value {value!r} is part of a folder's name; give letters, "
                "digits and . _ + - alone"
            )
    for name, overrides in rows.items():
        if key in overrides:
            raise UserError(f"--over={text}: row {name!r} sets {key} itself; leave one out")
    return key, values


def _value(text: str) -> Any:
    """A value of the command line: a number or True, False; else text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _rows(
    config: ConfigDict, rows: Mapping[str, Mapping[str, Any]], shared: Mapping[str, Any]
) -> list[Row]:
    """Each row with its settings, in which `shared` is set, too.

    Raises:
        UserError: names the row that cannot be built.
    """
    from vlfau_jax.cli.settings import check_key, resolve
    from vlfau_jax.studies.ablation import Row

    found = []
    for name, overrides in rows.items():
        plain = config.to_dict()
        try:
            for key, value in {**shared, **overrides}.items():
                check_key(f"config.{key}")
                *groups, last = key.split(".")
                place = plain
                for group in groups:
                    place = place[group]
                place[last] = value
            found.append(Row(name, dict(overrides), resolve(plain)))
        except UserError as error:
            raise UserError(f"row {name!r} cannot be built: {error}") from None
    return found


def _numbers(flag: str, text: str) -> tuple[int, ...]:
    """The numbers of a flag, "1,2,3", each once, in the order given."""
    cells = [cell.strip() for cell in text.split(",")]
    if not all(c.isascii() and c.isdigit() and 0 < int(c[:8]) <= _MOST_FOLDS for c in cells):
        raise UserError(f"{flag}={text}: give numbers from 1 on, such as 1,2,3")
    if len(set(map(int, cells))) < len(cells):
        raise UserError(f"{flag}={text}: give each number once")
    return tuple(map(int, cells))
