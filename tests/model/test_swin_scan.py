"""Both layouts of the backbone: the same network, the same draws, parameters that convert."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from vlfau_jax.model import swin
from vlfau_jax.model.layouts import stack_blocks, unstack_blocks
from vlfau_jax.model.options import scanned
from vlfau_jax.model.swin import Swin
from vlfau_jax.sharding.mesh import MeshOptions, make_mesh
from vlfau_jax.sharding.rules import gathered, parameter_shardings

# Odd maps and shifted windows; the second stage is scanned.
LOOPED = Swin(8, (1, 4, 0, 1), (1, 2, 2, 2), window=3, drop_path_rate=0.5)
SCANNED = LOOPED.clone(scan_blocks=True)
KEY = jax.random.key(5)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).normal(size=(4, 61, 54, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def boxed(image):
    return jax.eval_shape(SCANNED.init, KEY, image)["params"]


@pytest.fixture(scope="module")
def stacked(boxed):
    """Parameters of which every one matters."""
    rng = np.random.default_rng(1)

    def value(path, leaf):
        scale = 0.3 if path[-1].key != "kernel" else np.prod(leaf.shape[-2:-1]) ** -0.5
        noise = scale * rng.normal(size=leaf.shape).astype(np.float32)
        return noise + np.float32(path[-1].key == "scale")

    return jax.tree_util.tree_map_with_path(value, nn.meta.unbox(boxed))


def assert_equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def loss(params, network, image, train, key):
    """A sum of the taps' every value, weighed at random, and the taps."""
    taps = network.apply({"params": params}, image, train, rngs={"drop_path": key})
    rng = np.random.default_rng(2)
    return sum(jnp.sum(x * rng.normal(size=x.shape).astype(np.float32)) for x in taps), taps


step = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnames=("network", "train"))


def assert_same(found, expected, limit):
    """Every leaf, in the Euclidean norm."""

    def check(path, x, y):
        apart, scale = np.linalg.norm(x - y), np.linalg.norm(y)
        if path and path[-1].key == "bias" and path[-2].key == "key":
            assert max(apart, scale) < 1e-2  # softmax does not feel it: rounding alone
        else:
            assert apart <= limit * scale, (jax.tree_util.keystr(path), apart / scale)

    jax.tree_util.tree_map_with_path(check, found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("train", [False, True])
def test_both_layouts_give_the_same_outputs_and_gradients(stacked, image, train):
    (_, taps), gradient = step(stacked, SCANNED, image, train, KEY)
    (_, expected), looped = step(unstack_blocks(stacked), LOOPED, image, train, KEY)
    for x, y in zip(taps, expected, strict=True):
        np.testing.assert_allclose(x, y, atol=2e-5)
    assert_same(unstack_blocks(gradient), looped, 1e-4)


def test_drop_path_acts_in_the_scanned_layout(stacked, image):
    still = step(stacked, SCANNED, image, False, KEY)[0][1]
    one, other = (step(stacked, SCANNED, image, True, jax.random.key(i))[0][1] for i in range(2))
    for x, y, z in zip(one[1:], still[1:], other[1:], strict=True):  # the first block is kept
        assert np.abs(x - y).max() > 0.1 and np.abs(x - z).max() > 0.1


def test_drop_rates_rise_linearly_and_no_two_branches_share_a_key(image, monkeypatch):
    rates, keys = [], []

    def spy(x, keep, key, rows):
        rates.append(1 - float(keep))
        keys.append(jax.random.key_data(key))
        return x

    @jax.jit
    def drawn(key):
        LOOPED.init({"params": key, "drop_path": key}, image, True)
        return jnp.stack(keys)

    monkeypatch.setattr(swin, "drop_path", spy)
    values = np.asarray(drawn(KEY))
    np.testing.assert_allclose(rates, np.linspace(0, 0.5, 6).repeat(2), atol=1e-6)
    assert len(np.unique(values, axis=0)) == len(values) == 12


def test_drop_path_keeps_examples_whole_and_their_mean(rng):
    x = rng.normal(size=(4000, 2, 3, 1)).astype(np.float32)
    rows = jnp.arange(4000)
    y = np.asarray(swin.drop_path(x, np.float32(0.8), KEY, rows))
    kept = np.abs(y).sum((1, 2, 3)) > 0
    np.testing.assert_allclose(y, np.where(kept[:, None, None, None], x / np.float32(0.8), 0))
    assert abs(kept.mean() - 0.8) < 0.03
    np.testing.assert_array_equal(swin.drop_path(x, np.float32(1.0), KEY, rows), x)
    assert swin.drop_path(x, np.float32(0.8), None, rows) is x


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 24), min_size=4, max_size=4))
def test_the_layouts_convert_exactly_for_any_depths(depths):
    looped = {
        f"stage{stage}_block{i}": {
            "norm": {"scale": np.float32([stage, i])},
            "mlp": {"kernel": np.float16([[i], [stage]])},
        }
        for stage, depth in enumerate(depths)
        for i in range(depth)
    }
    looped |= {"norm": {"scale": np.float32([7])}, "merge1": {"reduce": {"kernel": np.eye(2)}}}
    stacked = stack_blocks(looped)
    assert_equal(stack_blocks(stacked), stacked)
    assert_equal(unstack_blocks(stacked), looped)
    assert_equal(unstack_blocks(looped), looped)
    pairs = {f"stage{i}_pairs" for i, depth in enumerate(depths) if scanned(depth)}
    assert {name for name in stacked if "pairs" in name} == pairs


@pytest.mark.parametrize("depths", [(4, 1, 6, 2), (0, 5, 3, 8)])
def test_the_layouts_are_those_of_the_network(depths):
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
    network = Swin(4, depths, (1, 1, 2, 2), window=2, dtype=jnp.bfloat16)
    layouts = []
    for of in (network, network.clone(scan_blocks=True)):
        taps, variables = jax.eval_shape(of.init_with_output, KEY, image)
        assert [tap.dtype for tap in taps] == [*[jnp.bfloat16] * 3, jnp.float32]
        layouts.append(nn.meta.unbox(variables["params"]))
        assert {leaf.dtype for leaf in jax.tree.leaves(layouts)} == {np.dtype("float32")}
    looped, scanned = layouts
    assert jax.eval_shape(stack_blocks, looped) == scanned != looped
    assert jax.eval_shape(unstack_blocks, scanned) == looped


@pytest.mark.parametrize("to", [np.asarray, jnp.asarray])
def test_which_block_goes_where(to):
    blocks = {f"stage2_block{i}": {"a": {"kernel": to([[i, -i]])}} for i in range(6)}
    odd = {f"stage1_block{i}": {"b": to([i])} for i in range(3)}
    found = stack_blocks(blocks | odd | {"norm": {"scale": to([9])}})
    assert found.keys() == {*odd, "norm", "stage2_pairs"}
    for place, numbers in (("first", [0, 2, 4]), ("second", [1, 3, 5])):
        kernel = found["stage2_pairs"][place]["a"]["kernel"]
        np.testing.assert_array_equal(kernel, [[[i, -i]] for i in numbers])
        assert isinstance(kernel, np.ndarray) == (to is np.asarray)


def test_each_scanned_block_begins_with_its_own_draw_of_the_right_size():
    network = Swin(16, (4, 0, 0, 0), (1, 1, 1, 1), window=2, scan_blocks=True)
    start = jax.jit(network.init)(KEY, np.zeros((1, 32, 32, 3), np.float32))["params"]
    kernel = start["stage0_pairs"]["second"]["mlp_in"]["kernel"]
    assert kernel.names == ("layers", "embed", "mlp")
    values = np.asarray(kernel.value)
    assert values.shape == (2, 16, 64)
    assert np.abs(values[0] - values[1]).max() > 0.1
    np.testing.assert_allclose(values.std((1, 2)), 16**-0.5, rtol=0.1)  # fan-in 16, not 32


def test_a_scanned_program_does_not_grow_with_depth(image):
    def size(network, depth):
        network = network.clone(depths=(0, 0, depth, 0))
        abstract = jax.eval_shape(network.init, KEY, image)
        return len(jax.jit(network.apply).lower(abstract, image).as_text().splitlines())

    assert size(LOOPED, 12) > 1.5 * size(LOOPED, 4)
    assert size(SCANNED, 12) == size(SCANNED, 4) < size(LOOPED, 4)


@pytest.mark.slow
def test_scanned_gradients_are_the_same_on_any_mesh(boxed, stacked, image):
    """Stored shards and a scan once gave wrong gradients (`rules.gathered`)."""
    mesh = make_mesh(MeshOptions(2, 2, 2))
    shardings = parameter_shardings(boxed, mesh)
    assert shardings["stage1_pairs"]["first"]["mlp_in"]["kernel"].spec == P(None, "fsdp", "tensor")

    def sharded(params, image):
        params = jax.lax.with_sharding_constraint(params, gathered(shardings))
        return loss(params, SCANNED, image, True, KEY)[0]

    at = (shardings, NamedSharding(mesh, P(("data", "fsdp"))))
    found = jax.jit(jax.grad(sharded), in_shardings=at)(stacked, image)
    expected = step(stacked, SCANNED, image, True, KEY)[1]
    assert_same(jax.device_get(found), jax.device_get(expected), 1e-4)
