"""The recurrence's own gradient beside automatic differentiation of the plain loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlfau_jax.model.captioner import over_branches
from vlfau_jax.model.recurrence import AttentionMemory, State, attend_and_step, unroll

V = 5


def plain(p, memory, state, words):
    """The loop as it is defined, which JAX differentiates."""

    def step(state, words):
        state, weights = attend_and_step(p, memory, state, words)
        return state, (state.hidden, weights)

    _, steps = jax.lax.scan(step, state, jnp.moveaxis(words, -1, 0))
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, -2), steps)


def draw(rng, b, n, t, p, d, h, a, stacked, au, dtype=np.float32):
    def normal(*shape):
        return rng.normal(size=shape).astype(dtype)

    of = (n,) if stacked else ()
    parameters = {
        "word_gates": normal(*of, V, 4 * h),
        "hidden_to_gates": normal(*of, h, 4 * h),
        "context_to_gates": normal(*of, d, 4 * h),
        "hidden_to_attention": normal(*of, h, a),
        "attention_to_score": normal(*of, a),
    }
    memory = AttentionMemory(
        normal(b, n, p, d), normal(b, n, p, a), normal(b, n, 4 * h) if au else None
    )
    words = rng.integers(0, V, (b, n, t)).astype(np.int32)
    cotangents = normal(b, n, t, h), rng.normal(size=(b, n, t, p)).astype(np.float32)
    return (parameters, memory, State(normal(b, n, h), normal(b, n, h))), words, cotangents


def values_and_gradients(along, stacked, inputs, words, cotangents):
    @jax.jit
    def run(inputs, words, cotangents):
        outputs, vjp = jax.vjp(lambda *x: over_branches(stacked, along, *x, words), *inputs)
        return outputs, vjp(cotangents)

    return run(*jax.tree.map(jnp.asarray, (inputs, words, cotangents)))


def check(found, expected, limit):
    """Each array within `limit` of its largest value."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for (path, one), other in zip(
        jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True
    ):
        assert one.dtype == other.dtype
        one, other = (np.asarray(x, np.float32) for x in (one, other))
        scale = max(np.abs(other).max(), 1e-3)
        np.testing.assert_allclose(
            one / scale, other / scale, rtol=0, atol=limit, err_msg=jax.tree_util.keystr(path)
        )


@settings(max_examples=12)
@given(
    st.tuples(*(st.integers(1, 3) for _ in range(7))),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**16),
)
def test_values_and_gradients_are_those_of_the_plain_loop(sizes, stacked, au, seed):
    drawn = draw(np.random.default_rng(seed), *sizes, stacked, au)
    found, expected = (values_and_gradients(f, stacked, *drawn) for f in (unroll, plain))
    check(found, expected, 2e-5)


@pytest.mark.parametrize("stacked", [False, True])
def test_in_bfloat16_the_gradients_keep_their_types_and_are_no_worse(stacked):
    """Beside float32's, of the same numbers, they are nearer than the plain loop's, or as near."""
    drawn = draw(np.random.default_rng(3), 4, 2, 12, 5, 6, 8, 7, stacked, True, jnp.bfloat16)
    exact = jax.tree.map(lambda x: x.astype(np.float32) if x.dtype == jnp.bfloat16 else x, drawn)
    own, loop = (values_and_gradients(f, stacked, *drawn)[1] for f in (unroll, plain))
    truth = values_and_gradients(plain, stacked, *exact)[1]

    def errors(gradients):
        return np.array(
            [
                np.abs(np.asarray(x, np.float32) - y).mean()
                for x, y in zip(jax.tree.leaves(gradients), jax.tree.leaves(truth), strict=True)
            ]
        )

    assert all(x.dtype == jnp.bfloat16 for x in jax.tree.leaves(own))
    assert (errors(own) <= 1.5 * errors(loop)).all()


def test_nothing_as_large_as_all_steps_scores_is_kept():
    b, n, t, p, d, h, a = 2, 3, 7, 11, 5, 4, 13
    inputs, words, _ = draw(np.random.default_rng(0), b, n, t, p, d, h, a, False, True)

    def kept(along):
        residuals = jax.eval_shape(lambda *x: jax.vjp(lambda *x: along(*x, words), *x)[1], *inputs)
        return sum(x.size for x in jax.tree.leaves(residuals))

    given = sum(x.size for x in jax.tree.leaves((inputs, words)))
    assert kept(unroll) <= given + b * n * t * (6 * h + d + p)
    assert kept(plain) >= b * n * t * p * a
