"""How the backbone's arithmetic is written, where that decides what a CPU makes of it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st

from vlfau_jax.model.swin import Swin, gelu


@pytest.mark.parametrize("differentiate", [False, True], ids=["forward", "backward"])
def test_products_with_weights_take_matrices(differentiate):
    """A product of a map [b, h, w, c] is many small ones to XLA's CPU library, on one core."""
    swin = Swin(width=8, depths=(2, 1), heads=(2, 2), window=4, patch=2)
    image = jnp.zeros((2, 16, 24, 3))
    params = nn.unbox(jax.eval_shape(swin.init, jax.random.key(0), image))

    def total(params):
        return sum(tap.sum() for tap in swin.apply(params, image))

    text = jax.jit(jax.grad(total) if differentiate else total).lower(params).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    with_weights = [line for line in products if "batching_dims" not in line]
    assert len(with_weights) >= 13
    for line in with_weights:
        operands = re.findall(r"tensor<([\dx]+)xf32>", line)[:2]
        # An axis of 3 is that of queries, keys and values.
        assert all(re.fullmatch(r"\d+x(3x)?\d+", shape) for shape in operands), line


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=20))
def test_gelu_is_the_exact_one_with_its_gradient(values):
    x = jnp.asarray(values, jnp.float32)
    value, pull = jax.vjp(gelu, x)
    with jax.enable_x64(True):
        exact = jnp.asarray(np.asarray(values, np.float64))
        expected = jax.nn.gelu(exact, approximate=False)
        slope = jax.vmap(jax.grad(lambda v: jax.nn.gelu(v, approximate=False)))(exact)
    np.testing.assert_allclose(value, expected, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(pull(jnp.ones_like(x))[0], slope, rtol=2e-6, atol=2e-6)


def test_gelu_in_bfloat16_rounds_once():
    x = jnp.linspace(-6, 6, 301, dtype=jnp.bfloat16)
    value = gelu(x)
    assert value.dtype == jnp.bfloat16
    np.testing.assert_array_equal(value, gelu(x.astype(jnp.float32)).astype(jnp.bfloat16))


def test_the_backward_pass_of_gelu_keeps_its_input_alone():
    x = jnp.zeros((3, 5), jnp.bfloat16)
    kept = jax.tree.leaves(jax.eval_shape(lambda x: jax.vjp(gelu, x)[1], x))
    assert [(leaf.shape, leaf.dtype) for leaf in kept] == [(x.shape, x.dtype)]
