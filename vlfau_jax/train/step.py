"""One training step: a single jitted function of state and batch, sharded, state donated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh

from vlfau_jax.model.vlfau import VLFAU, normalise
from vlfau_jax.objectives.losses import ObjectiveOptions, joint_loss, total
from vlfau_jax.sharding.arrays import batch_sharding, replicated
from vlfau_jax.sharding.rules import gathered
from vlfau_jax.train.optimizer import moving
from vlfau_jax.train.state import TrainState, stream

Metrics = dict[str, Array]
TrainStep = Callable[[TrainState, dict[str, Array]], tuple[TrainState, Metrics]]


def make_train_step(
    model: VLFAU,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    mesh: Mesh,
    abstract: TrainState,
    *,
    objective: ObjectiveOptions,
    class_weights: np.ndarray,
    seed: int,
    frozen: tuple[str, ...] = (),
    ema_decay: float = 0.0,
) -> TrainStep:
    """Builds step(state, batch) -> (state, metrics); the state given is consumed.

    Step k draws its dropout, its drop path and the action units whose sentences it trains
    (`objective.local_branches`) from (seed, k) alone. Metrics are float32 scalars on the devices:
    the mean of every loss term, the weight of each that follows a ramp ('local_weight'), 'total',
    'grad_norm' (before clipping) and 'learning_rate'.

    The parts named in `frozen` are no argument of the gradient, so nothing is computed backwards
    through them. `ema_decay` is that of the state's average, if it has one.
    """
    weights = jnp.asarray(class_weights)
    n = len(class_weights)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    whole = gathered(shardings.params)

    def loss(moved: Any, held: Any, batch: dict[str, Array], step: Array) -> tuple[Array, Metrics]:
        params = jax.lax.with_sharding_constraint(moved | held, whole)
        chosen = None
        if 0 < objective.local_branches < n:
            order = jax.random.permutation(stream(seed, "branches", step), n)
            chosen = order[: objective.local_branches]
        outputs = model.apply(
            {"params": params},
            normalise(batch["image"]),
            batch["local_tokens"],
            batch["global_tokens"],
            train=True,
            branches=chosen,
            rngs={name: stream(seed, name, step) for name in ("dropout", "drop_path")},
        )
        terms = joint_loss(
            outputs, batch, class_weights=weights, options=objective, branches=chosen
        )
        scheduled = objective.weights(step)
        metrics = {name: term.mean() for name, term in terms.items()}
        metrics |= {f"{name}_weight": scheduled[name] for name in objective.ramped}
        return total(terms, objective, step), metrics

    def step(state: TrainState, batch: dict[str, Array]) -> tuple[TrainState, Metrics]:
        moved = moving(state.params, frozen)
        held = {part: state.params[part] for part in frozen}
        value, grads = jax.value_and_grad(loss, has_aux=True)(moved, held, batch, state.step)
        updates, opt_state = optimizer.update(grads, state.opt_state, moved)
        params = optax.apply_updates(moved, updates) | held
        ema = None if state.ema is None else averaged(state.ema, params, ema_decay, state.step)
        metrics = value[1] | {
            "total": value[0],
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": jnp.asarray(schedule(state.step), jnp.float32),
        }
        return TrainState(state.step + 1, params, opt_state, ema), metrics

    return jax.jit(
        step,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )


def averaged(ema: Any, params: Any, decay: float, taken: Array) -> Any:
    """The average after one more step: d * ema + (1 - d) * params, `taken` steps before it.

    d = min(decay, (1 + taken) / (10 + taken)), the bound of TensorFlow's
    ExponentialMovingAverage, soon forgets where the parameters began. Written as a difference,
    what does not move stays as it is to the bit.
    """
    kept = jnp.minimum(decay, (1 + taken) / (10 + taken))
    return jax.tree.map(lambda old, new: old + (1 - kept) * (new - old), ema, params)


def abstract_batch(of: dict[str, tuple], mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """A global batch without its values, as `data.batch.spec` describes it."""
    sharding = batch_sharding(mesh)
    return {
        key: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
        for key, (shape, dtype) in of.items()
    }
