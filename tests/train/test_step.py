from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from vlfau_jax.data.read import batch as batches
from vlfau_jax.sharding.arrays import shard_batch
from vlfau_jax.sharding.mesh import MeshOptions
from vlfau_jax.train import step as train_step
from vlfau_jax.train.experiment import build_experiment
from vlfau_jax.train.state import stream
from vlfau_jax.train.step import abstract_batch, heard_in_training

pytestmark = pytest.mark.slow


def test_random_parameters_do_not_depend_on_the_mesh(tiny):
    one, split = (build_experiment(tiny(MeshOptions(*mesh))) for mesh in ((1, 1, 1), (2, 2, 2)))
    jax.tree.map(
        np.testing.assert_array_equal, one.initial_state().params, split.initial_state().params
    )


def parameters(e, seed=0):
    """Random parameters, without the seconds that drawing them on the devices takes to compile."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: rng.normal(scale=0.2, size=leaf.shape).astype(np.float32), e.abstract.params
    )


def compiled(e):
    return e.train_step().compile(e.abstract, abstract_batch(e.spec, e.mesh))


@pytest.fixture
def recipe(tiny):
    """Settings with a frozen backbone, slow captioners, an average and a ramp."""

    def make(mesh):
        s = tiny(MeshOptions(*mesh))
        optimizer = replace(
            s.optimizer,
            warmup_steps=0,
            freeze_backbone=True,
            captioner_learning_rate=0.001,
            ema_decay=0.25,
        )
        return replace(
            s,
            model=replace(s.model, backbone_weights="given below"),
            optimizer=optimizer,
            objective=replace(s.objective, local_ramp=(1, 3)),
        )

    return make


def follow(settings):
    """Parameters and averages after 0, 1, ... steps, the metrics, and what donation reused."""
    e = build_experiment(settings)
    state, step = e.initial_state(parameters(e)), compiled(e)
    rng, kept, metrics = np.random.default_rng(0), [], []
    for k in range(5):
        for mine, other in zip(*map(jax.tree.leaves, (state.params, state.ema)), strict=True):
            shards = zip(mine.addressable_shards, other.addressable_shards, strict=True)
            for a, b in shards:
                assert a.data.unsafe_buffer_pointer() != b.data.unsafe_buffer_pointer()
            assert mine.sharding == other.sharding
        kept.append(jax.device_get((state.params, state.ema)))
        if k < 4:
            batch = batches.fake(e.spec, rng, vocabulary_size=e.vocabulary.size)
            state, found = step(state, shard_batch(batch, e.mesh))
            metrics.append(jax.device_get(found))
    assert step.program.memory_analysis().alias_size_in_bytes == sum(
        leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state)
    )
    return kept, metrics


def test_frozen_backbone_slow_captioners_average_and_ramp(recipe):
    kept, metrics = follow(recipe((1, 1, 1)))
    params, averages = zip(*kept, strict=True)
    for tree in (*params, *averages):
        jax.tree.map(np.testing.assert_array_equal, tree["backbone"], params[0]["backbone"])

    def largest_change(part):
        change = jax.tree.map(lambda a, b: np.abs(a - b).max(), params[1][part], params[0][part])
        return max(jax.tree.leaves(change))

    assert 0.009 < largest_change("fusion") < 0.0101
    assert 0.0009 < largest_change("global_captioner") < 0.00101

    expected = params[0]
    for k, (after, average) in enumerate(zip(params[1:], averages[1:], strict=True)):
        d = min(0.25, (1 + k) / (10 + k))
        expected = jax.tree.map(lambda old, new, d=d: d * old + (1 - d) * new, expected, after)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), average, expected
        )
    assert d == 0.25 and not np.allclose(
        averages[4]["classifier"]["kernel"], after["classifier"]["kernel"], atol=1e-4
    )

    weights = [float(found["local_weight"]) for found in metrics]
    assert weights == [0, 0, 0.5, 1]
    assert all(found.keys().isdisjoint({"dice_weight", "global_weight"}) for found in metrics)
    for found, weight in zip(metrics, weights, strict=True):
        parts = found["au"] + found["dice"] + weight * found["local"] + found["global"]
        np.testing.assert_allclose(found["total"], parts, rtol=1e-5)
        assert found["local"] > 1

    split_kept, split_metrics = follow(recipe((2, 2, 2)))
    for a, b in ((kept, split_kept), (metrics, split_metrics)):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-5), a, b)


def test_nothing_is_computed_backwards_through_a_frozen_backbone(tiny):
    settings = tiny()
    wide = replace(
        settings.model, backbone_width=32, depths=(0, 0, 0, 2), backbone_weights="none is read"
    )
    flops = {}
    for frozen in (False, True):
        optimizer = replace(settings.optimizer, freeze_backbone=frozen)
        e = build_experiment(replace(settings, model=wide, optimizer=optimizer))
        lowered = e.train_step().lower(e.abstract, abstract_batch(e.spec, e.mesh))
        flops[frozen] = lowered.cost_analysis()["flops"]
    assert e.model.options.drop_path == 0
    assert flops[True] < 0.45 * flops[False], flops


MODES = {
    "own decoders and context": {"local_captioner": "per_au", "global_context": True},
    "shared decoder with units": {"au_embedding": True, "told_scores": True},
    "no captions": {"local_captions": False, "global_captions": False},
}


@pytest.mark.parametrize("mode", MODES)
def test_what_is_masked_moves_nothing(tiny, mode):
    settings = tiny()
    settings = replace(
        settings,
        model=replace(settings.model, **MODES[mode]),
        optimizer=replace(settings.optimizer, warmup_steps=0),
    )
    e = build_experiment(settings)
    step, rng = compiled(e), np.random.default_rng(1)

    def after(batch):
        state, metrics = step(e.initial_state(parameters(e)), shard_batch(batch, e.mesh))
        return jax.device_get((state.params, state.opt_state)), jax.device_get(metrics)

    batch = batches.fake(e.spec, rng, vocabulary_size=e.vocabulary.size, unknown_rate=0.4)
    for key in ("au", "au_known", "valid", "local_tokens", "global_tokens"):
        batch[key][-3:] = 0
    other = {key: array.copy() for key, array in batch.items()}
    hidden = ~batch["au_known"]
    other["image"][-3:] = rng.integers(0, 256, other["image"][-3:].shape)
    other["au"][hidden] = 1
    other["au_known"][-3:] = True  # of rows that are not valid, nothing counts
    other["local_tokens"][hidden] = rng.integers(3, 9, other["local_tokens"][hidden].shape)
    other["global_tokens"][-3:] = 5
    other["key"][:] = 7
    jax.tree.map(np.testing.assert_array_equal, after(batch), after(other))

    visible = {**batch, "au": np.where(hidden, batch["au"], 1 - batch["au"])}
    assert after(visible)[1]["total"] != after(batch)[1]["total"]

    batch["au_known"][:], batch["valid"][:] = False, False
    (params, opt_state), metrics = after(batch)
    assert metrics["total"] == metrics["grad_norm"] == 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    assert not any(leaf.any() for leaf in jax.tree.leaves(opt_state) if leaf.ndim)


def test_moments_lie_where_their_parameters_lie(tiny):
    abstract = build_experiment(tiny(MeshOptions(2, 2, 2))).abstract
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


def test_the_compiler_is_told_how_hard_to_try_for_tpus_alone(tiny, monkeypatch):
    def mesh(platform):
        return SimpleNamespace(devices=np.array([SimpleNamespace(platform=platform)]))

    asked = train_step.compiler_options(mesh("tpu"), -0.5)
    assert asked["exec_time_optimization_effort"] == -0.5
    assert train_step.compiler_options(mesh("cpu"), -0.5) is None

    settings, asked, passed = tiny(), [], []
    monkeypatch.setattr(
        train_step, "compiler_options", lambda _, effort: asked.append(effort) or "these"
    )
    monkeypatch.setattr(train_step.jax, "jit", lambda *_, **given: passed.append(given))
    e = build_experiment(replace(settings, train=replace(settings.train, compile_effort=-0.5)))
    e.train_step()
    assert asked == [-0.5]
    assert passed[-1]["compiler_options"] == "these"


def test_half_of_the_sentences_hear_their_label():
    rng = np.random.default_rng(0)
    rows = {"au": rng.random((64, 50)) < 0.3, "au_known": rng.random((64, 50)) < 0.8}
    rows |= {"row": np.arange(64)}
    heard = np.asarray(heard_in_training(jax.random.key(1), rows))
    known, told = rows["au_known"], heard != 0
    assert not told[~known].any()
    assert abs(told[known].mean() - 0.5) < 0.05
    assert np.array_equal(heard[told] > 0, rows["au"][told])
