"""AdamW with linear warm-up and cosine decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import optax

from vlfau_jax.errors import UserError

# Biases, relative-position biases among them, and normalisation scales are not pulled towards zero
# (arXiv 2103.14030, section A2); the ending of a name tells.
UNDECAYED = ("bias", "scale")


@dataclass(frozen=True)
class OptimizerOptions:
    """AdamW; `decay_steps` is where the cosine ends (0: at train.steps)."""

    learning_rate: float = 1e-4
    warmup_steps: int = 500
    decay_steps: int = 0
    end_factor: float = 0.0
    weight_decay: float = 5e-4
    clip_norm: float = 1.0
    b1: float = 0.9
    b2: float = 0.999

    def __post_init__(self) -> None:
        """Refuses an impossible schedule, naming field and value."""
        for name in ("learning_rate", "clip_norm"):
            if getattr(self, name) <= 0:
                raise UserError(f"optimizer.{name}={getattr(self, name)}: give more than 0")
        for name in ("warmup_steps", "decay_steps", "end_factor", "weight_decay"):
            if getattr(self, name) < 0:
                raise UserError(f"optimizer.{name}={getattr(self, name)}: give 0 or more")


def make_schedule(options: OptimizerOptions, steps: int) -> optax.Schedule:
    """Step (0-based) -> learning rate: linear from 0, then cosine to end_factor of the peak."""
    decay = (options.decay_steps or steps) - options.warmup_steps
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, options.learning_rate, max(options.warmup_steps, 1)),
            # A run shorter than its warm-up never reaches the cosine, which needs one step.
            optax.cosine_decay_schedule(options.learning_rate, max(decay, 1), options.end_factor),
        ],
        [options.warmup_steps],
    )


def decayed(params: Any) -> Any:
    """True where weight decay applies, in the structure of params."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: not path[-1].key.endswith(UNDECAYED), params
    )


def make_optimizer(
    options: OptimizerOptions, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Gradient clipping by the global norm, then AdamW."""
    return optax.chain(
        optax.clip_by_global_norm(options.clip_norm),
        optax.adamw(
            schedule,
            b1=options.b1,
            b2=options.b2,
            weight_decay=options.weight_decay,
            mask=decayed,
        ),
    )
