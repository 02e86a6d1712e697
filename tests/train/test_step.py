import jax
import numpy as np
import pytest

from vlfau_jax.data import batch as batches
from vlfau_jax.sharding.arrays import shard_batch
from vlfau_jax.sharding.mesh import MeshOptions
from vlfau_jax.train.experiment import prepare
from vlfau_jax.train.state import initial_state, stream
from vlfau_jax.train.step import abstract_batch

STEPS = 5
MESHES = [(1, 1, 1), (8, 1, 1), (2, 2, 2)]


def run(settings, params=None):
    """Five steps on batches whose last rows, those of one shard, are unknown or filling."""
    e = prepare(settings)
    state = initial_state(e.model, e.optimizer, e.spec, e.abstract, settings.seed, params)
    born = jax.device_get(state.params)
    step = e.train_step().lower(e.abstract, abstract_batch(e.spec, e.mesh)).compile()
    rng, losses = np.random.default_rng(0), []
    for _ in range(STEPS):
        batch = batches.fake(e.spec, rng, vocabulary_size=e.vocabulary.size)
        for key in ("au", "au_known", "valid", "local_tokens", "global_tokens"):
            batch[key][-1] = 0
        given = state
        state, metrics = step(given, shard_batch(batch, e.mesh))
        losses.append(jax.device_get(metrics))
    return e, born, given, state, losses, step.memory_analysis()


def test_losses_do_not_depend_on_the_mesh(tiny):
    first, *others = MESHES
    _, born, given, state, losses, memory = run(tiny(MeshOptions(*first)))
    assert len({float(metrics["total"]) for metrics in losses}) == STEPS
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given))
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert memory.alias_size_in_bytes == held, "donation did not reuse every buffer of the state"
    for mesh in others:
        # Random parameters are drawn once more on the mesh that splits them, and must be the same.
        given_params = None if mesh[1] > 1 else born
        e, also_born, _, other, found, _ = run(tiny(MeshOptions(*mesh)), given_params)
        jax.tree.map(np.testing.assert_array_equal, born, also_born)
        for metrics, expected in zip(found, losses, strict=True):
            for name, value in expected.items():
                np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)
        jax.tree.map(
            lambda leaf, wanted: (
                leaf.sharding.is_equivalent_to(wanted.sharding, leaf.ndim)
                or pytest.fail(f"{leaf.sharding} is not {wanted.sharding}")
            ),
            other,
            e.abstract,
        )


def test_moments_lie_where_their_parameters_lie(tiny):
    abstract = prepare(tiny(MeshOptions(2, 2, 2))).abstract
    by_shape = {}
    for leaf in jax.tree.leaves(abstract.params):
        by_shape.setdefault(leaf.shape, set()).add(leaf.sharding.spec)
    moments = [leaf for leaf in jax.tree.leaves(abstract.opt_state) if leaf.ndim]
    assert len(moments) == 2 * len(jax.tree.leaves(abstract.params))
    assert all(leaf.sharding.spec in by_shape[leaf.shape] for leaf in moments)
    assert any("fsdp" in leaf.sharding.spec for leaf in moments)


def test_streams_differ_by_name_step_and_seed():
    keys = [(0, "dropout", 0), (0, "dropout", 1), (0, "drop_path", 0), (1, "dropout", 0)]
    drawn = {tuple(jax.random.key_data(stream(*key)).tolist()) for key in keys}
    assert len(drawn) == len(keys)
