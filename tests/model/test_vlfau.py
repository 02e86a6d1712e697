"""Invariants of the network, at a small size."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vlfau_jax.errors import UserError
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.model.vlfau import VLFAU, normalise

SMALL = ModelOptions(
    backbone_width=8,
    depths=(0, 0, 2, 1),
    heads=(1, 2, 2, 4),
    window=3,
    patch=2,
    stem="conv",
    drop_path=0.2,
    width=12,
    reduction=4,
    word_embedding=6,
    hidden=10,
    attention=7,
    dropout=0.3,
)
AUS, VOCABULARY, TOKENS = 4, 11, 6


@pytest.fixture(scope="module")
def model():
    return VLFAU(SMALL, AUS, VOCABULARY)


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(1)
    image = normalise(jnp.asarray(rng.integers(0, 256, (3, 40, 40, 3)), jnp.uint8))
    local = rng.integers(3, VOCABULARY, (3, AUS, TOKENS)).astype(np.int32)
    whole = rng.integers(3, VOCABULARY, (3, TOKENS + 2)).astype(np.int32)
    local[..., 0] = whole[..., 0] = 1
    return image, local, whole


@pytest.fixture(scope="module")
def params(model, inputs):
    return nn.unbox(jax.jit(model.init)(jax.random.key(0), *inputs))["params"]


@pytest.fixture(scope="module")
def apply(model):
    """The jitted pass; run op by op it would compile every operation on its own."""
    return jax.jit(model.apply, static_argnames=("train",))


@pytest.fixture(scope="module")
def outputs(apply, params, inputs):
    return apply({"params": params}, *inputs)


def test_shapes(outputs):
    assert outputs.au_logits.shape == (3, AUS)
    assert outputs.spatial_maps.shape == (3, AUS, 3, 3)
    assert outputs.local_logits.shape == (3, AUS, TOKENS - 1, VOCABULARY)
    assert outputs.global_logits.shape == (3, TOKENS + 1, VOCABULARY)
    np.testing.assert_allclose(outputs.local_attention.sum((-1, -2)), 1, rtol=1e-5)
    np.testing.assert_allclose(outputs.global_attention.sum((-1, -2)), 1, rtol=1e-5)


def test_au_logits_do_not_depend_on_the_captions(apply, params, inputs, outputs):
    image, local, whole = inputs
    other = (np.roll(local, 1, 0) % VOCABULARY, np.full_like(whole, 4))
    again = apply({"params": params}, image, *other).au_logits
    np.testing.assert_array_equal(again, outputs.au_logits)


def test_sentence_losses_do_reach_the_shared_features(apply, params, inputs):
    def sentence_logit(params):
        return apply({"params": params}, *inputs).local_logits[..., 0].sum()

    grads = jax.jit(jax.grad(sentence_logit))(params)
    assert np.abs(grads["refinement"]["squeeze"]).max() > 0
    assert np.abs(grads["backbone"]["embedding"]["conv0"]["kernel"]).max() > 0
    assert not np.any(grads["classifier"]["kernel"])


def test_greedy_words_are_the_likeliest_under_teacher_forcing(model, apply, params, inputs):
    image, _, _ = inputs
    describe = jax.jit(lambda p: model.apply(p, image, TOKENS - 2, TOKENS, method="describe"))
    described = describe({"params": params})
    start = np.ones((3, AUS, 1), np.int32)
    tokens = np.concatenate([start, described.local_tokens], -1)
    whole = np.concatenate([start[:, 0], described.global_tokens], -1)
    forced = apply({"params": params}, image, tokens, whole)
    # A padded position is one after the end: nothing was generated there.
    ended = (
        np.cumsum(np.asarray(described.local_tokens) == 2, -1) - (described.local_tokens == 2) > 0
    )
    words = np.asarray(forced.local_logits).copy()
    words[..., [0, 1, 3]] = -np.inf
    likeliest = np.where(ended, 0, words.argmax(-1))
    np.testing.assert_array_equal(described.local_tokens, likeliest)
    np.testing.assert_allclose(described.au_logits, forced.au_logits, atol=1e-5)
    attention = np.where(ended[..., None, None], 0, forced.local_attention)
    np.testing.assert_allclose(described.local_attention, attention, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"heads": (3, 2, 4, 8)},
        {"heads": (0, 2, 4, 8)},
        {"depths": (1, 1)},
        {"depths": (0, 0, 0, -1)},
        {"patch": 3},
        {"patch": 0},
        {"stem": "x"},
        {"dtype": "int8"},
        {"reduction": 0},
        {"window": 0},
        {"window": -7},
        {"taps": ()},
        {"taps": (0, 1)},
        {"taps": (2, 1)},
        {"taps": (1, 1)},
        {"pooling": "x"},
        {"pooling": "max", "taps": (4,)},
        {"pooling": "max", "taps": (3, 4)},
        {"mlp_ratio": 0.12, "backbone_width": 8},
        {"refinement": "x"},
        {"scan_blocks": True, "depths": (1, 2, 3, 2)},
        {"channel_mlp": "separate", "refinement": "spatial"},
        {"spatial_sigmoid": False, "refinement": "channel"},
        {"global_context": True, "global_captions": False},
        {"local_captioner": "per_au", "local_captions": False},
        {"au_embedding": True, "local_captions": False},
        {"told_scores": True, "local_captions": False},
        {"au_embedding": True, "local_captioner": "per_au"},
        {"hidden": 0},
        {"backbone_width": 0},
        {"backbone_width": 3, "patch": 8},
        {"grid": -1},
        {"dropout": 1.0},
        {"drop_path": 1.0},
    ],
    ids=str,
)
def test_an_impossible_model_is_refused_by_field_and_value(change):
    field, value = next(iter(change.items()))
    with pytest.raises(UserError) as refused:
        dataclasses.replace(SMALL, **change)
    message = str(refused.value)
    assert message.startswith((f"model.{field}={value}: ", f"model.{field}={value!r}: ")), message
    assert "\n" not in message
    for other in [*change][1:]:
        assert f"model.{other}=" in message


@pytest.mark.parametrize(
    "change",
    [
        {"mlp_ratio": 0.125},
        {"pooling": "max", "taps": (3, 4), "grid": 5},
        {"pooling": "max", "taps": (2, 3)},
    ],
    ids=str,
)
def test_what_is_just_possible_is_allowed(change):
    dataclasses.replace(SMALL, **change)


def test_bfloat16_logits_are_not_rounded_to_bfloat16(inputs, params):
    model = VLFAU(dataclasses.replace(SMALL, dtype="bfloat16"), AUS, VOCABULARY)
    out = jax.jit(model.apply)({"params": params}, *inputs)
    for logits in (out.local_logits, out.global_logits, out.au_logits):
        assert np.any(logits != logits.astype(jnp.bfloat16).astype(jnp.float32))


def test_scores_alone_are_the_scores_of_the_whole_pass(model, params, inputs, outputs):
    scores = jax.jit(lambda p: model.apply(p, inputs[0], method="score"))({"params": params})
    np.testing.assert_allclose(scores, outputs.au_logits, atol=1e-5)


def test_bfloat16_keeps_parameters_and_logits_in_float32(inputs):
    model = VLFAU(dataclasses.replace(SMALL, dtype="bfloat16"), AUS, VOCABULARY)
    variables = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}
    out = jax.eval_shape(model.apply, variables, *inputs)
    assert out.au_logits.dtype == out.local_logits.dtype == jnp.float32
