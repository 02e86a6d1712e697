"""Host arrays in, global arrays out."""

from __future__ import annotations

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vlfau_jax.data.batch import Batch
from vlfau_jax.errors import UserError

BATCH_AXES = ("data", "fsdp")


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Examples split over the 'data' and 'fsdp' axes, everything else whole."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises UserError where the global batch cannot be split evenly."""
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size % parts:
        raise UserError(
            f"train.batch_size={batch_size} does not split over mesh.data * mesh.fsdp = {parts}; "
            f"{batch_size - batch_size % parts or parts} would"
        )


def shard_batch(batch: Batch, mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows of a batch -> global arrays; the leading axis is the example."""
    sharding = batch_sharding(mesh)
    return {
        key: jax.make_array_from_process_local_data(sharding, value) for key, value in batch.items()
    }
