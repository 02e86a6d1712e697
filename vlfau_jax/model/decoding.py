"""Greedy and beam search: the sentences decoders write by themselves.

One loop advances the beams of every sentence of every decoder. A beam's score is

    sum_t log p(word_t) / words

with <end> counted as a word and p the whole softmax, so that teacher forcing gives the same score;
<pad>, <start> and <unk> are never written. A beam that has ended keeps its place and competes by
its score with those that go on. When all have ended no place can change hands any more: stopping
there is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from vlfau_jax.data.text.vocabulary import END, PAD, START, UNK
from vlfau_jax.model.captioner import Decoder, State

NEVER_GENERATED = (PAD, START, UNK)  # tokens that are no words


class Generated(NamedTuple):
    """The best sentence of every row.

    tokens int32 [*rows, t], without <start>, padded after <end>; attention float32 [*rows, t, p],
    zero after <end>; scores float32 [*rows], the mean log-probability of the words.
    """

    tokens: Array
    attention: Array
    scores: Array


class BeamState(NamedTuple):
    """The k sentences in progress of every row.

    state [*rows, k, hidden]; words int32 [*rows, k], the latest; total float32 [*rows, k], the sum
    of log-probabilities (-inf: an empty place); counts int32 [*rows, k], words written.
    """

    state: State
    words: Array
    total: Array
    counts: Array

    def ended(self) -> Array:
        """Which will say nothing more: bool [*rows, k]."""
        return (self.words == END) | (self.words == PAD) | (self.total == -jnp.inf)


class Step(NamedTuple):
    """What one step chose: words and the beams they follow, int32 [*rows, k]; where those looked.

    `weights` float32 [*rows, k, p] is by beam before the choice.
    """

    words: Array
    parents: Array
    weights: Array


class History(NamedTuple):
    """All steps: words and parents int32 [*rows, k, t], weights float32 [*rows, k, t, p].

    Nothing in it is reordered while the search runs; `_best` follows the parents back.
    """

    words: Array
    parents: Array
    weights: Array

    def write(self, t: Array, step: Step) -> History:
        """With the step at t; beyond the last t nothing changes."""
        return History(
            self.words.at[..., t].set(step.words),
            self.parents.at[..., t].set(step.parents),
            self.weights.at[..., t, :].set(step.weights),
        )


def search(
    decoders: Sequence[Decoder], max_steps: Sequence[int], beams: int = 1
) -> list[Generated]:
    """The best sentence that each decoder finds for each of its rows; beams=1 is greedy search.

    Args:
        decoders: all advance in the same loop.
        max_steps: decode steps of each decoder at most, at least 1: its words, and one for <end>.
        beams: sentences in progress per row, at least 1. Features and keys are shared by them, so
            that a step's largest array is relu(query + key), [rows, beams, p, attention]. For 64
            faces of 12 units at the paper's sizes (7x7, 512) and 5 beams that is 418 MB in float32
            where XLA does not fuse it, beside 167 MB of features and keys, and 43 MB of history.
    """

    def advance(decoder: Decoder, now: BeamState) -> tuple[BeamState, Step]:
        state, logits, weights = decoder.decode_step(now.state, now.words)
        chosen, parents = _choose(now, logits)
        if beams > 1:
            state = jax.tree.map(lambda x: jnp.take_along_axis(x, parents[..., None], -2), state)
        return chosen._replace(state=state), Step(chosen.words, parents, weights)

    def hold(decoder: Decoder, now: BeamState) -> tuple[BeamState, Step]:
        weights = jnp.zeros((*now.words.shape, decoder.memory.keys.shape[-2]), jnp.float32)
        return now, Step(jnp.full_like(now.words, PAD), _in_place(now.words), weights)

    def active(t: Array, steps: int, now: BeamState) -> Array:
        return (t < steps) & ~jnp.all(now.ended())

    def unfinished(carry: tuple) -> Array:
        t, running = carry
        going = [active(t, n, now) for n, (now, _) in zip(max_steps, running, strict=True)]
        return jnp.any(jnp.asarray(going))

    def advance_all(carry: tuple) -> tuple:
        t, running = carry
        after = []
        for decoder, steps, (now, history) in zip(decoders, max_steps, running, strict=True):
            # Not a dead branch of a select: a decoder that has finished costs nothing any more.
            now, step = jax.lax.cond(active(t, steps, now), advance, hold, decoder, now)
            after.append((now, history.write(t, step)))
        return t + 1, after

    running = [
        _begin(decoder, steps, beams) for decoder, steps in zip(decoders, max_steps, strict=True)
    ]
    _, running = jax.lax.while_loop(unfinished, advance_all, (jnp.int32(0), running))
    return [_best(now, history) for now, history in running]


def _in_place(words: Array) -> Array:
    """Every beam follows itself: 0..k-1 in the shape of words int32 [*rows, k]."""
    return jax.lax.broadcasted_iota(jnp.int32, words.shape, words.ndim - 1)


def _begin(decoder: Decoder, steps: int, beams: int) -> tuple[BeamState, History]:
    rows = decoder.state.hidden.shape[:-1]
    words = jnp.full((*rows, beams), START, jnp.int32)
    # Equal beams would stay equal: all but the first are empty places.
    total = jnp.where(_in_place(words) == 0, 0.0, -jnp.inf)
    state = jax.tree.map(
        lambda x: jnp.broadcast_to(x[..., None, :], (*rows, beams, x.shape[-1])), decoder.state
    )
    history = History(
        jnp.full((*rows, beams, steps), PAD, jnp.int32),
        jax.lax.broadcasted_iota(jnp.int32, (*rows, beams, steps), len(rows)),
        jnp.zeros((*rows, beams, steps, decoder.memory.keys.shape[-2]), jnp.float32),
    )
    return BeamState(state, words, total, jnp.zeros_like(words)), history


def _normalised(total: Array, counts: Array) -> Array:
    return total / jnp.maximum(counts, 1).astype(jnp.float32)


def _choose(now: BeamState, logits: Array) -> tuple[BeamState, Array]:
    """The k best continuations of the k beams, and the beams they continue.

    logits float32 [*rows, k, v]. The state of the beams returned is still the one before.
    """
    k, v = logits.shape[-2:]
    ended = now.ended()
    spoken = logits.at[..., jnp.asarray(NEVER_GENERATED)].set(-jnp.inf)
    counts = now.counts + ~ended
    if k == 1:
        words = jnp.argmax(spoken, -1).astype(jnp.int32)
        said = jnp.max(spoken, -1) - jax.nn.logsumexp(logits, -1)
        words = jnp.where(ended, PAD, words)
        total = now.total + jnp.where(ended, 0.0, said)
        return BeamState(now.state, words, total, counts), jnp.zeros_like(words)
    said = spoken - jax.nn.logsumexp(logits, -1, keepdims=True)
    nothing = jnp.where(jnp.arange(v) == PAD, 0.0, -jnp.inf)  # all that an ended beam says
    said = jnp.where(ended[..., None], jnp.expand_dims(nothing, range(ended.ndim)), said)
    totals = now.total[..., None] + said
    ranks = _normalised(totals, counts[..., None]).reshape(*ended.shape[:-1], k * v)
    _, places = jax.lax.top_k(ranks, k)
    parents, words = places // v, places % v
    total = jnp.take_along_axis(totals.reshape(ranks.shape), places, -1)
    return BeamState(now.state, words, total, jnp.take_along_axis(counts, parents, -1)), parents


def _best(now: BeamState, history: History) -> Generated:
    """The sentence of the best beam, put together from its last word to its first."""
    scores = _normalised(now.total, now.counts)
    if scores.shape[-1] == 1:
        words, weights = history.words[..., 0, :], history.weights[..., 0, :, :]
    else:

        def back(beam: Array, parents: Array) -> tuple[Array, tuple[Array, Array]]:
            parent = jnp.take_along_axis(parents, beam[..., None], -1)[..., 0]
            return parent, (beam, parent)

        last = jnp.argmax(scores, -1).astype(jnp.int32)
        steps = jnp.moveaxis(history.parents, -1, 0)
        _, paths = jax.lax.scan(back, last, steps, reverse=True)
        beam, parent = (jnp.moveaxis(path, 0, -1)[..., None, :] for path in paths)
        words = jnp.take_along_axis(history.words, beam, -2)[..., 0, :]
        weights = jnp.take_along_axis(history.weights, parent[..., None], -3)[..., 0, :, :]
    weights = jnp.where((words == PAD)[..., None], 0.0, weights)
    return Generated(words, weights, scores.max(-1))
