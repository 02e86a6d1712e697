import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from vlfau_jax.errors import UserError
from vlfau_jax.sharding.arrays import check_batch_size, fetch, local_rows, shard_batch
from vlfau_jax.sharding.mesh import MeshOptions, make_mesh


def test_examples_are_split_and_values_kept(rng):
    batch = {"image": rng.integers(0, 255, (8, 4, 4, 3), np.uint8), "valid": np.ones(8, bool)}
    arrays = shard_batch(batch, make_mesh(MeshOptions(2, 2, 2)))
    for key, array in arrays.items():
        assert array.sharding.spec == P(("data", "fsdp"))
        assert array.addressable_shards[0].data.shape[0] == 2
        np.testing.assert_array_equal(array, batch[key])


def test_a_process_with_all_devices_reads_all_rows_and_fetches_whole_arrays():
    mesh = make_mesh(MeshOptions(2, 2, 2))
    np.testing.assert_array_equal(local_rows(mesh, 8), np.arange(8))
    batch = {"key": np.arange(24).reshape(8, 3)}
    np.testing.assert_array_equal(fetch(shard_batch(batch, mesh, 8))["key"], batch["key"])


def test_batch_size_must_split():
    mesh = make_mesh(MeshOptions(2, 2, 2))
    check_batch_size(8, mesh)
    with pytest.raises(UserError, match=r"train.batch_size=10 does not split .* 4; 8 would"):
        check_batch_size(10, mesh)
    with pytest.raises(UserError, match="4 would"):
        check_batch_size(3, mesh)
