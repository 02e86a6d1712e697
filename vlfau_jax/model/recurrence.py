"""The captioner's recurrence: one step, and many of them along given words with their gradient.

One step, for features f [p, d] at p positions, state (h, c) and the previous word w:

    q = W_q h                             query
    s_p = v . relu(q + k_p)               scores over positions, with keys k_p = W_f f_p
    z = sum_p softmax(s)_p f_p            context
    h, c = LSTM([embed(w) (+ embed(au)), z], (h, c))

The words' share of the gates and the keys do not depend on the state: they are computed before.

Automatic differentiation of the loop would keep relu(q + k) of every step, p times as much as all
the rest, and carry the gradient of every parameter through all steps. `unroll` keeps states, gates
and attention alone. Its reversed loop carries the state's gradient and nothing else; everything
that is a sum over steps is one product or one reduction after it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

Parameters = dict[str, Array]


class State(NamedTuple):
    """What the recurrence carries: hidden and cell, both [*rows, hidden]."""

    hidden: Array
    cell: Array


class AttentionMemory(NamedTuple):
    """What the words attend to: features f [*rows, p, d], keys W_f f [*rows, p, attention].

    `au_gates` [*rows, 4 * hidden] is the share of the action unit's embedding; None without one.
    """

    features: Array
    keys: Array
    au_gates: Array | None


class _Step(NamedTuple):
    """What one step computes, in the compute dtype but for `weights`, float32.

    hidden, cell [*rows, hidden]; gates (i, f, g, o, after their nonlinearities) [*rows, 4 * hidden]
    together; weights [*rows, p]; context [*rows, d].
    """

    hidden: Array
    cell: Array
    gates: Array
    weights: Array
    context: Array


def biased(x: Array, bias: Array) -> Array:
    """Adds bias [k] to all rows of x [..., k]."""
    return x + jnp.expand_dims(bias, range(x.ndim - 1))


def attention_memory(
    p: Parameters, features: Array, au_words: Array | None
) -> tuple[AttentionMemory, State]:
    """Memory and first state from features [*rows, p, d], au_words [*rows, embedding] or None."""
    keys = biased(features @ p["features_to_attention"], p["attention_bias"])
    au_gates = None if au_words is None else au_words @ p["words_to_gates"]
    mean = features.mean(-2)
    state = State(
        biased(mean @ p["mean_to_hidden"], p["hidden_bias"]),
        biased(mean @ p["mean_to_cell"], p["cell_bias"]),
    )
    return AttentionMemory(features, keys, au_gates), state


def attend_and_step(
    p: Parameters, memory: AttentionMemory, state: State, words: Array
) -> tuple[State, Array]:
    """One step after words int32 [*rows]: the new state, attention weights float32 [*rows, p]."""
    step = _step(p, memory, state, words)
    return State(step.hidden, step.cell), step.weights


def _step(p: Parameters, memory: AttentionMemory, state: State, words: Array) -> _Step:
    query = state.hidden @ p["hidden_to_attention"]
    scores = nn.relu(query[..., None, :] + memory.keys) @ p["attention_to_score"]
    weights = nn.softmax(scores.astype(jnp.float32))
    context = jnp.einsum("...p,...pd->...d", weights.astype(query.dtype), memory.features)
    gates = p["word_gates"][words] + context @ p["context_to_gates"]
    gates = gates + state.hidden @ p["hidden_to_gates"]
    if memory.au_gates is not None:
        gates = gates + memory.au_gates
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    i, f, g, o = nn.sigmoid(i), nn.sigmoid(f), jnp.tanh(g), nn.sigmoid(o)
    cell = f * state.cell + i * g
    hidden = o * jnp.tanh(cell)
    return _Step(hidden, cell, jnp.concatenate([i, f, g, o], -1), weights, context)


# The parameters that a step uses.
_USED = (
    "word_gates",
    "hidden_to_gates",
    "context_to_gates",
    "hidden_to_attention",
    "attention_to_score",
)


def unroll(
    p: Parameters, memory: AttentionMemory, state: State, words: Array
) -> tuple[Array, Array]:
    """Steps along given words.

    Args:
        p: the captioner's parameters, shared by all rows.
        memory: what the sentences attend to.
        state: the one before the first word.
        words: int32 [*rows, t].

    Returns:
        Hidden states [*rows, t, hidden], attention weights float32 [*rows, t, p].
    """
    return _unroll({name: p[name] for name in _USED}, memory, state, words)


@jax.custom_vjp
def _unroll(
    p: Parameters, memory: AttentionMemory, state: State, words: Array
) -> tuple[Array, Array]:
    return _run(p, memory, state, words)[0]


def _run(
    p: Parameters, memory: AttentionMemory, state: State, words: Array
) -> tuple[tuple[Array, Array], Any]:
    def step(state: State, words: Array) -> tuple[State, _Step]:
        done = _step(p, memory, state, words)
        return State(done.hidden, done.cell), done

    _, steps = jax.lax.scan(step, state, jnp.moveaxis(words, -1, 0))
    outputs = jnp.moveaxis(steps.hidden, 0, -2), jnp.moveaxis(steps.weights, 0, -2)
    return outputs, (p, memory, state, words, steps)


def _gradient(
    kept: tuple[Parameters, AttentionMemory, State, Array, _Step],
    cotangents: tuple[Array, Array],
) -> tuple[Parameters, AttentionMemory, State, None]:
    """The gradient; d_x stands for that of x.

    With r = q + k and u_p = 1[r_p > 0], relu's derivative:

        d_q = v * sum_p u_p d_s_p        d_k_p = v * sum_t u_p d_s_p
        d_v = sum (u_p r_p) d_s_p = sum_t q * (d_q / v) + sum_p k_p * (d_k_p / v)

    so that both sums over u serve d_v, too.
    """
    p, memory, first, words, steps = kept
    dtype = memory.features.dtype
    features, keys, score = memory.features, memory.keys, p["attention_to_score"]
    d_hiddens, d_weights = (jnp.moveaxis(x, -2, 0) for x in cotangents)
    hiddens, cells = (
        jnp.concatenate([before[None], after[:-1]])
        for before, after in zip(first, (steps.hidden, steps.cell), strict=True)
    )
    queries = hiddens @ p["hidden_to_attention"]
    to_gates = jnp.concatenate([p["context_to_gates"], p["hidden_to_gates"]])
    to_scores = p["hidden_to_attention"] * score[None]
    width = features.shape[-1]

    def step(d_state: State, at: tuple) -> tuple[State, tuple[Array, ...]]:
        done, cell, query, d_hidden, d_weights = at
        i, f, g, o = jnp.split(done.gates, 4, axis=-1)
        d_hidden = d_hidden + d_state.hidden
        tanh = jnp.tanh(done.cell)
        d_cell = d_state.cell + d_hidden * o * (1 - tanh * tanh)
        d_gates = jnp.concatenate(
            [
                d_cell * g * i * (1 - i),
                d_cell * cell * f * (1 - f),
                d_cell * i * (1 - g * g),
                d_hidden * tanh * o * (1 - o),
            ],
            -1,
        )
        d_inputs = jnp.einsum("...g,xg->...x", d_gates, to_gates)
        d_context, d_hidden = d_inputs[..., :width], d_inputs[..., width:]
        d_weights = d_weights + jnp.einsum("...pd,...d->...p", features, d_context)
        weighted = done.weights * d_weights
        d_scores = weighted - done.weights * weighted.sum(-1, keepdims=True)
        counted = _counted(query[..., None, :] + keys, d_scores[..., None]).sum(-2).astype(dtype)
        d_hidden = d_hidden + jnp.einsum("...a,ha->...h", counted, to_scores)
        return State(d_hidden, d_cell * f), (d_gates, d_scores, d_context, counted)

    last = jax.tree.map(jnp.zeros_like, first)
    d_first, (d_gates, d_scores, d_contexts, d_queries) = jax.lax.scan(
        step, last, (steps, cells, queries, d_hiddens, d_weights), reverse=True
    )
    # A reduction over t, but written as a sum: XLA:CPU would write out every step's summands.
    d_keys = sum(
        _counted(query[..., None, :] + keys, d_score[..., None])
        for query, d_score in zip(queries, d_scores, strict=True)
    ).astype(dtype)
    d_features = jnp.einsum("t...p,t...d->...pd", steps.weights.astype(dtype), d_contexts)

    def summed(x: Array, y: Array) -> Array:
        return jnp.einsum("t...x,t...y->xy", x, y)

    def over_rows(x: Array) -> Array:
        return x.astype(jnp.float32).sum(range(x.ndim - 1))

    d_score = over_rows(queries * d_queries) + over_rows(keys * d_keys)
    d_keys = d_keys * jnp.expand_dims(score, range(d_keys.ndim - 1))
    chosen = jax.nn.one_hot(jnp.moveaxis(words, -1, 0), p["word_gates"].shape[-2], dtype=dtype)
    d_p = {
        "hidden_to_attention": summed(hiddens, d_queries) * score[None],
        "attention_to_score": d_score.astype(dtype),
        "context_to_gates": summed(steps.context, d_gates),
        "hidden_to_gates": summed(hiddens, d_gates),
        "word_gates": summed(chosen, d_gates),
    }
    d_au_gates = None if memory.au_gates is None else d_gates.sum(0)
    return d_p, AttentionMemory(d_features, d_keys, d_au_gates), d_first, None


def _counted(sums: Array, d_scores: Array) -> Array:
    """d_scores float32 where relu(sums) has a derivative of 1, else 0."""
    return jnp.where(sums > 0, d_scores, 0.0)


_unroll.defvjp(_run, _gradient)
