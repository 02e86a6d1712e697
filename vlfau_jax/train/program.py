"""What an experiment's step is compiled from: network, mesh, optimizer and shapes, and no data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optax
from jax.sharding import Mesh

from vlfau_jax.data.read.batch import Spec, spec
from vlfau_jax.data.text.captions import CaptionTables
from vlfau_jax.model.vlfau import VLFAU
from vlfau_jax.sharding.arrays import BATCH_AXES
from vlfau_jax.train.accumulate import micro_batches
from vlfau_jax.train.optimizer import make_optimizer, make_schedule
from vlfau_jax.train.options import Settings
from vlfau_jax.train.state import TrainState, abstract_state, initial_state
from vlfau_jax.train.step import TrainStep, make_train_step


@dataclass(frozen=True)
class Program:
    """The step of an experiment and what it is made of; nothing has been compiled yet.

    Attributes:
        settings: the experiment.
        class_weights: of the loss, float32 [n].
        spec: the global batch.
        mesh: the devices.
        model: the network.
        optimizer: from gradients to updates.
        schedule: from step to learning rate.
        abstract: shapes, dtypes and shardings of the state.
    """

    settings: Settings
    class_weights: np.ndarray
    spec: Spec
    mesh: Mesh
    model: VLFAU
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    abstract: TrainState

    @property
    def micro_batches(self) -> int:
        """The number of parts into which every device's share of a batch is split."""
        train, shards = self.settings.train, math.prod(self.mesh.shape[a] for a in BATCH_AXES)
        return micro_batches(train.batch_size // shards, train.device_batch)

    def train_step(self) -> TrainStep:
        """The jitted step of this experiment."""
        return make_train_step(
            self.model,
            self.optimizer,
            self.schedule,
            self.mesh,
            self.abstract,
            objective=self.settings.objective,
            class_weights=self.class_weights,
            seed=self.settings.seed,
            frozen=self.settings.optimizer.frozen,
            ema_decay=self.settings.optimizer.ema_decay,
            parts=self.micro_batches,
            skip_steps=self.settings.train.skip_steps,
        )

    def initial_state(self, params: Mapping[str, Any] | None = None) -> TrainState:
        """The state at step 0; `params`, of the network or of some modules, replace random ones."""
        return initial_state(
            self.model,
            self.optimizer,
            self.spec,
            self.abstract,
            self.settings.seed,
            params,
            frozen=self.settings.optimizer.frozen,
        )


def build_program(
    settings: Settings,
    mesh: Mesh,
    captions: CaptionTables,
    vocabulary_size: int,
    class_weights: np.ndarray,
) -> Program:
    """Builds all parts for the units of `captions`; the devices of `mesh` may be described ones."""
    train, optimizer_options = settings.train, settings.optimizer
    batch = spec(
        batch_size=train.batch_size,
        image_size=settings.data.image_size,
        units=len(captions.aus),
        max_local_tokens=captions.max_local_tokens,
        max_global_tokens=captions.max_global_tokens,
    )
    # A trained network does not depend on its initial file: exports hold no paths.
    options = replace(settings.model, backbone_weights="")
    if optimizer_options.freeze_backbone:  # its drop path would only add noise for the rest
        options = replace(options, drop_path=0.0)
    model = VLFAU(options, len(captions.aus), vocabulary_size)
    schedule = make_schedule(optimizer_options, train.steps)
    optimizer = make_optimizer(optimizer_options, schedule)
    abstract = abstract_state(
        model,
        optimizer,
        batch,
        mesh,
        frozen=optimizer_options.frozen,
        averaged=optimizer_options.ema_decay > 0,
    )
    return Program(settings, class_weights, batch, mesh, model, optimizer, schedule, abstract)
