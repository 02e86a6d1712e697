"""DAIR's switches against the equations of the paper in NumPy, branch by branch."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vlfau_jax.model.refinement import Refinement

MLP = ("squeeze", "squeeze_bias", "excite", "excite_bias")
ATTENTIONS = ("both", "channel", "spatial", "none")
BRANCHES = 3
MODES = [
    mode
    for mode in product(ATTENTIONS, ("shared", "separate"), (True, False))
    # Where an attention is absent, its switches have no effect.
    if (mode[0] in ("both", "channel") or mode[1] == "shared")
    and (mode[0] in ("both", "spatial") or mode[2])
]


@pytest.fixture(scope="module")
def stem():
    return np.random.default_rng(0).normal(size=(2, 4, 5, 6)).astype(np.float32)


def refinement(stem, attention, channel_mlp, spatial_sigmoid):
    module = Refinement(
        branches=BRANCHES,
        reduction=2,
        attention=attention,
        channel_mlp=channel_mlp,
        spatial_sigmoid=spatial_sigmoid,
    )
    params = nn.unbox(module.init(jax.random.key(3), stem)).get("params", {})
    return module, jax.tree.map(lambda x: x + 0.1, params)  # or the biases would be zero


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference(p, stem, n, attention, channel_mlp, spatial_sigmoid):
    """(F_n, s_n) of one branch."""

    def mlp(x, prefix=""):
        w1, b1, w2, b2 = (p[prefix + name][n] for name in MLP)
        return np.maximum(x @ w1 + b1, 0) @ w2 + b2

    x = stem
    if attention in ("both", "channel"):
        of_average = "" if channel_mlp == "shared" else "average_"
        a = sigmoid(mlp(stem.max((1, 2))) + mlp(stem.mean((1, 2)), of_average))
        x = stem * a[:, None, None]
    s = np.ones(stem.shape[:3])
    if attention in ("both", "spatial"):
        pooled = np.pad(np.stack([x.max(-1), x.mean(-1)], -1), ((0, 0), (1, 1), (1, 1), (0, 0)))
        for i, j in np.ndindex(4, 5):
            patch = pooled[:, i : i + 3, j : j + 3]
            s[:, i, j] = (patch * p["spatial"][n]).sum((1, 2, 3)) + p["spatial_bias"][n]
        s = sigmoid(s) if spatial_sigmoid else s
    return x * s[..., None], s


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_it_is_the_plain_computation_one_branch_at_a_time(stem, mode):
    module, params = refinement(stem, *mode)
    refined, maps = jax.jit(module.apply)({"params": params}, stem)
    assert refined.shape == (2, BRANCHES, 4, 5, 6) and maps.shape == (2, BRANCHES, 4, 5)
    assert refined.dtype == maps.dtype == jnp.float32
    p = {name: np.asarray(value) for name, value in params.items()}
    for n in range(BRANCHES):
        expected, s = reference(p, stem, n, *mode)
        np.testing.assert_allclose(maps[:, n], s, atol=1e-5)
        np.testing.assert_allclose(refined[:, n], expected, atol=1e-5)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_only_attentions_that_are_there_have_parameters(stem, mode):
    attention, channel_mlp, _ = mode
    _, params = refinement(stem, *mode)
    wanted = {"spatial", "spatial_bias"} if attention in ("both", "spatial") else set()
    if attention in ("both", "channel"):
        prefixes = ("", "average_") if channel_mlp == "separate" else ("",)
        wanted |= {prefix + name for prefix in prefixes for name in MLP}
    assert set(params) == wanted
    assert all(value.shape[0] == BRANCHES for value in params.values())


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_a_branch_has_only_its_own_parameters_and_the_whole_stem(stem, mode):
    module, params = refinement(stem, *mode)

    def loss(params, stem):
        return (module.apply({"params": params}, stem)[0][:, 1] ** 2).sum()

    grads, of_stem = jax.jit(jax.grad(loss, (0, 1)))(params, stem)
    for name, grad in grads.items():
        assert np.any(grad[1]), name
        assert not np.any(np.delete(grad, 1, axis=0)), name
    assert np.all(of_stem != 0)


def test_separate_mlps_begin_apart(stem):
    _, params = refinement(stem, "both", "separate", True)
    assert np.abs(params["squeeze"] - params["average_squeeze"]).max() > 0.1


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_bfloat16_is_only_what_computes(stem, attention):
    module = Refinement(branches=BRANCHES, reduction=2, attention=attention, dtype=jnp.bfloat16)
    variables = jax.eval_shape(module.init, jax.random.key(0), stem)
    refined, maps = jax.eval_shape(module.apply, variables, stem)
    assert (refined.dtype, maps.dtype) == (jnp.bfloat16, jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} <= {np.dtype("float32")}
