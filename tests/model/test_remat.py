"""Rematerialisation: what is kept for the backward pass, and that nothing else changes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vlfau_jax.model.options import ModelOptions
from vlfau_jax.model.vlfau import VLFAU

B, N, T = 2, 3, 6
OPTIONS = ModelOptions(
    backbone_width=4,
    depths=(0, 4, 0, 1),
    heads=(1, 1, 1, 2),
    window=2,
    patch=2,
    mlp_ratio=2.0,
    width=8,
    reduction=4,
    word_embedding=4,
    hidden=4,
    attention=16,
)


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(B, 32, 32, 3)).astype(np.float32)
    words = rng.integers(3, 9, (B, N + 1, T), np.int32)
    return image, words[:, :N], words[:, N]


def loss(options, inputs):
    """Parameters' shapes, and a function of them that sums what training scores."""
    model = VLFAU(options, N, 9)
    shapes = nn.unbox(jax.eval_shape(model.init, jax.random.key(0), *inputs))["params"]

    def scored(params):
        rngs = {name: jax.random.key(1) for name in ("dropout", "drop_path")}
        out = model.apply({"params": params}, *inputs, train=True, rngs=rngs)
        every = out.au_logits, out.local_logits, out.global_logits
        return sum(jnp.sum(x**2) for x in every)

    return shapes, scored


def kept(options, inputs):
    """Bytes that are kept for the backward pass."""
    shapes, scored = loss(options, inputs)
    residuals = jax.eval_shape(lambda p: jax.vjp(scored, p)[1], shapes)
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(residuals))


@pytest.mark.parametrize(("scan_blocks", "decoder"), [(False, "shared"), (True, "per_au")])
def test_remat_keeps_less_and_draws_and_computes_the_same(inputs, scan_blocks, decoder):
    options = replace(OPTIONS, scan_blocks=scan_blocks, local_captioner=decoder)
    rng, (shapes, _) = np.random.default_rng(1), loss(options, inputs)
    params = jax.tree.map(lambda x: rng.normal(scale=0.3, size=x.shape).astype(np.float32), shapes)
    sizes, found = {}, {}
    for remat in ("none", "dots", "full"):
        shapes, scored = loss(replace(options, remat=remat), inputs)
        assert jax.tree.structure(shapes) == jax.tree.structure(params)
        sizes[remat] = kept(replace(options, remat=remat), inputs)
        found[remat] = jax.jit(jax.value_and_grad(scored))(params)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4),
            found[remat],
            found["none"],
        )
    assert sizes["full"] < 0.9 * sizes["dots"] < 0.9 * 0.8 * sizes["none"], sizes
