"""AdamW with linear warm-up and cosine decay, and each parameter's own learning rate."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import jax
import numpy as np
import optax
from pydantic import Field

from vlfau_jax.errors import UserError
from vlfau_jax.model.layouts import laid_out_like, looped_shapes
from vlfau_jax.options import Options, Share, StepsOrNone

# Biases, relative-position biases among them, and normalisation scales have no weight decay
# (arXiv 2103.14030, section A2); these endings of their names select them.
NO_WEIGHT_DECAY = ("bias", "scale")

_BLOCK = re.compile(r"stage(\d+)_block(\d+)")
_Decay = Annotated[float, Field(ge=0, lt=1)]
CAPTIONERS = ("local_captioner", "global_captioner")


@dataclass(frozen=True)
class OptimizerOptions(Options):
    """AdamW, and which parameters have another learning rate or none.

    Attributes:
        learning_rate: its peak.
        warmup_steps: steps in which the rate rises from 0 to the peak.
        decay_steps: the step where the cosine ends; 0 for train.steps.
        end_factor: the final rate over the peak.
        weight_decay: decoupled; biases and norms have none.
        clip_norm: largest global norm of the gradient of all trainable parameters.
        b1: decay of the first moment.
        b2: decay of the second moment.
        freeze_backbone: the backbone keeps the values of train.warm_start or
            model.backbone_weights: no gradient is computed for it, it has no moments, and its drop
            path is off.
        layer_decay: factor on the rate for every block below the backbone's top (`rate_factors`).
        captioner_learning_rate: the captioners' own peak, on the same schedule; 0 for the common
            one.
        ema_decay: decay of the running average of the parameters, which evaluation and export then
            use; 0 keeps none.
    """

    group: ClassVar[str] = "optimizer"

    learning_rate: Annotated[float, Field(gt=0, le=1000)] = 1e-4
    warmup_steps: StepsOrNone = 500
    decay_steps: StepsOrNone = 0
    end_factor: Share = 0.0
    weight_decay: Annotated[float, Field(ge=0, le=1000)] = 5e-4
    clip_norm: Annotated[float, Field(gt=0, le=1e12)] = 1.0
    b1: _Decay = 0.9
    b2: _Decay = 0.999
    freeze_backbone: bool = False
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    captioner_learning_rate: Annotated[float, Field(ge=0, le=1000)] = 0.0
    ema_decay: _Decay = 0.0

    def __post_init__(self) -> None:
        """Refuses an impossible recipe, naming field and value."""
        super().__post_init__()
        if self.freeze_backbone and self.layer_decay != 1:
            raise UserError(
                f"optimizer.layer_decay={self.layer_decay}: optimizer.freeze_backbone=True leaves "
                "nothing of the backbone trainable; give 1.0, or freeze_backbone=False"
            )

    @property
    def frozen(self) -> tuple[str, ...]:
        """The modules of the network that are not trained."""
        return ("backbone",) if self.freeze_backbone else ()


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
    """True where weight decay applies, in the structure of `params`."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: not path[-1].key.endswith(NO_WEIGHT_DECAY), params
    )


def trainable(params: Any, frozen: tuple[str, ...]) -> Any:
    """The parameters without the modules named in `frozen`: those that the optimizer updates."""
    return {part: tree for part, tree in params.items() if part not in frozen}


def rate_factors(params: Any, options: OptimizerOptions) -> Any:
    """Every parameter's learning rate over the common one, float32, broadcastable to it.

    Captioners: captioner_learning_rate / learning_rate. Backbone: layer_decay ** (top - depth) with
    depth 0 for the embedding, 1 for the first block, one more for each block through all stages;
    the top, at full rate, is what follows the last block. Swin's fine-tuning counts depth in the
    same way (microsoft/SimMIM:optimizer.py, get_swin_layer), except that here a merge has the depth
    of the first block of the stage that follows it. Everything else: 1.

    `params` are arrays or their shapes, in either layout of the backbone.
    """
    captioners = options.captioner_learning_rate / options.learning_rate or 1.0
    looped = looped_shapes(params)
    depths = backbone_depths(looped.get("backbone", {}))
    top = max(depths.values(), default=0)

    def factor(path: tuple, _: Any) -> np.ndarray:
        factor = captioners if path[0].key in CAPTIONERS else 1.0
        if path[0].key == "backbone":
            factor = options.layer_decay ** (top - depths[path[1].key])
        return np.asarray(factor, np.float32)

    factors = laid_out_like(jax.tree_util.tree_map_with_path(factor, looped), params)
    return jax.tree.map(
        lambda factor, leaf: np.expand_dims(factor, tuple(range(factor.ndim, leaf.ndim))),
        factors,
        dict(params),
    )


def backbone_depths(backbone: Any) -> dict[str, int]:
    """Depth of every module of a looped backbone, by its name (see `rate_factors`)."""
    blocks = [_BLOCK.fullmatch(name) for name in backbone]
    places = sorted(tuple(map(int, found.groups())) for found in blocks if found)
    depths = {f"stage{s}_block{i}": depth for depth, (s, i) in enumerate(places, 1)}
    for name in backbone.keys() - depths.keys():
        if name == "embedding":
            depths[name] = 0
        elif name.startswith("merge"):
            depths[name] = 1 + sum(s < int(name.removeprefix("merge")) for s, _ in places)
        else:
            depths[name] = 1 + len(places)
    return depths


def make_optimizer(
    options: OptimizerOptions, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Gradient clipping by the global norm, then AdamW, then each parameter's own rate factor."""
    steps = [
        optax.clip_by_global_norm(options.clip_norm),
        optax.adamw(
            schedule,
            b1=options.b1,
            b2=options.b2,
            weight_decay=options.weight_decay,
            mask=decayed,
        ),
    ]
    if options.layer_decay != 1 or options.captioner_learning_rate:
        steps.append(
            optax.stateless(
                lambda updates, _: jax.tree.map(
                    lambda update, factor: update * factor, updates, rate_factors(updates, options)
                )
            )
        )
    return optax.chain(*steps)
