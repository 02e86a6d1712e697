"""The caption switches of the whole network, and what must hold whatever their values."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import linen as nn

from vlfau_jax.data.text.captions import CaptionTables
from vlfau_jax.data.text.vocabulary import PAD, Vocabulary
from vlfau_jax.facs import BENCHMARK_AUS
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.model.vlfau import VLFAU

B, AUS, VOCABULARY, TOKENS = 3, 4, 11, 5
LOCAL_WORDS, GLOBAL_WORDS = 2, 8  # at most, of generated sentences
TINY = ModelOptions(
    backbone_width=4,
    depths=(0, 0, 0, 0),
    heads=(1, 1, 1, 1),
    drop_path=0.0,
    width=12,
    taps=(4,),
    reduction=4,
    word_embedding=6,
    hidden=10,
    attention=7,
    dropout=0.5,
)
MODES = {
    "default": {},
    "per_au": {"local_captioner": "per_au", "global_captions": False},
    "no_captions": {"local_captions": False, "global_captions": False},
    "embedding_context": {"au_embedding": True, "global_context": True},
    "told": {"told_scores": True, "global_captions": False},
}


class WithoutBackbone(VLFAU):
    """The network after its backbone, which is not tested here and takes long to compile."""

    def setup(self):
        super().setup()
        self.backbone = lambda image, train, rows: (image,) * 4


def build(mode):
    return WithoutBackbone(
        dataclasses.replace(TINY, **MODES[mode]), AUS, VOCABULARY, max_own_words=GLOBAL_WORDS
    )


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(1)
    local = rng.integers(3, VOCABULARY, (B, AUS, TOKENS)).astype(np.int32)
    whole = rng.integers(3, VOCABULARY, (B, TOKENS + 2)).astype(np.int32)
    local[..., 0] = whole[..., 0] = 1
    return rng.normal(size=(B, 3, 3, 8)).astype(np.float32), local, whole


class Case:
    """A network in one mode: its training pass with the gradients of unit 1's score and of its
    sentence, and all other passes."""

    def __init__(self, mode, inputs):
        self.mode, self.model = mode, build(mode)
        model = self.model
        self.options = model.options
        # Nothing small and nothing zero: attention far from even, sentences that differ.
        shapes = nn.unbox(jax.eval_shape(model.init, jax.random.key(0), *inputs))["params"]
        rng = np.random.default_rng(0)
        self.params = jax.tree.map(
            lambda leaf: (0.5 * rng.normal(size=leaf.shape)).astype(np.float32), shapes
        )

        def of_unit_1(params, *inputs):
            rngs = {"dropout": jax.random.key(5)}
            outputs = model.apply({"params": params}, *inputs, train=True, rngs=rngs)
            answers = {"score": outputs.au_logits}
            if model.options.local_captions:
                answers["sentence"] = outputs.local_logits
            return {name: x[:, 1].sum() for name, x in answers.items()}, outputs

        def rest(params, image, *captions):
            params = {"params": params}
            return (
                model.apply(params, image, *captions),
                model.apply(params, image, LOCAL_WORDS, GLOBAL_WORDS, method="describe"),
                model.apply(params, image, method="score"),
            )

        self.train = jax.jit(jax.jacrev(of_unit_1, has_aux=True))
        self.rest = jax.jit(rest)


@pytest.fixture(scope="module", params=MODES)
def case(request, inputs):
    return Case(request.param, inputs)


def leaves(tree):
    return {jax.tree_util.keystr(k): v for k, v in jax.tree_util.tree_leaves_with_path(tree)}


def test_au_logits_come_from_the_image_alone(case, inputs):
    """Changed captions leave them and their gradient bit-equal, and no pass gives others."""
    image, local, whole = inputs
    other = (image, np.roll(local, 1, 0) % VOCABULARY, np.full_like(whole, 4))
    grads, trained = case.train(case.params, *inputs)
    grads_again, trained_again = case.train(case.params, *other)
    np.testing.assert_array_equal(trained.au_logits, trained_again.au_logits)
    for name, grad in leaves(grads["score"]).items():
        np.testing.assert_array_equal(grad, leaves(grads_again["score"])[name], err_msg=name)
    outputs, described, score = case.rest(case.params, *inputs)
    again, _, _ = case.rest(case.params, *other)
    np.testing.assert_array_equal(outputs.au_logits, again.au_logits)
    # There is no drop path here, and dropout must not reach them.
    for logits in (trained.au_logits, described.au_logits, score):
        np.testing.assert_allclose(logits, outputs.au_logits, atol=1e-5)


def assert_of_unit_1_alone(grads):
    for name, grad in leaves(grads).items():
        assert np.abs(grad[1]).max() > 0, name
        assert not np.any(np.delete(grad, 1, axis=0)), name


def test_a_units_score_reaches_its_own_branch_and_what_all_share(case, inputs):
    grads = case.train(case.params, *inputs)[0]["score"]
    assert_of_unit_1_alone({"refinement": grads["refinement"], "classifier": grads["classifier"]})
    assert np.abs(grads["fusion"]["fuse"]["kernel"]).max() > 0
    assert not any(map(np.any, jax.tree.leaves(grads.get("local_captioner"))))
    of = grads.get("global_captioner", {})
    if case.options.global_context:  # attention has a gradient, the choice of words has none
        for name in ("features_to_attention", "attention_to_score", "words", "hidden_to_gates"):
            assert np.abs(of[name]).max() > 0, name
        assert not np.any(of["hidden_to_logits"])
    else:
        assert not any(map(np.any, of.values()))


def test_a_units_sentence_reaches_its_own_branch_and_what_all_share(case, inputs):
    gradients, _ = case.train(case.params, *inputs)
    assert ("sentence" in gradients) == case.options.local_captions
    if not case.options.local_captions:
        return
    grads = gradients["sentence"]
    assert_of_unit_1_alone(grads["refinement"])
    assert np.abs(grads["fusion"]["fuse"]["kernel"]).max() > 0
    assert not any(map(np.any, grads["classifier"].values()))
    assert not any(map(np.any, grads.get("global_captioner", {}).values()))
    captioner = grads["local_captioner"]
    own = captioner if case.options.local_captioner == "per_au" else {"aus"} & captioner.keys()
    assert_of_unit_1_alone({name: captioner[name] for name in own})
    assert all(np.abs(grad).max() > 0 for grad in captioner.values())


def test_captions_that_are_off_leave_nothing_behind(case, inputs):
    outputs, described, _ = case.rest(case.params, *inputs)
    for name, on, rows, forced, generated in (
        ("local", case.options.local_captions, (B, AUS), TOKENS - 1, LOCAL_WORDS + 1),
        ("global", case.options.global_captions, (B,), TOKENS + 1, GLOBAL_WORDS + 1),
    ):
        assert (f"{name}_captioner" in case.params) == on
        for given, field, shape in (
            (outputs, "logits", (*rows, forced, VOCABULARY)),
            (outputs, "attention", (*rows, forced, 3, 3)),
            (described, "tokens", (*rows, generated)),
            (described, "attention", (*rows, generated, 3, 3)),
            (described, "scores", rows),
        ):
            value = getattr(given, f"{name}_{field}")
            assert value.shape == shape if on else value is None, field


def test_permuting_the_batch_permutes_all_answers(case, inputs):
    order = np.asarray([2, 0, 1])
    answers = leaves(case.rest(case.params, *inputs))
    again = leaves(case.rest(case.params, *(x[order] for x in inputs)))
    for name, value in answers.items():
        np.testing.assert_allclose(again[name], value[order], atol=1e-5, err_msg=name)


OWN_WORDS = {"per_au": "words", "embedding_context": "aus"}


@pytest.mark.parametrize("case", OWN_WORDS, indirect=True)
def test_each_units_sentence_has_its_own_parameters(case, inputs):
    """Also where only some units have sentences, in another order."""
    name = OWN_WORDS[case.mode]
    captioner = case.params["local_captioner"]
    changed = captioner[name] + np.eye(AUS, dtype=np.float32)[1].reshape(
        AUS, *(1 for _ in captioner[name].shape[1:])
    )
    params = {**case.params, "local_captioner": {**captioner, name: changed}}
    outputs = case.rest(case.params, *inputs)[0]
    logits, again = outputs.local_logits, case.rest(params, *inputs)[0].local_logits
    differs = np.abs(logits - again).max((0, 2, 3))
    np.testing.assert_array_equal(differs > 0, [False, True, False, False])
    chosen = np.asarray([2, 0])
    some = jax.jit(lambda p: case.model.apply({"params": p}, *inputs, branches=chosen))
    found = some(case.params)
    np.testing.assert_allclose(found.local_logits, logits[:, chosen], atol=1e-4)
    np.testing.assert_allclose(found.au_logits, outputs.au_logits, atol=1e-5)


@pytest.fixture(scope="module")
def seeing(inputs):
    return Case("embedding_context", inputs)


def test_the_context_is_the_mean_of_what_the_own_sentence_saw(seeing, inputs):
    """Recomputed from the sentence that `describe` returns, word by word."""
    params = seeing.params
    outputs, described, _ = seeing.rest(params, *inputs)
    kernel = params["classifier"]["context_kernel"]
    without_context = {
        **params,
        "classifier": {**params["classifier"], "context_kernel": 0 * kernel},
    }
    without = seeing.rest(without_context, *inputs)[0]
    lengths = set()
    for b in range(B):
        words = int((described.global_tokens[b] != PAD).sum())
        lengths.add(words)
        contexts = [
            (np.asarray(described.global_attention)[b, t, ..., None] * outputs.stem[b]).sum((0, 1))
            for t in range(words)
        ]
        share = kernel @ np.mean(contexts, 0)
        assert np.abs(share).max() > 1e-2
        np.testing.assert_allclose(outputs.au_logits[b] - without.au_logits[b], share, atol=1e-4)
    assert len(lengths) > 1 and max(lengths) > 1, lengths


def test_the_own_sentence_may_be_as_long_as_the_longest_true_one():
    longest = CaptionTables(BENCHMARK_AUS, Vocabulary.build()).max_global_tokens
    assert VLFAU(TINY, AUS, VOCABULARY).max_own_words >= longest - 2  # <start> and <end>


def test_wider_beams_are_asked_for_by_their_number(seeing, inputs):
    params, image = {"params": seeing.params}, inputs[0]
    _, greedy, _ = seeing.rest(seeing.params, *inputs)
    wide = jax.jit(
        lambda: seeing.model.apply(params, image, LOCAL_WORDS, GLOBAL_WORDS, 4, method="describe")
    )()
    assert wide.global_scores.shape == (B,)
    assert np.all(wide.global_scores >= greedy.global_scores - 1e-5)
    assert np.any(wide.global_scores > greedy.global_scores + 1e-3)
    np.testing.assert_allclose(wide.au_logits, greedy.au_logits, atol=1e-5)


def test_a_sentence_hears_what_is_scored(inputs):
    model = build("told")
    params = model.init(jax.random.key(0), *inputs)["params"]
    own = model.apply({"params": params}, *inputs)
    decided = np.where(own.au_logits >= 0, 1.0, -1.0)
    assert np.array_equal(
        model.apply({"params": params}, *inputs, told=decided).local_logits, own.local_logits
    )
    for told in (-decided, 0 * decided):
        other = model.apply({"params": params}, *inputs, told=told)
        assert not np.isclose(other.local_logits, own.local_logits).all((1, 2, 3)).any()
        assert np.array_equal(other.au_logits, own.au_logits)
