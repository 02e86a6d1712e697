"""Verbs of a training run: train and evaluate. Both can run as several processes."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from absl import flags
from ml_collections import ConfigDict, config_flags
from pydantic import Field

from vlfau_jax.cli.verb import BEAMS, CHECKPOINT, CONFIG, WORKDIR, ConfigFlag, Flag, verb

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
        "seconds to wait for the other processes at the start, and later for their next heartbeat",
        120.0,
    ),
)


@verb(
    CONFIG,
    ConfigFlag(
        "hardware",
        "table of keys by kind of device, a file or the one that ships: hardware; "
        "--config.key overrides it",
    ),
    replace(WORKDIR, help="where checkpoints and metrics go"),
    Flag("resume", bool, "continue from the workdir's last checkpoint", False),
    Flag("overwrite", bool, "empty the workdir first", False),
    *PROCESSES,
    imports=("vlfau_jax.evaluation.during_training", "vlfau_jax.train.loop"),
    keeps_programs=True,
)
def train(fv: flags.FlagValues, _: list[str]) -> None:
    """Train an experiment."""
    from vlfau_jax.cli.settings import resolve
    from vlfau_jax.evaluation.during_training import score_during_training
    from vlfau_jax.train.loop import train

    with _process_group(fv, preemptible=True):
        train(
            resolve(_for_this_device(fv)),
            Path(fv.workdir),
            resume=fv.resume,
            overwrite=fv.overwrite,
            evaluator=score_during_training,
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
    Flag("resume", bool, "go on with the answers of an interrupted evaluation", False),
    *PROCESSES,
    imports=("vlfau_jax.evaluation.evaluate", "vlfau_jax.report"),
    keeps_programs=True,
)
def evaluate(fv: flags.FlagValues, _: list[str]) -> None:
    """Score a run's unseen subjects: scores.json, predictions.jsonl, report.html."""
    from vlfau_jax.evaluation.evaluate import evaluate
    from vlfau_jax.report import render

    with _process_group(fv, preemptible=False):
        evaluate(
            fv.workdir,
            fold=fv.fold,
            beams=fv.beams,
            checkpoint=fv.checkpoint,
            resume=fv.resume,
            render=render,
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


def _for_this_device(fv: flags.FlagValues) -> ConfigDict:
    """The experiment, with the keys that --hardware sets for JAX's devices."""
    import jax

    from vlfau_jax.cli.settings import for_device

    if fv.hardware is None:
        return fv.config
    kind = jax.devices()[0].device_kind
    given = config_flags.get_override_values(fv["config"])
    config, chosen = for_device(fv.config, fv.hardware, kind, given)
    if jax.process_index() == 0:
        keys = ", ".join(f"{key}={value}" for key, value in chosen.items())
        print(f"hardware: {kind}: {keys or 'every key was given'}", file=sys.stderr)
    return config
