"""Search against plain lists: one sentence at a time, one hypothesis at a time."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from tests.model.test_captioner import begin, decode_step, own_parameters
from vlfau_jax.model.captioner import Captioner, Decoder
from vlfau_jax.model.decoding import search

B, N, P, D = 2, 3, 4, 5
END, PAD = 2, 0
MODES = {"shared": {}, "per_au": {"decoders": N}, "embedding": {"au_embeddings": N}}


def captioner(name, vocabulary_size, dtype=jnp.float32):
    return Captioner(
        vocabulary_size=vocabulary_size,
        feature_width=D,
        embedding=4,
        hidden=6,
        attention=3,
        dtype=dtype,
        **MODES[name],
    )


def random_params(module, features, scale=0.9, end=0.0, seed=24):
    """Parameters with nothing small; `end` makes sentences end sooner."""
    shapes = jax.eval_shape(
        lambda key: module.init(key, features, method="bind"), jax.random.key(0)
    )
    rng = np.random.default_rng(seed)  # 24 gives sentences of many lengths
    params = {}
    for name, leaf in shapes["params"].items():
        params[name] = (scale * rng.normal(size=leaf.value.shape)).astype(np.float32)
    params["logits_bias"][..., END] += end
    return params


@pytest.fixture(scope="module")
def features():
    return np.random.default_rng(3).normal(size=(B, N, P, D)).astype(np.float32)


def generate(module, params, features, steps, beams):
    """Each row's best sentence, rows [b, n], on the host."""

    @jax.jit
    def run(params):
        decoder = module.apply({"params": params}, features, method="bind")
        return search([decoder], [steps], beams)[0]

    return jax.tree.map(np.asarray, run(params))


def log_softmax(x):
    return x - x.max() - np.log(np.exp(x - x.max()).sum())


def beam_search(p, f, steps, beams):
    """One row by lists: (score, words, attention) of the best of `beams` hypotheses."""
    p = {name: np.float64(value) for name, value in p.items()}
    # A hypothesis: its score, the sum of its log-probabilities, its words, attention and state.
    kept = [(0.0, 0.0, [], [], begin(p, f))]
    for _ in range(steps):
        candidates = []
        for hypothesis in kept:
            _, total, words, attended, state = hypothesis
            if words[-1:] == [END]:
                candidates.append(hypothesis)
                continue
            state, logits, weights = decode_step(p, f, state, words[-1] if words else 1)
            for word in {END, *range(4, len(logits))}:
                new = total + log_softmax(logits)[word]
                score = new / (len(words) + 1)
                candidates.append((score, new, [*words, word], [*attended, weights], state))
        kept = sorted(candidates, key=lambda c: -c[0])[:beams]
    return kept[0][0], kept[0][2], kept[0][3]


@pytest.mark.parametrize(
    ("name", "beams", "seed"),
    # Seeds where places kept by the sum, not by the score, would end in another sentence.
    [("shared", 1, 24), ("shared", 3, 20), ("per_au", 2, 51), ("embedding", 5, 1)],
)
def test_search_finds_what_lists_find(features, name, beams, seed):
    module = captioner(name, 9)
    params = random_params(module, features, seed=seed)
    generated = generate(module, params, features, 7, beams)
    lengths = set()
    for b, n in itertools.product(range(B), range(N)):
        p = own_parameters(name, params, n)
        score, words, attended = beam_search(p, features[b, n], 7, beams)
        lengths.add(len(words))
        np.testing.assert_array_equal(generated.tokens[b, n], words + [PAD] * (7 - len(words)))
        np.testing.assert_allclose(generated.scores[b, n], score, atol=1e-5)
        np.testing.assert_allclose(generated.attention[b, n, : len(words)], attended, atol=1e-5)
        assert not generated.attention[b, n, len(words) :].any()
    assert len(lengths) > 1  # sentences that end, and at different words


def test_a_search_wide_enough_is_exhaustive_and_no_other_is_better(features):
    """Of three words, at most four: 45 sentences; 16 beams lose none of them at any step."""
    module = captioner("shared", 6)
    params = random_params(module, features)
    sentences = [
        [*words, END][:4] for k in range(5) for words in itertools.product((4, 5), repeat=k)
    ]
    best = {}
    for b, n in itertools.product(range(B), range(N)):
        scores = []
        for sentence in sentences:
            state, total, previous = begin(params, features[b, n]), 0.0, 1
            for word in sentence:
                state, logits, _ = decode_step(params, features[b, n], state, previous)
                total, previous = total + log_softmax(logits)[word], word
            scores.append(total / len(sentence))
        best[b, n] = max(zip(scores, sentences, strict=True))
    found = {k: generate(module, params, features, 4, k) for k in (1, 2, 31)}
    for (b, n), (score, words) in best.items():
        np.testing.assert_allclose(found[31].scores[b, n], score, atol=1e-5)
        np.testing.assert_array_equal(found[31].tokens[b, n], words + [PAD] * (4 - len(words)))
        for k in (1, 2):
            assert found[k].scores[b, n] <= score + 1e-5
    assert np.any(found[1].scores < found[31].scores - 1e-3)  # greedy does miss some


@pytest.mark.parametrize(("name", "beams"), [("shared", 1), ("per_au", 4), ("embedding", 3)])
def test_teacher_forcing_gives_the_same_scores_and_attention(features, name, beams):
    module = captioner(name, 9)
    params = random_params(module, features)
    generated = generate(module, params, features, 6, beams)
    start = np.ones((B, N, 1), np.int32)
    force = jax.jit(
        lambda p, tokens: module.apply(
            {"params": p}, features, tokens, False, method="teacher_force"
        )
    )
    logits, attention = force(params, np.concatenate([start, generated.tokens], -1))
    words = generated.tokens != PAD
    chosen = np.take_along_axis(jax.nn.log_softmax(logits), generated.tokens[..., None], -1)[..., 0]
    np.testing.assert_allclose(
        generated.scores, np.where(words, chosen, 0).sum(-1) / words.sum(-1), atol=1e-5
    )
    np.testing.assert_allclose(
        generated.attention, np.where(words[..., None], attention, 0), atol=1e-5
    )


@struct.dataclass(kw_only=True)
class Counting(Decoder):
    """A decoder that counts its steps."""

    asked: list = struct.field(pytree_node=False)

    def decode_step(self, state, words):
        jax.debug.callback(lambda: self.asked.append(1))
        return super().decode_step(state, words)


def counting(decoder):
    parts = (decoder.parameters, decoder.memory, decoder.state, decoder.stacked)
    return Counting(*parts, asked=[])


@pytest.mark.parametrize("beams", [1, 4])
def test_it_stops_when_all_have_ended_and_that_changes_nothing(features, beams):
    """Rows that end early are the same alone as beside rows that keep the loop running."""
    module = captioner("shared", 9)
    params = random_params(module, features)
    long = 40

    def face(features, **changed):
        return counting(
            module.apply({"params": params | changed}, jnp.asarray(features), method="bind")
        )

    never = params["logits_bias"] - np.where(np.arange(9) == END, 1e3, 0).astype(np.float32)
    quick, slow = face(features), face(features[:, :1], logits_bias=never)
    (alone,) = jax.jit(lambda: search([quick], [long], beams))()
    jax.effects_barrier()
    asked = len(quick.asked)
    assert (alone.tokens == END).any(-1).all() and asked < long / 2
    # Beside another decoder each is asked as often as it needs.
    quick.asked.clear()
    beside, other = jax.jit(lambda: search([quick, slow], [long, 12], beams))()
    jax.effects_barrier()
    assert (len(quick.asked), len(slow.asked)) == (asked, 12)
    assert (other.tokens != PAD).all()
    # A unit whose decoder never ends makes all units' go on to the last word.
    stacked = captioner("per_au", 9)
    every = {k: np.stack([v] * N) for k, v in params.items()}
    every["logits_bias"][1] = never
    mixed = generate(stacked, every, features, long, beams)
    assert (mixed.tokens[:, 1] != PAD).all()
    for name, then in alone._asdict().items():
        np.testing.assert_allclose(getattr(beside, name), then, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(
            getattr(mixed, name)[:, ::2], then[:, ::2], atol=1e-5, err_msg=name
        )


@pytest.mark.parametrize("beams", [1, 3])
def test_sentences_of_one_word_and_of_nothing_but_the_end(features, beams):
    module = captioner("shared", 7)
    params = random_params(module, features)
    one = generate(module, params, features, 1, beams)
    assert one.tokens.shape == (B, N, 1) and np.isin(one.tokens, [END, 4, 5, 6]).all()
    np.testing.assert_allclose(one.attention.sum(-1), 1, atol=1e-5)
    empty = generate(module, random_params(module, features, end=50.0), features, 5, beams)
    np.testing.assert_array_equal(empty.tokens, np.broadcast_to([END, 0, 0, 0, 0], (B, N, 5)))
    np.testing.assert_allclose(empty.scores, 0, atol=1e-6)
    assert np.all(empty.attention[..., 1:, :] == 0)


def test_special_tokens_are_never_generated(features):
    """Even where it is the likeliest, and where fewer words than beams are left."""
    module = captioner("shared", 6)
    params = random_params(module, features, scale=0.3)
    params["logits_bias"][[0, 1, 3]] = 9.0
    for beams in (1, 8):
        generated = generate(module, params, features, 5, beams)
        ended = np.cumsum(generated.tokens == END, -1) - (generated.tokens == END) > 0
        assert np.isin(generated.tokens[~ended], [END, 4, 5]).all()
        assert (generated.tokens[ended] == PAD).all()
        # The score is under the whole softmax, to which those tokens belong.
        assert (generated.scores < -5).all() and np.isfinite(generated.scores).all()


@pytest.mark.parametrize("beams", [1, 3])
def test_bfloat16_search_agrees_with_bfloat16_steps(features, beams):
    """Scores stay float32; the sentence is the one that the same steps score best."""
    module = captioner("shared", 9, jnp.bfloat16)
    params = random_params(module, features)
    generated = generate(module, params, features, 6, beams)
    assert generated.scores.dtype == generated.attention.dtype == np.float32
    start = np.ones((B, N, 1), np.int32)
    tokens = np.concatenate([start, generated.tokens], -1)
    logits, _ = jax.jit(
        lambda p: module.apply({"params": p}, features, tokens, False, method="teacher_force")
    )(params)
    words = generated.tokens != PAD
    chosen = np.take_along_axis(jax.nn.log_softmax(logits), generated.tokens[..., None], -1)[..., 0]
    again = np.where(words, chosen, 0).sum(-1) / words.sum(-1)
    np.testing.assert_allclose(generated.scores, again, atol=0.02)
    assert np.any(generated.scores != generated.scores.astype(jnp.bfloat16).astype(np.float32))
