"""The same three steps on every mesh, in any number of micro-batches, and once more."""

import re
from dataclasses import replace

import jax
import numpy as np
import optax
import pytest

from vlfau_jax.data.read import batch as batches
from vlfau_jax.losses.joint import OF_MAPS
from vlfau_jax.sharding.arrays import shard_batch
from vlfau_jax.sharding.mesh import MeshOptions
from vlfau_jax.train.experiment import build_experiment
from vlfau_jax.train.state import abstract_state
from vlfau_jax.train.step import abstract_batch

pytestmark = pytest.mark.slow

AUS = (1, 2, 4, 6, 7, 10, 12, 14)  # one for each of eight devices
# (data, fsdp, tensor), the device batch that cuts it, and into how many micro-batches. Whole steps
# are compiled where they could differ from those in parts, which compute every part the same way.
STEPS = (
    ((1, 1, 1), 0, 1),
    ((2, 2, 2), 0, 1),
    ((1, 1, 1), 8, 2),
    ((8, 1, 1), 1, 2),
    ((1, 8, 1), 1, 2),
    ((1, 1, 8), 8, 2),
    ((2, 2, 2), 1, 4),
    ((4, 2, 1), 1, 2),
)
MAP_WEIGHTS = tuple(f"{name}_weight" for name in OF_MAPS)


def experiment(tiny, mesh, device_batch=0, **model):
    """Eight units, each with a decoder of its own; dropout and drop path on.

    Two blocks, one of them shifted, on 4x4 cells, and F of 2x2: no attention has one place alone to
    look at.
    """
    s = tiny(MeshOptions(*mesh), batch_size=16, device_batch=device_batch)
    changes = {"depths": (0, 2, 0, 0), "taps": (2,), "grid": 2, "stem": "patch", "hidden": 8}
    changes |= {"drop_path": 0.5, "dropout": 0.5, "local_captioner": "per_au"}
    changes |= {"told_scores": True} | model
    return build_experiment(
        replace(
            s,
            model=replace(s.model, **changes),
            objective=replace(s.objective, **dict.fromkeys(MAP_WEIGHTS, 0.3)),
            optimizer=replace(s.optimizer, warmup_steps=0),
            data=replace(s.data, aus=AUS),
        )
    )


def plain(e):
    """The same with gradients taken as they are, clipped.

    Adam would divide them by their size, and rounding by rounding where one is nearly 0.
    """
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1))
    return replace(
        e, optimizer=optimizer, abstract=abstract_state(e.model, optimizer, e.spec, e.mesh)
    )


def compiled(e):
    return e.train_step().compile(e.abstract, abstract_batch(e.spec, e.mesh))


def three_steps(e, step):
    """Metrics of each step, and the parameters after all.

    What is known differs from row to row, and the last two rows only fill up: all that the last of
    eight shards has, half of what the last of four has.
    """
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: rng.normal(scale=0.4, size=leaf.shape).astype(np.float32), e.abstract.params
    )
    state, metrics_by_step = e.initial_state(params), []
    for _ in range(3):
        batch = batches.fake(e.spec, rng, vocabulary_size=e.vocabulary.size, unknown_rate=0.15)
        for key in ("au", "au_known", "valid", "local_tokens", "global_tokens"):
            batch[key][-2:] = 0
        state, metrics = step(state, shard_batch(batch, e.mesh))
        metrics_by_step.append(jax.device_get(metrics))
    return metrics_by_step, jax.device_get(state.params)


def assert_same(found, expected, context):
    for metrics, wanted in zip(found[0], expected[0], strict=True):
        for name, value in wanted.items():
            np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=f"{context} {name}")
        assert all(metrics[name] > 0 for name in OF_MAPS)

    def check(path, x, y):
        message = f"{context} {jax.tree_util.keystr(path)}"
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6, err_msg=message)

    jax.tree_util.tree_map_with_path(check, found[1], expected[1])


def test_three_steps_agree_on_every_mesh_whole_and_in_parts(tiny):
    expected = None
    for mesh, limit, parts in STEPS:
        e = plain(experiment(tiny, mesh, limit))
        assert e.micro_batches == parts
        step = compiled(e)
        found = three_steps(e, step)
        expected = expected or found
        assert_same(found, expected, f"{mesh} in {parts} parts:")
        # Every device keeps its own pictures, the only uint8 arrays, however they are regrouped.
        moved = re.findall(r"= \(?u8\[.* (?:all-|collective-)[\w-]+\(.*", step.program.as_text())
        assert not moved, (mesh, parts, moved[0])
        if mesh == (2, 2, 2):
            jax.tree.map(np.testing.assert_array_equal, three_steps(e, step), found)


def test_scanned_blocks_and_the_context_of_own_sentences_agree_too(tiny):
    model = {"depths": (0, 4, 0, 0), "scan_blocks": True, "global_context": True}
    runs = (((1, 1, 1), 0), ((2, 2, 2), 2))
    one, split = (plain(experiment(tiny, mesh, limit, **model)) for mesh, limit in runs)
    assert_same(three_steps(split, compiled(split)), three_steps(one, compiled(one)), "split:")
