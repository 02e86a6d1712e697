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
) -> TrainStep:
    """Builds step(state, batch) -> (state, metrics); the state given is consumed.

    Step k draws its dropout, its drop path and the action units whose sentences it trains
    (`objective.local_branches`) from (seed, k) alone. Metrics are float32 scalars on the devices:
    the mean of every loss term, 'total', 'grad_norm' (before clipping) and 'learning_rate'.
    """
    weights = jnp.asarray(class_weights)
    n = len(class_weights)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    whole = gathered(shardings.params)

    def loss(params: Any, batch: dict[str, Array], step: Array) -> tuple[Array, Metrics]:
        params = jax.lax.with_sharding_constraint(params, whole)
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
        return total(terms, objective), {name: term.mean() for name, term in terms.items()}

    def step(state: TrainState, batch: dict[str, Array]) -> tuple[TrainState, Metrics]:
        value, grads = jax.value_and_grad(loss, has_aux=True)(state.params, batch, state.step)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = value[1] | {
            "total": value[0],
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": jnp.asarray(schedule(state.step), jnp.float32),
        }
        return TrainState(state.step + 1, params, opt_state), metrics

    return jax.jit(
        step,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )


def abstract_batch(of: dict[str, tuple], mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """A global batch without its values, as `data.batch.spec` describes it."""
    sharding = batch_sharding(mesh)
    return {
        key: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
        for key, (shape, dtype) in of.items()
    }
