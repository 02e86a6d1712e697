"""The training state, created on the devices where it is used."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import struct
from jax import Array
from jax.sharding import Mesh

from vlfau_jax.data.read.batch import Spec
from vlfau_jax.model.vlfau import VLFAU
from vlfau_jax.sharding.arrays import replicated
from vlfau_jax.sharding.rules import parameter_shardings
from vlfau_jax.train.optimizer import trainable

_UNOPTIMISED = {"xla_backend_optimization_level": 0}


@struct.dataclass
class TrainState:
    """step int32 [] (steps taken), params float32, opt_state of the optimizer.

    `ema` is the running average of params, in their structure; None where none is kept. `skipped`
    int32 [] counts the steps that were skipped because their update was not finite; the first of
    them that `train.skip_steps` does not allow makes it -1 - that count, and from then on nothing
    changes. No random state is stored: the keys of step k follow from the seed and k (`stream`).
    """

    step: Array
    params: Any
    opt_state: Any
    ema: Any = None
    skipped: Array = struct.field(default_factory=lambda: jnp.int32(0))

    @property
    def last_good(self) -> TrainState:
        """The state from before the step that ended all change, fit to be resumed."""
        return self.replace(skipped=jnp.where(self.skipped < 0, -1 - self.skipped, self.skipped))

    @property
    def inference_params(self) -> Any:
        """The parameters for evaluation and export: the average where one is kept."""
        return self.params if self.ema is None else self.ema


def stream(seed: int | Array, name: str, step: int | Array) -> Array:
    """The random key of a named stream at a step, the same on every mesh and after a resume.

    `seed` is a number or the key of one, `jax.random.key(number)`.
    """
    key = jax.random.key(seed) if isinstance(seed, int) else seed
    key = jax.random.fold_in(key, zlib.crc32(name.encode()))
    return jax.random.fold_in(key, step)


def initial_params(model: VLFAU, spec: Spec, key: Array) -> Any:
    """Random parameters boxed with their logical axis names, for batches of `spec`."""
    inputs = {
        name: jnp.zeros((1, *spec[name][0][1:]), dtype)
        for name, dtype in (
            ("image", jnp.float32),
            ("local_tokens", jnp.int32),
            ("global_tokens", jnp.int32),
        )
    }
    return model.init({"params": key}, **inputs)["params"]


def abstract_params(model: VLFAU, spec: Spec) -> Any:
    """Shapes, dtypes and axis names of the parameters; computes nothing."""
    return jax.eval_shape(lambda key: initial_params(model, spec, key), jax.random.key(0))


def abstract_state(
    model: VLFAU,
    optimizer: optax.GradientTransformation,
    spec: Spec,
    mesh: Mesh,
    *,
    frozen: tuple[str, ...] = (),
    averaged: bool = False,
) -> TrainState:
    """Shapes, dtypes and shardings of the whole state.

    The optimizer's moments and the average are sharded as their parameters; counters are
    replicated. The optimizer excludes the modules named in `frozen`; `averaged` keeps `ema`.
    """
    boxed = abstract_params(model, spec)
    everywhere = replicated(mesh)
    params = jax.tree.map(_with_sharding, nn.meta.unbox(boxed), parameter_shardings(boxed, mesh))
    opt_state = optax.tree.map_params(
        optimizer,
        lambda moment, param: _with_sharding(moment, param.sharding),
        jax.eval_shape(optimizer.init, trainable(params, frozen)),
        trainable(params, frozen),
        transform_non_params=lambda counter: _with_sharding(counter, everywhere),
    )
    count = jax.ShapeDtypeStruct((), jnp.int32, sharding=everywhere)
    return TrainState(count, params, opt_state, params if averaged else None, count)


def initial_state(
    model: VLFAU,
    optimizer: optax.GradientTransformation,
    spec: Spec,
    abstract: TrainState,
    seed: int,
    params: Mapping[str, Any] | None = None,
    *,
    frozen: tuple[str, ...] = (),
) -> TrainState:
    """The state at step 0, computed shard by shard, laid out as `abstract` says.

    `params` (host arrays), the whole tree or modules such as "backbone", replace random ones;
    `frozen` is as for `abstract_state`.
    """
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    given = params or {}
    params = {part: jax.device_put(given[part], shardings.params[part]) for part in given}
    if given.keys() != abstract.params.keys():
        draw = jax.jit(
            lambda key: nn.meta.unbox(initial_params(model, spec, key)),
            out_shardings=shardings.params,
            # It runs once: LLVM's optimisation of a hundred random draws costs ten times the run.
            compiler_options=_UNOPTIMISED if jax.default_backend() == "cpu" else None,
        )
        params = draw(stream(seed, "params", 0)) | params
    opt_state = jax.jit(optimizer.init, out_shardings=shardings.opt_state)(
        trainable(params, frozen)
    )
    ema = None
    if abstract.ema is not None:  # buffers of its own: both trees are donated to the step
        ema = jax.jit(partial(jax.tree.map, jnp.copy), out_shardings=shardings.ema)(params)
    # Two arrays, since both are donated to the step.
    step, skipped = (jax.device_put(np.int32(0), shardings.step) for _ in range(2))
    return TrainState(step, params, opt_state, ema, skipped)


def _with_sharding(
    leaf: jax.ShapeDtypeStruct, sharding: jax.sharding.Sharding
) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
