"""Micro-batches: a batch in parts, of which a device computes one at a time.

With T_t the total of a loss term t and W_t its weight, both sums over the batch, the objective is

    L = sum_t lambda_t T_t / W_t,    T_t = sum_j T_tj over the parts j

so that its gradient is the sum of the parts' gradients of sum_t lambda_t T_tj / W_t. W_t depends on
labels and masks alone (`joint_weights`) and is known before the first part. Dice is a ratio of sums
over the batch, not a sum over rows: a first forward pass computes the logits z [b, n] of the whole
batch. With g = d T_dice / d z there, T_dice,j is replaced by sum(g_j z_j), which has the same
gradient.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vlfau_jax.sharding.arrays import BATCH_AXES, shards


def micro_batches(share: int, limit: int) -> int:
    """The fewest equal parts of a device's `share` of at most `limit` examples; 0 for no limit."""
    return next(m for m in range(1, share + 1) if not share % m and share // m <= (limit or share))


def split_micro_batches(batch: Any, parts: int, mesh: Mesh) -> Any:
    """Splits [b, ...] into [parts, b / parts, ...]; each has an equal share of a device's rows.

    No row leaves its device. A part's rows are not neighbours in the batch.
    """

    def split(x: Array) -> Array:
        x = _constrain(x.reshape(shards(mesh), parts, -1, *x.shape[1:]), 0, mesh)
        x = _constrain(x.swapaxes(0, 1), 1, mesh)
        return _constrain(x.reshape(parts, -1, *x.shape[3:]), 1, mesh)

    with jax.named_scope("sharding"):
        return jax.tree.map(split, batch)


def merge_micro_batches(parts: Any, mesh: Mesh) -> Any:
    """Undoes `split_micro_batches`: [parts, b / parts, ...] -> [b, ...]."""

    def merge(x: Array) -> Array:
        x = _constrain(x.reshape(len(x), shards(mesh), -1, *x.shape[2:]), 1, mesh)
        x = _constrain(x.swapaxes(0, 1), 0, mesh)
        return _constrain(x.reshape(-1, *x.shape[3:]), 0, mesh)

    with jax.named_scope("sharding"):
        return jax.tree.map(merge, parts)


def sum_over_micro_batches(function: Any, parts: Any) -> Any:
    """Computes sum_j function(part j), leaf by leaf, one part at a time; the sums are float32."""
    first = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), parts)
    with jax.named_scope("accumulation"):
        sums = jax.eval_shape(function, first)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), sums)

    def add(sums: Any, part: Any) -> tuple[Any, None]:
        values = function(part)
        with jax.named_scope("accumulation"):
            return jax.tree.map(jnp.add, sums, values), None

    return jax.lax.scan(add, zeros, parts)[0]


def _constrain(x: Array, axis: int, mesh: Mesh) -> Array:
    """Constrains `x` to be sharded over the devices along `axis`, as the batch is."""
    spec = PartitionSpec(*[None] * axis, BATCH_AXES)
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))
