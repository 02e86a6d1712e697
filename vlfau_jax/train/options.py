"""The options of the training run, and those of a whole experiment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol

from pydantic import Field

from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.errors import UserError
from vlfau_jax.losses.joint import ObjectiveOptions
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.options import FilePath, Options, Steps, StepsOrNone
from vlfau_jax.sharding.mesh import MeshOptions
from vlfau_jax.train.optimizer import OptimizerOptions


@dataclass(frozen=True)
class TrainOptions(Options):
    """Length, batch sizes, and how often to save and score.

    Attributes:
        steps: steps in all, those before a resume included.
        batch_size: examples a step, over all devices and hosts.
        device_batch: examples that a device computes at once, at most; 0 for its whole share of the
            batch. A larger share is split into equal micro-batches, as few as possible, whose
            gradients add up to the batch's own (`make_train_step`).
        skip_steps: steps with a loss or gradient that is not finite that may be skipped, counted
            over the run, before one ends it.
        checkpoint_every: steps between checkpoints; the last step always has one.
        keep: newest checkpoints to keep.
        keep_best: best checkpoints to keep as well, by mean F1; then every scored step gets a
            checkpoint.
        log_every: steps between lines of metrics.jsonl.
        eval_every: steps between scores on the validation subjects (data.validation_subjects),
            or on the test subjects where there are none; 0 for never.
        warm_start: safetensors file of initial parameters; empty for random ones.
    """

    group: ClassVar[str] = "train"

    steps: Steps = 1000
    batch_size: Annotated[int, Field(ge=1, le=2**20)] = 64
    device_batch: Annotated[int, Field(ge=0, le=2**20)] = 0
    skip_steps: StepsOrNone = 0
    checkpoint_every: Steps = 500
    keep: Annotated[int, Field(ge=1, le=10_000)] = 2
    keep_best: Annotated[int, Field(ge=0, le=10_000)] = 0
    log_every: Steps = 10
    eval_every: StepsOrNone = 0
    warm_start: FilePath = ""

    def __post_init__(self) -> None:
        """Refuses impossible numbers, naming field and value."""
        super().__post_init__()
        if self.keep_best and not self.eval_every:
            raise UserError(
                f"train.keep_best={self.keep_best}: nothing is scored; give train.eval_every, too"
            )


class Settings(Protocol):
    """The options of an experiment; `vlfau_jax.cli.settings.Settings` is one."""

    seed: int
    data: DataOptions
    model: ModelOptions
    objective: ObjectiveOptions
    optimizer: OptimizerOptions
    train: TrainOptions
    mesh: MeshOptions
