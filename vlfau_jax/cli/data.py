"""Verbs of data sets: synthesize, prepare and inspect."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from absl import flags, logging
from pydantic import Field

from vlfau_jax.cli.verb import CONFIG, WORKDIR, Flag, Later, verb
from vlfau_jax.errors import UserError
from vlfau_jax.options import Workers

_SETS, _CROPS = "vlfau_jax.data.sets", "vlfau_jax.data.crop.registry"
_LABELS = "vlfau_jax.data.raw.label_options"
_Offset = Annotated[int, Field(ge=-9999, le=9999)]


@verb(
    Flag("layout", str, "raw layout to write", required=True, choices=Later(_SETS, "layouts")),
    Flag("out", str, "folder to create", required=True),
    Flag(
        "subjects",
        int,
        "number of subjects; 4 or more for all traps",
        27,
    ),
    Flag("frames", int, Later(_SETS, "frames_help"), 16),
    Flag("coded_runs", bool, Later(_SETS, "coded_runs_help"), False),
    Flag("seed", int, "of the subjects and their movements", 0),
    Flag("size", int, "frame height and width in pixels", 160),
    Flag(
        "renderer",
        str,
        "relief: drawn faces, as the demo's; mesh: heads in three dimensions, filmed in scenes",
        "relief",
        choices=Later("vlfau_jax.data.set_record", "RENDERERS"),
    ),
    Flag("workers", int, "processes", os.cpu_count() or 1),
    imports=("vlfau_jax.data.sets", "vlfau_jax.data.synthetic.trees"),
)
def synthesize(fv: flags.FlagValues, _: list[str]) -> None:
    """Write rendered faces as a raw tree, in the layout of a data set."""
    from vlfau_jax.data.sets import layouts, with_coded_runs
    from vlfau_jax.data.synthetic.trees import write_tree

    layout = layouts()[fv.layout]
    if fv.coded_runs and not layout.coded_runs:
        raise UserError(
            f"--coded_runs: {fv.layout} has no such runs; give --layout={with_coded_runs()}"
        )
    if fv.coded_runs and fv["frames"].present:
        raise UserError("--coded_runs and --frames exclude each other; give one")
    write_tree(
        layout,
        Path(fv.out),
        subjects=fv.subjects,
        frames=None if fv.coded_runs else fv.frames,
        seed=fv.seed,
        size=fv.size,
        workers=fv.workers,
        renderer=fv.renderer,
    )
    print(
        f"{fv.out}: rendered faces in the raw layout of {fv.layout}; SYNTHETIC.json lists the "
        "traps, people.csv the people"
    )


@verb(
    Flag("dataset", str, "which raw layout to read", required=True, choices=Later(_SETS, "SETS")),
    Flag("raw_dir", str, "the raw tree", required=True),
    Flag("data_dir", str, "where the prepared set goes", required=True),
    Flag("crop", str, Later(_CROPS, "crop_help"), "cascade", choices=Later(_CROPS, "RULES")),
    Flag("crop_size", int, "height and width of a crop in pixels", 256),
    Flag("crop_file", str, Later(_CROPS, "crop_file_help")),
    Flag("camera", str, Later(_SETS, "camera_help")),
    Flag("frame_offset", _Offset, "label frame n shows picture n + this, -9999 to 9999", 0),
    Flag(
        "accept_similar_subjects",
        bool,
        "subjects whose names differ only in upper and lower case, zeros before numbers, or "
        "separators (F01 and f01, F3 and F03, a_b and ab) are different people; else prepare "
        "stops, because one person in training and test makes a model look better than it is",
        False,
    ),
    Flag(
        "au_columns",
        str,
        Later(_LABELS, "au_columns_help"),
        "occurrence",
        choices=Later(_LABELS, "AU_COLUMNS"),
    ),
    Flag(
        "unknown_codes",
        str,
        "numbers in labels.csv that mean unknown, as an empty cell does: -1,9",
        "",
    ),
    Flag(
        "subjects_from_folders",
        bool,
        "labels.csv has no column subject: the first folder of a picture's path is its subject",
        False,
    ),
    Flag("overwrite", bool, "replace a set that is already there", False),
    Flag("workers", Workers, "processes; one per core when absent"),
    Flag(
        "beam_runner",
        str,
        "Apache Beam runner instead of processes: DirectRunner, DataflowRunner, ...; its workers "
        "must see raw_dir and data_dir on a shared file system",
    ),
    Flag("beam_options", str, "one of Beam's own options, name=value", repeated=True),
    imports=("vlfau_jax.data.prepare.prepare",),
)
def prepare(fv: flags.FlagValues, _: list[str]) -> None:
    """Turn a raw tree into a data set for training, with an integrity report."""
    from vlfau_jax.data.prepare.prepare import prepare
    from vlfau_jax.data.raw.label_options import LabelOptions

    logging.set_verbosity(logging.ERROR)  # tfds warns about every crop rule that it does not list
    prepare(
        fv.dataset,
        fv.raw_dir,
        fv.data_dir,
        crop=fv.crop,
        crop_size=fv.crop_size,
        crop_file=fv.crop_file or "",
        camera=fv.camera or "",
        frame_offset=fv.frame_offset,
        workers=fv.workers,
        beam_runner=fv.beam_runner or "",
        beam_options=fv.beam_options or (),
        overwrite=fv.overwrite,
        options=LabelOptions(
            accept_similar_subjects=fv.accept_similar_subjects,
            au_columns=fv.au_columns,
            unknown_codes=tuple(filter(None, fv.unknown_codes.replace(" ", "").split(","))),
            subjects_from_folders=fv.subjects_from_folders,
        ),
    )


@verb(
    replace(CONFIG, required=False),
    replace(
        WORKDIR,
        help="print one line on a run: step, speed, MFU, last checkpoint, writer, expected end",
        required=False,
    ),
    Flag("data", bool, "show the training faces, labels and captions of --config", False),
    Flag("out", str, "folder for pictures, index.html, labels.json"),
    Flag("faces", int, "how many of the first training faces", 12),
    Flag("verify", bool, "read every shard first and compare it with its digest", False),
    Flag("overwrite", bool, "replace the files of an earlier call", False),
    imports=("vlfau_jax.account.run_status", "vlfau_jax.report.training_data"),
)
def inspect(fv: flags.FlagValues, _: list[str]) -> None:
    """Show what training would see, faces with labels and captions; or how far a run is."""
    from vlfau_jax.account.run_status import inspect_run
    from vlfau_jax.cli.settings import resolve
    from vlfau_jax.report.training_data import inspect_data
    from vlfau_jax.train.bucket_workdir import copied_records

    if fv.workdir and not (fv.data or fv.config or fv.out):
        with copied_records(fv.workdir) as (folder, writer):
            print(inspect_run(folder, fv.workdir, writer))
        return
    if fv.workdir or not (fv.data and fv.config and fv.out):
        raise UserError(
            "inspect: --data must be given, with --config and --out, to show the training faces; "
            "or --workdir alone, for a line on a run"
        )
    inspect_data(
        resolve(fv.config), fv.out, faces=fv.faces, verify=fv.verify, overwrite=fv.overwrite
    )
