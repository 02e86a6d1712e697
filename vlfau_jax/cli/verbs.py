"""The verbs of the command line: the flags that each takes, and what it runs.

Each imports what it runs when it runs, so that --help and a mistake need not wait for JAX.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from vlfau_jax.errors import UserError


@dataclass(frozen=True)
class Verb:
    """One verb: what it does, the flags it takes, the flags it needs, and how it runs.

    `module` is what `run` imports, for seconds: named, so that it can be imported before.
    """

    summary: str
    define: Callable[[flags.FlagValues, list[str]], None]
    run: Callable[[flags.FlagValues, list[str]], None]
    module: str
    required: tuple[str, ...] = ()
    inputs: str = ""


def _define_synthesize(fv: flags.FlagValues, argv: list[str]) -> None:
    from vlfau_jax.data.sets import coded_runs_help, frames_help, layouts

    flags.DEFINE_enum("layout", None, list(layouts()), "raw layout to write", flag_values=fv)
    flags.DEFINE_string("out", None, "folder to create", flag_values=fv)
    flags.DEFINE_integer("subjects", 27, "how many people; all traps from 4 on", flag_values=fv)
    flags.DEFINE_integer("frames", 16, frames_help(), flag_values=fv)
    flags.DEFINE_boolean("coded_runs", False, coded_runs_help(), flag_values=fv)
    flags.DEFINE_integer("seed", 0, "which people and which movements", flag_values=fv)
    flags.DEFINE_integer("size", 160, "frame height and width in pixels", flag_values=fv)
    flags.DEFINE_integer("workers", os.cpu_count() or 1, "processes", flag_values=fv)


def _synthesize(fv: flags.FlagValues, _: list[str]) -> None:
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
    )
    print(
        f"{fv.out}: rendered faces in the raw layout of {fv.layout}; SYNTHETIC.json lists the traps"
    )


def _define_prepare(fv: flags.FlagValues, argv: list[str]) -> None:
    from vlfau_jax.data.crop.registry import RULES, crop_file_help, crop_help
    from vlfau_jax.data.sets import SETS, camera_help

    flags.DEFINE_enum("dataset", None, list(SETS), "which raw layout to read", flag_values=fv)
    flags.DEFINE_string("raw_dir", None, "the raw tree", flag_values=fv)
    flags.DEFINE_string("data_dir", None, "where the prepared set goes", flag_values=fv)
    flags.DEFINE_enum("crop", "cascade", list(RULES), crop_help(), flag_values=fv)
    flags.DEFINE_integer("crop_size", 256, "height and width of a crop in pixels", flag_values=fv)
    flags.DEFINE_string("crop_file", None, crop_file_help(), flag_values=fv)
    flags.DEFINE_string("camera", None, camera_help(), flag_values=fv)
    flags.DEFINE_integer(
        "frame_offset", 0, "label frame n shows picture n + this, -9999 to 9999", flag_values=fv
    )
    flags.DEFINE_boolean("overwrite", False, "replace a set that is already there", flag_values=fv)
    flags.DEFINE_integer("workers", None, "processes; one per core when absent", flag_values=fv)
    flags.DEFINE_string(
        "beam_runner",
        None,
        "Apache Beam runner instead of processes: DirectRunner, DataflowRunner, ...; its workers "
        "must see raw_dir and data_dir on a shared file system",
        flag_values=fv,
    )
    flags.DEFINE_multi_string(
        "beam_options", None, "one of Beam's own options, name=value", flag_values=fv
    )


def _prepare(fv: flags.FlagValues, _: list[str]) -> None:
    from vlfau_jax.data.prepare.prepare import prepare

    logging.set_verbosity(logging.ERROR)  # tfds remarks on every crop rule that it does not list
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
    )


def _define_config(fv: flags.FlagValues, argv: list[str]) -> None:
    config_flags.DEFINE_config_file(
        "config",
        None,
        "experiment file, configs/X.py[:args]; --config.key=value changes a key",
        flag_values=fv,
        sys_argv=argv,
    )


def _define_processes(fv: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "coordinator",
        None,
        "HOST:PORT of process 0, where all --processes meet; with none of the three, what Slurm, "
        "Open MPI, Kubernetes or Cloud TPU say",
        flag_values=fv,
    )
    flags.DEFINE_integer("processes", None, "how many processes train as one", flag_values=fv)
    flags.DEFINE_integer("process", None, "which of them this is, from 0", flag_values=fv)
    flags.DEFINE_float(
        "lost_after",
        120.0,
        "seconds to wait for the other processes at the start, and later without a sign of life",
        flag_values=fv,
    )


def _together(fv: flags.FlagValues, *, preemptible: bool) -> AbstractContextManager[None]:
    """Joins the other processes, if there are any; it must come before all else of JAX."""
    from vlfau_jax.distributed.processes import process_group

    return process_group(
        fv.coordinator,
        fv.processes,
        fv.process,
        lost_after=fv.lost_after,
        preemptible=preemptible,
    )


def _define_train(fv: flags.FlagValues, argv: list[str]) -> None:
    _define_config(fv, argv)
    config_flags.DEFINE_config_file(
        "hardware",
        None,
        "what suits which device, configs/hardware.py: sets keys that --config.key does not",
        flag_values=fv,
        sys_argv=argv,
    )
    flags.DEFINE_string("workdir", None, "where checkpoints and metrics go", flag_values=fv)
    flags.DEFINE_boolean(
        "resume", False, "go on from the workdir's last checkpoint", flag_values=fv
    )
    flags.DEFINE_boolean("overwrite", False, "empty the workdir first", flag_values=fv)
    _define_processes(fv)


def _train(fv: flags.FlagValues, _: list[str]) -> None:
    from vlfau_jax.cli.settings import resolve
    from vlfau_jax.evaluation.during_training import score_during_training
    from vlfau_jax.train.loop import train

    with _together(fv, preemptible=True):
        train(
            resolve(_for_this_device(fv)),
            Path(fv.workdir),
            resume=fv.resume,
            overwrite=fv.overwrite,
            evaluator=score_during_training,
        )


def _for_this_device(fv: flags.FlagValues) -> ConfigDict:
    """The experiment, with what --hardware says of JAX's devices."""
    import jax

    from vlfau_jax.cli.settings import for_device

    if fv.hardware is None:
        return fv.config
    kind = jax.devices()[0].device_kind
    given = config_flags.get_override_values(fv["config"])
    config, chosen = for_device(fv.config, fv.hardware, kind, given)
    if jax.process_index() == 0:
        told = ", ".join(f"{key}={value}" for key, value in chosen.items())
        print(f"hardware: {kind}: {told or 'every key was given'}", file=sys.stderr)
    return config


def _define_inspect(fv: flags.FlagValues, argv: list[str]) -> None:
    _define_config(fv, argv)
    flags.DEFINE_boolean(
        "data", False, "look at the training faces, labels and captions", flag_values=fv
    )
    flags.DEFINE_string("out", None, "folder for pictures, index.html, labels.json", flag_values=fv)
    flags.DEFINE_integer("faces", 12, "how many of the first training faces", flag_values=fv)
    flags.DEFINE_boolean("overwrite", False, "replace what an earlier look left", flag_values=fv)


def _inspect(fv: flags.FlagValues, _: list[str]) -> None:
    from vlfau_jax.cli.settings import resolve
    from vlfau_jax.report.training_data import inspect_data

    if not fv.data:
        raise UserError("inspect: --data must be given; the data are what it can show so far")
    inspect_data(resolve(fv.config), fv.out, faces=fv.faces, overwrite=fv.overwrite)


def _define_benchmark(fv: flags.FlagValues, argv: list[str]) -> None:
    _define_config(fv, argv)
    flags.DEFINE_boolean(
        "data", False, "measure the data pipeline: images/s, time of each stage", flag_values=fv
    )
    flags.DEFINE_float("seconds", 10.0, "how long to measure", flag_values=fv)
    flags.DEFINE_string("out", None, "JSON file for the numbers", flag_values=fv)
    flags.DEFINE_boolean("overwrite", False, "replace that file", flag_values=fv)


def _benchmark(fv: flags.FlagValues, _: list[str]) -> None:
    from vlfau_jax.account.data_benchmark import benchmark_data
    from vlfau_jax.cli.settings import resolve

    if not fv.data:
        raise UserError("benchmark: --data must be given; the data are what it can measure so far")
    benchmark_data(resolve(fv.config), seconds=fv.seconds, out=fv.out, overwrite=fv.overwrite)


def _define_workdir(fv: flags.FlagValues, argv: list[str]) -> None:
    flags.DEFINE_string("workdir", None, "a training run's folder", flag_values=fv)
    flags.DEFINE_string(
        "checkpoint", "last", "last, best (by the scores of training) or a step", flag_values=fv
    )


def _define_beams(fv: flags.FlagValues) -> None:
    flags.DEFINE_integer(
        "beams", 1, "sentences searched for at once, 1 (greedy) to 16", flag_values=fv
    )


def _define_evaluate(fv: flags.FlagValues, argv: list[str]) -> None:
    _define_workdir(fv, argv)
    flags.DEFINE_integer(
        "fold", None, "the fold to test; the trained one when absent", flag_values=fv
    )
    _define_beams(fv)
    _define_processes(fv)


def _evaluate(fv: flags.FlagValues, _: list[str]) -> None:
    from vlfau_jax.evaluation.evaluate import evaluate
    from vlfau_jax.report import render

    with _together(fv, preemptible=False):
        evaluate(fv.workdir, fold=fv.fold, beams=fv.beams, checkpoint=fv.checkpoint, render=render)


def _define_export(fv: flags.FlagValues, argv: list[str]) -> None:
    _define_workdir(fv, argv)
    flags.DEFINE_string("out", None, "model folder to create", flag_values=fv)
    flags.DEFINE_boolean("overwrite", False, "replace an older model there", flag_values=fv)
    _define_beams(fv)


def _export(fv: flags.FlagValues, _: list[str]) -> None:
    from vlfau_jax.inference.export import export

    export(fv.workdir, fv.out, overwrite=fv.overwrite, beams=fv.beams, checkpoint=fv.checkpoint)


def _define_warm_start(fv: flags.FlagValues, argv: list[str]) -> None:
    _define_workdir(fv, argv)
    flags.DEFINE_string("out", None, "safetensors file to create", flag_values=fv)


def _warm_start(fv: flags.FlagValues, _: list[str]) -> None:
    from vlfau_jax.inference.warm_start import write_warm_start

    write_warm_start(fv.workdir, fv.out, checkpoint=fv.checkpoint)


def _define_import_backbone(fv: flags.FlagValues, argv: list[str]) -> None:
    flags.DEFINE_string(
        "source", None, "folder with config.json and model.safetensors", flag_values=fv
    )
    flags.DEFINE_string("out", None, "safetensors file to create", flag_values=fv)


def _import_backbone(fv: flags.FlagValues, _: list[str]) -> None:
    from vlfau_jax.train.huggingface import import_backbone

    import_backbone(fv.source, fv.out)


def _define_predict(fv: flags.FlagValues, argv: list[str]) -> None:
    flags.DEFINE_string("model", None, "a model folder that export wrote", flag_values=fv)
    flags.DEFINE_string("out", None, "folder for predictions.csv and .jsonl", flag_values=fv)
    flags.DEFINE_boolean("overwrite", False, "replace predictions that are there", flag_values=fv)
    flags.DEFINE_string(
        "crop_file", "", "the model or table that the model's crop rule reads", flag_values=fv
    )


def _predict(fv: flags.FlagValues, inputs: list[str]) -> None:
    from vlfau_jax.inference.predict import predict

    predict(fv.model, inputs, fv.out, overwrite=fv.overwrite, crop_file=fv.crop_file)


VERBS = {
    "synthesize": Verb(
        "write rendered faces as a raw tree, in the layout of a data set",
        _define_synthesize,
        _synthesize,
        "vlfau_jax.data.sets",
        ("layout", "out"),
    ),
    "prepare": Verb(
        "turn a raw tree into a data set for training, with an integrity report",
        _define_prepare,
        _prepare,
        "vlfau_jax.data.prepare.prepare",
        ("dataset", "raw_dir", "data_dir"),
    ),
    "inspect": Verb(
        "show what training would see: faces with labels and captions, label statistics",
        _define_inspect,
        _inspect,
        "vlfau_jax.report.training_data",
        ("config", "out"),
    ),
    "benchmark": Verb(
        "measure how fast the data pipeline feeds training",
        _define_benchmark,
        _benchmark,
        "vlfau_jax.account.data_benchmark",
        ("config",),
    ),
    "train": Verb(
        "train an experiment",
        _define_train,
        _train,
        "vlfau_jax.evaluation.during_training",
        ("config", "workdir"),
    ),
    "evaluate": Verb(
        "score a run's unseen subjects: scores.json, predictions.jsonl, report.html",
        _define_evaluate,
        _evaluate,
        "vlfau_jax.evaluation.evaluate",
        ("workdir",),
    ),
    "export": Verb(
        "write a run's network as a self-contained model folder",
        _define_export,
        _export,
        "vlfau_jax.inference.export",
        ("workdir", "out"),
    ),
    "warm_start": Verb(
        "write a run's parameters as a small file for train.warm_start",
        _define_warm_start,
        _warm_start,
        "vlfau_jax.inference.warm_start",
        ("workdir", "out"),
    ),
    "import_backbone": Verb(
        "write a Hugging Face Swin's parameters as a file for model.backbone_weights",
        _define_import_backbone,
        _import_backbone,
        "vlfau_jax.train.huggingface",
        ("source", "out"),
    ),
    "predict": Verb(
        "label pictures and folders of pictures with an exported model",
        _define_predict,
        _predict,
        "vlfau_jax.inference.predict",
        ("model", "out"),
        inputs=" INPUT...",
    ),
}
