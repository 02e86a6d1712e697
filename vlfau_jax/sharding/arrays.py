"""Host arrays to global arrays, and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vlfau_jax.data.read.batch import Batch
from vlfau_jax.errors import UserError

BATCH_AXES = ("data", "fsdp")


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Examples sharded over the 'data' and 'fsdp' axes, the other dimensions whole."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def shards(mesh: Mesh) -> int:
    """The number of parts, of different examples, into which the devices split a batch."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def known_mesh(function: Callable, mesh: Mesh) -> Callable:
    """`function`, in which JAX knows the mesh while it is traced (`jax.sharding`).

    The model then knows on which devices it will run, and how they split the batch.
    """

    @wraps(function)
    def traced(*args: Any, **options: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*args, **options)

    return traced


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises UserError where the global batch does not divide evenly over the devices."""
    parts = shards(mesh)
    if batch_size % parts:
        raise UserError(
            f"train.batch_size={batch_size} does not split over mesh.data * mesh.fsdp = {parts}; "
            f"{batch_size - batch_size % parts or parts} would"
        )


def local_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
    """The rows of a global batch that this process's devices hold, int64, ascending.

    Where a 'tensor' axis crosses processes, several of them hold the same rows.
    """
    held = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[rows] for (rows,) in held]))


def shard_batch(batch: Batch, mesh: Mesh, batch_size: int | None = None) -> dict[str, jax.Array]:
    """Makes global arrays of this process's `local_rows` of a batch; the leading axis is examples.

    `batch_size` is the global one; None where this process holds all rows.
    """
    sharding = batch_sharding(mesh)
    # This is a transfer that is asked for; JAX takes it for an implicit one among processes.
    with jax.transfer_guard("allow"):
        return {
            key: jax.make_array_from_process_local_data(
                sharding,
                value,
                (len(value) if batch_size is None else batch_size, *value.shape[1:]),
            )
            for key, value in batch.items()
        }


def fetch(arrays: Any) -> Any:
    """Gathers a tree's arrays whole, as NumPy, on every process, however they are sharded.

    Every process must call it. The arrays may be of several meshes.
    """
    return jax.tree.map(_fetch, arrays)


def _fetch(array: Any) -> np.ndarray:
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        everywhere = NamedSharding(array.sharding.mesh, PartitionSpec())
        array = jax.jit(_identity, out_shardings=everywhere)(array)
    return np.asarray(array)


def _identity(array: jax.Array) -> jax.Array:
    """A module-level function, so that every shape is compiled once."""
    return array
