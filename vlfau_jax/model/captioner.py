"""Sentences: a word-level LSTM with soft attention over a feature map (after arXiv 1502.03044).

One step, for features f [p, d] at p positions, state (h, c) and the previous word w:

    e = v . relu(W_h h + W_f f)      scores over positions
    z = sum_p softmax(e)_p f_p       context
    h, c = LSTM([embed(w), z], (h, c))
    logits = W_o dropout(h)

h and c start as linear maps of the mean feature. The words' share of the gates and W_f f do not
depend on the state, so both are computed outside the recurrence.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from vlfau_jax.data.vocabulary import END, PAD, START, UNK
from vlfau_jax.model.swin import named

Parameters = dict[str, Array]
UNSPOKEN = (PAD, START, UNK)  # tokens that are no words: decoding never picks them


class Spoken(NamedTuple):
    """Greedy sentences: tokens int32 [m, t] padded after <end>, attention float32 [m, t, p]."""

    tokens: Array
    attention: Array


class State(NamedTuple):
    """What the recurrence carries: hidden and cell, both [m, hidden]."""

    hidden: Array
    cell: Array


def attend_and_step(
    p: Parameters, state: State, word_gates: Array, features: Array, keys: Array
) -> tuple[State, Array]:
    """One step of the recurrence for m sentences.

    Args:
        p: the captioner's parameters.
        state: hidden and cell, [m, hidden].
        word_gates: the previous words' share of the gates, [m, 4 * hidden].
        features: f, [m, p, d].
        keys: W_f f, [m, p, attention].

    Returns:
        The new state, and attention weights float32 [m, p].
    """
    query = state.hidden @ p["hidden_to_attention"]
    scores = nn.relu(query[:, None] + keys) @ p["attention_to_score"]
    weights = nn.softmax(scores.astype(jnp.float32))
    context = jnp.einsum("mp,mpd->md", weights.astype(features.dtype), features)
    gates = word_gates + context @ p["context_to_gates"] + state.hidden @ p["hidden_to_gates"]
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    cell = nn.sigmoid(f) * state.cell + nn.sigmoid(i) * jnp.tanh(g)
    return State(nn.sigmoid(o) * jnp.tanh(cell), cell), weights


class Captioner(nn.Module):
    """The decoder: every row it is given is one sentence, and all rows share its parameters."""

    vocabulary_size: int
    feature_width: int
    embedding: int = 512
    hidden: int = 512
    attention: int = 512
    dropout: float = 0.5
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        """Declares the parameters as plain arrays: they are used inside scans and loops."""
        v, d, e = self.vocabulary_size, self.feature_width, self.embedding
        h, a = self.hidden, self.attention
        lecun, zeros = nn.initializers.lecun_normal(), nn.initializers.zeros
        declare = {
            "words": (nn.initializers.normal(0.1), ("vocab", "embed"), (v, e)),
            "words_to_gates": (lecun, ("embed", "hidden"), (e, 4 * h)),
            "context_to_gates": (lecun, ("embed", "hidden"), (d, 4 * h)),
            "hidden_to_gates": (nn.initializers.orthogonal(), ("embed", "hidden"), (h, 4 * h)),
            "gates_bias": (zeros, ("hidden",), (4 * h,)),
            "features_to_attention": (lecun, ("embed", "refine"), (d, a)),
            "hidden_to_attention": (lecun, ("embed", "refine"), (h, a)),
            "attention_bias": (zeros, ("refine",), (a,)),
            "attention_to_score": (nn.initializers.normal(a**-0.5), ("refine",), (a,)),
            "mean_to_hidden": (lecun, ("embed", "hidden"), (d, h)),
            "hidden_bias": (zeros, ("hidden",), (h,)),
            "mean_to_cell": (lecun, ("embed", "hidden"), (d, h)),
            "cell_bias": (zeros, ("hidden",), (h,)),
            "hidden_to_logits": (lecun, ("hidden", "vocab"), (h, v)),
            "logits_bias": (zeros, ("vocab",), (v,)),
        }
        self.parameters = {
            name: self.param(name, named(init, *axes), shape)
            for name, (init, axes, shape) in declare.items()
        }

    def _begin(self, features: Array) -> tuple[Parameters, Array, Array, Array, State]:
        """Parameters and features in the compute dtype, and all that precedes the first word."""
        p = {name: value.astype(self.dtype) for name, value in self.parameters.items()}
        features = features.astype(self.dtype)
        keys = features @ p["features_to_attention"] + p["attention_bias"][None, None]
        word_gates = p["words"] @ p["words_to_gates"] + p["gates_bias"][None]
        mean = features.mean(1)
        state = State(
            mean @ p["mean_to_hidden"] + p["hidden_bias"][None],
            mean @ p["mean_to_cell"] + p["cell_bias"][None],
        )
        return p, features, keys, word_gates, state

    def _logits(self, p: Parameters, hidden: Array) -> Array:
        """[..., hidden] -> float32 [..., v]: bfloat16 logits would tie, and ties pick low words."""
        product = jnp.matmul(hidden, p["hidden_to_logits"], preferred_element_type=jnp.float32)
        return product + jnp.expand_dims(
            self.parameters["logits_bias"], tuple(range(hidden.ndim - 1))
        )

    def teacher_force(self, features: Array, tokens: Array, train: bool) -> tuple[Array, Array]:
        """Scores the given sentences word by word, each word seeing the true ones before it.

        Args:
            features: [m, p, d].
            tokens: int32 [m, t], beginning with <start>.
            train: whether to drop out (random stream "dropout").

        Returns:
            Logits float32 [m, t-1, v] of tokens[:, 1:], attention float32 [m, t-1, p].
        """
        p, features, keys, word_gates, state = self._begin(features)
        gates = word_gates[tokens[:, :-1].T]

        def step(state: State, gates: Array) -> tuple[State, tuple[Array, Array]]:
            state, weights = attend_and_step(p, state, gates, features, keys)
            return state, (state.hidden, weights)

        _, (hidden, attention) = jax.lax.scan(step, state, gates)
        hidden, attention = hidden.swapaxes(0, 1), attention.swapaxes(0, 1)
        if train and self.dropout > 0.0:
            keep = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.dropout, hidden.shape)
            hidden = jnp.where(keep, hidden / (1 - self.dropout), 0.0).astype(self.dtype)
        return self._logits(p, hidden), attention

    def greedy(self, features: Array, length: int) -> Spoken:
        """Writes sentences of at most `length` words, the likeliest word or <end> each time.

        Features are [m, p, d]. Stops as soon as every sentence has ended; <end> is kept.
        """
        p, features, keys, word_gates, state = self._begin(features)
        m, positions, _ = features.shape
        spoken = Spoken(
            jnp.full((m, length), PAD, jnp.int32), jnp.zeros((m, length, positions), jnp.float32)
        )
        words = jnp.full((m,), START, jnp.int32)

        def unfinished(carry: tuple) -> Array:
            t, _, words, _ = carry
            return (t < length) & ~jnp.all((words == END) | (words == PAD))

        def say(carry: tuple) -> tuple:
            t, state, words, spoken = carry
            ended = (words == END) | (words == PAD)
            state, weights = attend_and_step(p, state, word_gates[words], features, keys)
            logits = self._logits(p, state.hidden).at[:, jnp.asarray(UNSPOKEN)].set(-jnp.inf)
            words = jnp.where(ended, PAD, jnp.argmax(logits, -1).astype(jnp.int32))
            weights = jnp.where(ended[:, None], 0.0, weights)
            spoken = Spoken(
                spoken.tokens.at[:, t].set(words), spoken.attention.at[:, t].set(weights)
            )
            return t + 1, state, words, spoken

        return jax.lax.while_loop(unfinished, say, (jnp.int32(0), state, words, spoken))[3]
