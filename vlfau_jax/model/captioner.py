"""Captioner: a word-level LSTM with soft attention over a feature map (after arXiv 1502.03044).

`recurrence` has its equations. The logits of the next word are W_o dropout(h); h and c start as
linear maps of the mean feature.

A `Captioner` holds the parameters. Bound to feature maps it becomes a `Decoder`, a pure value.
Training unrolls it along true sentences (teacher forcing), `decoding.search` along generated ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax import Array

from vlfau_jax.model.draws import kept_rows
from vlfau_jax.model.products import float32_product
from vlfau_jax.model.recurrence import (
    AttentionMemory,
    Parameters,
    State,
    attend_and_step,
    attention_memory,
    biased,
    unroll,
)
from vlfau_jax.model.swin import named


def over_branches(stacked: bool, function: Callable, p: Parameters, *rows: Any) -> Any:
    """function(p, *rows) of rows [b, n, ...]; for each branch n with its own, if p is stacked.

    Rows keep both axes, though a shared decoder could take b * n in one: devices split examples and
    branches, and only two axes keep them apart.
    """
    if not stacked:
        return function(p, *rows)
    return jax.vmap(function, (0, *(1 for _ in rows)), 1)(p, *rows)


@struct.dataclass
class Decoder:
    """A captioner bound to feature maps, in the compute dtype: a pytree, fit for scans and loops.

    Rows, one for each sentence, are [b, n]. Where the decoder is `stacked`, its parameters are
    those of n decoders. `state` is the one before the first word.
    """

    parameters: Parameters
    memory: AttentionMemory
    state: State
    stacked: bool = struct.field(pytree_node=False)

    def decode_step(self, state: State, words: Array) -> tuple[State, Array, Array]:
        """One step of k beams: words int32 [b, n, k], state [b, n, k, hidden].

        Returns the new state, logits float32 [b, n, k, v], attention float32 [b, n, k, p]. The
        beams share their row's attention memory.
        """
        step = jax.vmap(attend_and_step, (None, None, -2, -1), -2)
        state, weights = over_branches(
            self.stacked, step, self.parameters, self.memory, state, words
        )
        return state, self.logits(state.hidden), weights

    def unroll(self, words: Array) -> tuple[Array, Array]:
        """Applies `recurrence.unroll` along words int32 [b, n, t], from the first state."""
        return over_branches(self.stacked, unroll, self.parameters, self.memory, self.state, words)

    def logits(self, hidden: Array) -> Array:
        """Hidden states [b, n, t, hidden] -> float32 [b, n, t, v].

        bfloat16 logits would tie, and argmax resolves ties to the lowest word number.
        """

        def project(p: Parameters, hidden: Array) -> Array:
            product = float32_product("...h,hv->...v", hidden, p["hidden_to_logits"])
            return biased(product, p["logits_bias"])

        return over_branches(self.stacked, project, self.parameters, hidden)


def _stacked(init: Callable) -> Callable:
    """An initialiser of [n, ...] that draws each of n as `init` would draw it alone."""

    def each(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        keys = jax.random.split(key, shape[0])
        return jax.vmap(lambda key: init(key, shape[1:], dtype))(keys)

    return each


class Captioner(nn.Module):
    """The parameters of one decoder, or of `decoders` ones stacked along the logical axis "au".

    `au_embeddings` is the number of action units that a shared decoder distinguishes by a learned
    vector added to every word's embedding, that of <start> included; 0 for none. With `told`, a
    learned vector times the sentence's score is added to them as well.
    """

    vocabulary_size: int
    feature_width: int
    embedding: int = 512
    hidden: int = 512
    attention: int = 512
    dropout: float = 0.5
    decoders: int = 0
    au_embeddings: int = 0
    told: bool = False
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
        if self.told:
            declare["score"] = (nn.initializers.normal(0.1), ("embed",), (e,))
        if self.decoders:
            declare = {
                name: (_stacked(init), ("au", *axes), (self.decoders, *shape))
                for name, (init, axes, shape) in declare.items()
            }
        if self.au_embeddings:
            declare["aus"] = (
                nn.initializers.normal(0.1),
                ("au", "embed"),
                (self.au_embeddings, e),
            )
        self.parameters = {
            name: self.param(name, named(init, *axes), shape)
            for name, (init, axes, shape) in declare.items()
        }

    def bind(
        self, features: Array, branches: Array | None = None, scores: Array | None = None
    ) -> Decoder:
        """The decoder for features [b, k, p, d]: one sentence for each of the b * k maps.

        `branches` int32 [k] are the action units of the k maps, where the decoder distinguishes
        them; None for all of them in order. `scores` float32 [b, k], -1 to 1, are what a decoder
        that is `told` hears.
        """
        stacked = self.decoders > 0
        features = jnp.asarray(features, self.dtype)
        p = {name: value.astype(self.dtype) for name, value in self.parameters.items()}
        p["logits_bias"] = self.parameters["logits_bias"]
        au_words = p.pop("aus", None)
        if branches is not None:
            if stacked:
                p = {name: jnp.take(value, branches, axis=0) for name, value in p.items()}
            if au_words is not None:
                au_words = jnp.take(au_words, branches, axis=0)
        if au_words is not None:
            au_words = jnp.broadcast_to(au_words[None], (features.shape[0], *au_words.shape))
        if self.told:
            vector = p.pop("score")
            vector = jnp.expand_dims(vector, range(3 - vector.ndim))  # [1, 1 or k, e]
            told = jnp.asarray(scores, self.dtype)[..., None] * vector
            au_words = told if au_words is None else au_words + told
        p["word_gates"] = p["words"] @ p["words_to_gates"] + jnp.expand_dims(p["gates_bias"], -2)
        memory, state = over_branches(stacked, attention_memory, p, features, au_words)
        return Decoder(p, memory, state, stacked)

    def teacher_force(
        self,
        features: Array,
        tokens: Array,
        train: bool,
        branches: Array | None = None,
        rows: Array | None = None,
        scores: Array | None = None,
    ) -> tuple[Array, Array]:
        """Teacher forcing: logits of every word of the given sentences, from the words before it.

        Args:
            features: [b, k, p, d].
            tokens: int32 [b, k, t], beginning with <start>.
            train: whether dropout acts (random stream "dropout").
            branches: as in `bind`.
            rows: int32 [b], the examples' places in the whole batch, by which dropout is drawn;
                None counts them from 0.
            scores: as in `bind`.

        Returns:
            Logits float32 [b, k, t-1, v] of tokens[..., 1:], attention float32 [b, k, t-1, p].
        """
        decoder = self.bind(features, branches, scores)
        hidden, attention = decoder.unroll(jnp.asarray(tokens)[..., :-1])
        if train and self.dropout > 0.0:
            rows = jnp.arange(len(hidden)) if rows is None else rows
            keep = kept_rows(self.make_rng("dropout"), rows, 1 - self.dropout, hidden.shape[1:])
            # Kept for the backward pass: XLA draws it again there, with 1.1 GB in between.
            keep = jax.lax.optimization_barrier(keep)
            hidden = jnp.where(keep, hidden / (1 - self.dropout), 0.0).astype(self.dtype)
        return decoder.logits(hidden), attention
