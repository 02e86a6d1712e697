import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

from vlfau_jax.data.read.batch import spec
from vlfau_jax.errors import UserError
from vlfau_jax.model.layouts import stack_blocks, unstack_blocks
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.model.vlfau import VLFAU
from vlfau_jax.train.optimizer import (
    OptimizerOptions,
    decayed,
    make_optimizer,
    make_schedule,
    rate_factors,
    trainable,
)
from vlfau_jax.train.state import abstract_params


def test_schedule_by_hand():
    options = OptimizerOptions(learning_rate=2.0, warmup_steps=4, end_factor=0.1)
    rate = make_schedule(options, 24)
    np.testing.assert_allclose([rate(k) for k in range(5)], [0, 0.5, 1, 1.5, 2])
    np.testing.assert_allclose(rate(14), 2 * (0.1 + 0.9 * 0.5), rtol=1e-6)
    np.testing.assert_allclose([rate(24), rate(99)], 0.2, rtol=1e-6)


def test_warm_up_does_not_depend_on_the_steps_to_come():
    options = OptimizerOptions(warmup_steps=10)
    short, long = make_schedule(options, 2), make_schedule(options, 1000)
    assert [short(k) for k in range(10)] == [long(k) for k in range(10)]


def test_horizon_of_its_own():
    options = OptimizerOptions(warmup_steps=0, decay_steps=10)
    assert [make_schedule(options, 5)(k) for k in (3, 10)] == [
        make_schedule(options, 500)(k) for k in (3, 10)
    ]
    assert make_schedule(options, 5)(0) == np.float32(options.learning_rate)


def shapes(depths):
    """The whole network's parameters, as shapes."""
    of = spec(batch_size=1, image_size=32, units=4, max_local_tokens=5, max_global_tokens=5)
    options = ModelOptions(depths=depths, window=4, stem="conv")
    return nn.meta.unbox(abstract_params(VLFAU(options, 4, 20), of))


def test_no_decay_on_biases_norms_and_position_tables():
    params = shapes((1, 1, 1, 1))
    flags, _ = jax.tree_util.tree_flatten_with_path(decayed(params))
    rows = {jax.tree_util.keystr(path, simple=True, separator="/"): on for path, on in flags}
    assert not rows["backbone/stage1_block0/attention/relative_position_bias"]
    assert not rows["backbone/stage1_block0/norm_mlp/scale"]
    assert not rows["refinement/excite_bias"]
    assert not rows["local_captioner/gates_bias"]
    assert rows["refinement/excite"]
    assert rows["local_captioner/words"]
    assert rows["backbone/stage1_block0/mlp_in/kernel"]


def test_decay_and_clipping_act():
    params = {"kernel": jnp.array([1.0]), "bias": jnp.array([1.0])}
    options = OptimizerOptions(learning_rate=0.1, warmup_steps=0, weight_decay=0.5)
    tx = make_optimizer(options, make_schedule(options, 10))
    nothing = jax.tree.map(jnp.zeros_like, params)
    updates, state = tx.update(nothing, tx.init(params), params)
    np.testing.assert_allclose(updates["kernel"], [-0.05], rtol=1e-6)
    assert updates["bias"] == 0
    _, state = tx.update(jax.tree.map(lambda x: 1e6 * x, params), state, params)
    moments = [leaf for leaf in jax.tree.leaves(state) if leaf.shape == (1,)]
    assert max(float(jnp.abs(leaf).max()) for leaf in moments) < 0.1  # (1 - b1) / sqrt(2)


def updates(params, **options):
    """The first update of each parameter, from gradients of one."""
    options = OptimizerOptions(learning_rate=0.1, warmup_steps=0, **options)
    tx = make_optimizer(options, make_schedule(options, 10))
    ones = jax.tree.map(jnp.ones_like, params)
    return tx.update(ones, tx.init(params), params)[0]


def test_every_parameter_has_its_own_rate():
    blocks = {name: {"kernel": jnp.ones((2, 3))} for name in ("stage3_block0", "norm")}
    params = {"backbone": blocks, "classifier": {"bias": jnp.ones(2)}}
    params |= {f"{name}_captioner": {"words": jnp.ones((3, 2))} for name in ("local", "global")}
    common = updates(params)
    own = updates(params, layer_decay=0.5, captioner_learning_rate=0.3)
    ratios = jax.tree.map(lambda a, b: float((a / b).mean()), own, common)
    expected = {
        "backbone/stage3_block0/kernel": 0.5,
        "backbone/norm/kernel": 1,
        "classifier/bias": 1,
        "local_captioner/words": 3,
        "global_captioner/words": 3,
    }
    found = flatten_dict(ratios, sep="/")
    assert found == pytest.approx(expected)


def test_layer_decay_by_hand():
    options = OptimizerOptions(layer_decay=0.5, captioner_learning_rate=2e-4)
    factors = flatten_dict(rate_factors(shapes((2, 0, 3, 1)), options), sep="/")
    halvings = {
        "embedding/project/kernel": 7,
        "stage0_block0/mlp_in/kernel": 6,
        "stage0_block1/norm_mlp/scale": 5,
        "merge1/reduce/kernel": 4,  # an empty stage: that of the next block
        "merge2/norm/bias": 4,
        "stage2_block0/attention/relative_position_bias": 4,
        "stage2_block2/mlp_out/bias": 2,
        "merge3/reduce/kernel": 1,
        "stage3_block0/attention/query/kernel": 1,
        "norm/scale": 0,
    }
    for name, n in halvings.items():
        assert factors[f"backbone/{name}"].item() == 0.5**n, name
    assert factors["local_captioner/gates_bias"].item() == 2
    outside = [
        v.item() for k, v in factors.items() if not k.startswith(("backbone", "local_", "global_"))
    ]
    assert set(outside) == {1}


def test_ten_blocks_deep_sorts_as_numbers():
    factors = rate_factors(shapes((0, 0, 12, 0)), OptimizerOptions(layer_decay=0.5))["backbone"]
    assert factors["stage2_block10"]["mlp_in"]["bias"].item() == 0.5**2
    assert factors["stage2_block2"]["mlp_in"]["bias"].item() == 0.5**10


def test_both_layouts_of_the_backbone_have_the_same_rates():
    options = OptimizerOptions(layer_decay=0.5)
    looped = shapes((2, 4, 6, 1))
    scanned = looped | {"backbone": jax.eval_shape(stack_blocks, looped["backbone"])}
    assert "stage2_pairs" in scanned["backbone"]

    def whole(params):
        factors = rate_factors(params, options)
        jax.tree.map(lambda f, leaf: np.testing.assert_equal(f.ndim, leaf.ndim), factors, params)
        return jax.tree.map(lambda f, leaf: np.broadcast_to(f, leaf.shape), factors, params)

    expected, found = whole(looped), whole(scanned)
    found["backbone"] = unstack_blocks(found["backbone"])
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_the_optimizer_state_of_default_runs_is_what_it_was():
    params = {"kernel": jnp.ones(1)}
    options = OptimizerOptions()
    schedule = make_schedule(options, 10)
    plain = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, mask=decayed))
    found = make_optimizer(options, schedule).init(params)
    assert jax.tree.structure(found) == jax.tree.structure(plain.init(params))


def test_what_is_frozen_is_not_in_the_state():
    params = shapes((0, 0, 0, 1))
    options = OptimizerOptions(freeze_backbone=True)
    tx = make_optimizer(options, make_schedule(options, 10))
    state = jax.eval_shape(tx.init, trainable(params, options.frozen))
    rest = [
        leaf
        for part, tree in params.items()
        if part != "backbone"
        for leaf in jax.tree.leaves(tree)
    ]
    assert sum(leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim) == 2 * sum(
        leaf.size for leaf in rest
    )
    assert trainable(params, OptimizerOptions().frozen) == params


@pytest.mark.parametrize(
    ("field", "value", "right"),
    [
        ("learning_rate", float("nan"), "give a finite number, more than 0, up to 1000"),
        ("learning_rate", 0.0, "give more than 0"),
        ("clip_norm", 0.0, "give more than 0"),
        ("warmup_steps", -1, r"give 0 to 2\*\*30"),
        ("captioner_learning_rate", -1.0, "give 0 to 1000"),
        ("ema_decay", 1.0, "give 0 to below 1"),
        ("b2", 1.5, "give 0 to below 1"),
        ("layer_decay", 0.0, "give more than 0, up to 1"),
        ("layer_decay", 1.1, "give more than 0, up to 1"),
    ],
)
def test_impossible_values_are_refused(field, value, right):
    with pytest.raises(UserError, match=rf"optimizer\.{field}={value}: {right}"):
        OptimizerOptions(**{field: value})


def test_a_rate_for_what_is_frozen_is_refused():
    with pytest.raises(UserError, match=r"layer_decay=0\.5: optimizer.freeze_backbone=True"):
        OptimizerOptions(freeze_backbone=True, layer_decay=0.5)
