"""Verbs of a training run: train and evaluate, as several processes, and compile_only."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from absl import flags
from ml_collections import ConfigDict, config_flags
from pydantic import Field

from vlfau_jax.buckets import is_bucket
from vlfau_jax.cli.verb import BEAMS, CHECKPOINT, CONFIG, GROUPS, WORKDIR, ConfigFlag, Flag, verb
from vlfau_jax.errors import UserError

_Fold = Annotated[int, Field(ge=0, le=1000)]
PROCESSES = (
    Flag(
        "coordinator",
        str,
        "HOST:PORT of process 0, to which all --processes connect; without the three flags, as "
        "Slurm, Open MPI, Kubernetes or Cloud TPU state it",
    ),
    Flag("processes", Annotated[int, Field(ge=1, le=2**20)], "number of processes"),
    Flag("process", Annotated[int, Field(ge=0, lt=2**20)], "number of this process, from 0"),
    Flag(
        "lost_after",
        Annotated[float, Field(ge=1, le=86_400)],
        "seconds to wait for the other processes at the start, and later for their next heartbeat; "
        "and, with --workdir in a bucket, for a sign of a run that was writing there",
        120.0,
    ),
)
HARDWARE = ConfigFlag(
    "hardware",
    "table of keys by kind of device, a file or the one that ships: hardware; "
    "--config.key overrides it",
)


@verb(
    CONFIG,
    HARDWARE,
    replace(WORKDIR, help="where checkpoints and metrics go: a folder, gs://... or s3://..."),
    Flag("resume", bool, "continue from the workdir's last checkpoint", False),
    Flag("overwrite", bool, "empty the workdir first", False),
    Flag(
        "watch",
        str,
        "send the metrics there as well, repeatable: wandb:PROJECT, mlflow:EXPERIMENT, or a "
        "webhook's URL, which gets JSON",
        repeated=True,
    ),
    *PROCESSES,
    imports=("vlfau_jax.evaluation.during_training", "vlfau_jax.train.loop"),
    keeps_programs=True,
)
def train(fv: flags.FlagValues, _: list[str]) -> None:
    """Train an experiment."""
    from vlfau_jax.cli.settings import resolve
    from vlfau_jax.evaluation.during_training import score_during_training
    from vlfau_jax.train.loop import train

    with _process_group(fv, preemptible=True), _workdir(fv) as workdir:
        train(
            resolve(for_this_device(fv)),
            workdir,
            shared=not is_bucket(fv.workdir),
            resume=fv.resume,
            overwrite=fv.overwrite,
            evaluator=score_during_training,
            watch=fv.watch or (),
        )


@verb(
    WORKDIR,
    CHECKPOINT,
    Flag(
        "fold",
        _Fold,
        "the fold to test; the trained one when absent",
    ),
    BEAMS,
    GROUPS,
    Flag("resume", bool, "go on with the answers of an interrupted evaluation", False),
    Flag(
        "counterfactual",
        Annotated[int, Field(ge=0, le=2**20)],
        "hide the units' regions on this many faces, and the cells of their maps: what becomes of "
        "scores and sentences",
        0,
    ),
    *PROCESSES,
    imports=("vlfau_jax.evaluation.evaluate", "vlfau_jax.report"),
    keeps_programs=True,
)
def evaluate(fv: flags.FlagValues, _: list[str]) -> None:
    """Score a run's unseen subjects: scores.json, predictions.jsonl, report.html."""
    import jax

    from vlfau_jax.evaluation.evaluate import evaluate
    from vlfau_jax.report import render

    with _process_group(fv, preemptible=False), _workdir(fv) as workdir:
        if fv.resume and is_bucket(fv.workdir) and jax.process_count() > 1:
            raise UserError(
                f"--resume: the answers that an evaluation has kept are in no bucket; evaluate "
                f"--workdir={fv.workdir} by one process, or anew without --resume"
            )
        evaluate(
            workdir,
            fold=fv.fold,
            beams=fv.beams,
            checkpoint=fv.checkpoint,
            resume=fv.resume,
            groups=fv.groups,
            render=render,
            counterfactual=fv.counterfactual,
        )


@verb(
    CONFIG,
    Flag(
        "topology",
        str,
        "devices to compile for, which need not be here: the chips along each side of a TPU's "
        "torus (v5e:4x4, v5p:4x4x4), or a number of GPUs (h100:8)",
        required=True,
    ),
    HARDWARE,
    Flag(
        "per_chip",
        Annotated[int, Field(ge=1, le=2**16)],
        "images a step on each device that has images of its own, instead of train.batch_size",
    ),
    Flag(
        "search_batch",
        bool,
        "find the most images that a device can compute at once; several compilations, the first "
        "with --per_chip (32 when absent)",
        False,
    ),
    Flag("out", str, "JSON file for the account"),
    Flag("overwrite", bool, "replace that file", False),
    imports=("vlfau_jax.account.compile_only",),
)
def compile_only(fv: flags.FlagValues, _: list[str]) -> None:
    """Compile the training step for devices that are not here: memory, traffic, roofline."""
    from vlfau_jax.account.compile_only import compile_only
    from vlfau_jax.account.topology import open_topology
    from vlfau_jax.cli.settings import resolve

    compile_only(
        resolve(_for_device(fv, lambda: open_topology(fv.topology)[0].device_kind)),
        fv.topology,
        per_chip=fv.per_chip,
        search_batch=fv.search_batch,
        out=fv.out,
        overwrite=fv.overwrite,
    )


def _process_group(fv: flags.FlagValues, *, preemptible: bool) -> AbstractContextManager[None]:
    """Connects to the other processes, if there are any; must precede every other use of JAX."""
    from vlfau_jax.distributed.processes import process_group

    return process_group(
        fv.coordinator,
        fv.processes,
        fv.process,
        lost_after=fv.lost_after,
        preemptible=preemptible,
    )


def _workdir(fv: flags.FlagValues) -> AbstractContextManager[Path]:
    """--workdir, or the local copy of one in a bucket, which follows what changes there."""
    from vlfau_jax.train.bucket_workdir import local_workdir

    return local_workdir(fv.workdir, writes=True, lease=fv.lost_after)


def for_this_device(fv: flags.FlagValues) -> ConfigDict:
    """The experiment, with the keys that --hardware sets for the devices that are here."""
    import jax

    return _for_device(fv, lambda: jax.devices()[0].device_kind)


def _for_device(fv: flags.FlagValues, device_kind: Callable[[], str]) -> ConfigDict:
    """The experiment, with the keys that --hardware sets for a kind of device."""
    import jax

    from vlfau_jax.cli.settings import for_device

    if fv.hardware is None:
        return fv.config
    kind = device_kind()
    given = config_flags.get_override_values(fv["config"])
    config, chosen = for_device(fv.config, fv.hardware, kind, given)
    if jax.process_index() == 0:
        keys = ", ".join(f"{key}={value}" for key, value in chosen.items())
        print(f"hardware: {kind}: {keys or 'every key was given'}", file=sys.stderr)
    return config
