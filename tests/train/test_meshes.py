"""The same three steps on every mesh, in any number of micro-batches, and once more."""

import re
from dataclasses import replace

import jax
import numpy as np

from vlfau_jax.data import batch as batches
from vlfau_jax.sharding.arrays import shard_batch
from vlfau_jax.sharding.mesh import MeshOptions
from vlfau_jax.train.experiment import prepare
from vlfau_jax.train.step import abstract_batch

AUS = (1, 2, 4, 6, 7, 10, 12, 14)  # one for each of eight devices
# (data, fsdp, tensor), device batch, and the micro-batches that it gives. Accumulation is the same
# scan on every mesh: those with parts are the ones whose batch is split differently.
RUNS = (
    ((1, 1, 1), 0, 1),
    ((8, 1, 1), 0, 1),
    ((1, 8, 1), 0, 1),
    ((1, 1, 8), 0, 1),
    ((2, 2, 2), 0, 1),
    ((4, 2, 1), 0, 1),
    ((1, 1, 1), 8, 2),
    ((4, 2, 1), 1, 2),
    ((2, 2, 2), 1, 4),
)


def experiment(tiny, mesh, device_batch=0):
    """Eight units, each with a decoder of its own; dropout and drop path on."""
    s = tiny(MeshOptions(*mesh), batch_size=16, device_batch=device_batch)
    model = replace(s.model, drop_path=0.5, dropout=0.5, hidden=8, local_captioner="per_au")
    return prepare(
        replace(
            s,
            # All that costs nothing but time to compile is left out: a block that is dropped stays.
            model=replace(model, depths=(0, 0, 0, 2), taps=(4,), stem="patch"),
            optimizer=replace(s.optimizer, warmup_steps=0),
            data=replace(s.data, aus=AUS),
        )
    )


def compiled(e):
    return e.train_step().lower(e.abstract, abstract_batch(e.spec, e.mesh)).compile()


def three_steps(e, step):
    """Metrics of each step, and the parameters after all.

    What is known differs from row to row, and the last two rows, one shard's own, only fill up.
    """
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: rng.normal(scale=0.2, size=leaf.shape).astype(np.float32), e.abstract.params
    )
    state, told = e.initial_state(params), []
    for _ in range(3):
        batch = batches.fake(e.spec, rng, vocabulary_size=e.vocabulary.size, unknown_rate=0.3)
        for key in ("au", "au_known", "valid", "local_tokens", "global_tokens"):
            batch[key][-2:] = 0
        state, metrics = step(state, shard_batch(batch, e.mesh))
        told.append(jax.device_get(metrics))
    return told, jax.device_get(state.params)


def assert_same(found, expected, said):
    (told, params), (expected_told, expected_params) = found, expected
    for metrics, wanted in zip(told, expected_told, strict=True):
        for name, value in wanted.items():
            np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=f"{said} {name}")

    def check(path, x, y):
        # Softmax does not feel the keys' bias: its gradient is rounding, which Adam makes a step.
        if [key.key for key in path[-2:]] != ["key", "bias"]:
            # Steps are 0.01 long; where a gradient is nearly 0 Adam divides rounding by rounding.
            message = f"{said} {jax.tree_util.keystr(path)}"
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=2e-5, err_msg=message)

    jax.tree_util.tree_map_with_path(check, params, expected_params)


def test_three_steps_agree_on_every_mesh_and_in_parts(tiny):
    expected = None
    for mesh, device_batch, parts in RUNS:
        e = experiment(tiny, mesh, device_batch)
        assert e.micro_batches == parts
        step = compiled(e)
        found = three_steps(e, step)
        expected = expected or found
        assert_same(found, expected, f"{mesh} in {parts} parts:")
        # Every device keeps its own pictures, however they are regrouped.
        moved = re.findall(r"(?:all-|collective-)[\w-]+\(.*\bu8\[.*", step.as_text())
        assert not moved, (mesh, parts, moved[0])
    jax.tree.map(np.testing.assert_array_equal, three_steps(e, step), found)
