import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vlfau_jax.data.batch import spec
from vlfau_jax.errors import UserError
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.model.vlfau import VLFAU
from vlfau_jax.train.optimizer import OptimizerOptions, decayed, make_optimizer, make_schedule
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


def test_no_decay_on_biases_norms_and_position_tables():
    of = spec(batch_size=1, image_size=32, units=4, local_length=5, global_length=5)
    options = ModelOptions(depths=(1, 1, 1, 1), window=4, stem="conv")
    params = nn.meta.unbox(abstract_params(VLFAU(options, 4, 20), of))
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


@pytest.mark.parametrize("field", ["learning_rate", "clip_norm"])
def test_impossible_options_are_refused(field):
    with pytest.raises(UserError, match=f"{field}=0.0: give more than 0"):
        OptimizerOptions(**{field: 0.0})
    with pytest.raises(UserError, match="warmup_steps=-1"):
        OptimizerOptions(warmup_steps=-1)
