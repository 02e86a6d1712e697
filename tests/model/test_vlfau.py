"""Invariants of the network, at a small size."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vlfau_jax.errors import UserError
from vlfau_jax.model.fusion import average_pool, pooling_matrix
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.model.refinement import Refinement
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
AUS, VOCABULARY, LENGTH = 4, 11, 6


@pytest.fixture(scope="module")
def model():
    return VLFAU(SMALL, AUS, VOCABULARY)


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(1)
    image = normalise(jnp.asarray(rng.integers(0, 256, (3, 40, 40, 3)), jnp.uint8))
    local = rng.integers(3, VOCABULARY, (3, AUS, LENGTH)).astype(np.int32)
    whole = rng.integers(3, VOCABULARY, (3, LENGTH + 2)).astype(np.int32)
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
    assert outputs.local_logits.shape == (3, AUS, LENGTH - 1, VOCABULARY)
    assert outputs.global_logits.shape == (3, LENGTH + 1, VOCABULARY)
    np.testing.assert_allclose(outputs.local_attention.sum((-1, -2)), 1, rtol=1e-5)
    np.testing.assert_allclose(outputs.global_attention.sum((-1, -2)), 1, rtol=1e-5)


@pytest.mark.parametrize("train", [False, True])
def test_au_logits_are_blind_to_the_captions(apply, params, inputs, train):
    image, local, whole = inputs
    rngs = {name: jax.random.key(5) for name in ("dropout", "drop_path")}

    def logits(local, whole):
        return apply({"params": params}, image, local, whole, train=train, rngs=rngs).au_logits

    other = (np.roll(local, 1, 0) % VOCABULARY, np.full_like(whole, 4))
    np.testing.assert_array_equal(logits(local, whole), logits(*other))


def test_sentence_losses_do_reach_the_shared_features(apply, params, inputs):
    def spoken(params):
        return apply({"params": params}, *inputs).local_logits[..., 0].sum()

    grads = jax.jit(jax.grad(spoken))(params)
    assert np.abs(grads["refinement"]["squeeze"]).max() > 0
    assert np.abs(grads["backbone"]["embedding"]["conv0"]["kernel"]).max() > 0
    assert not np.any(grads["classifier"]["kernel"])


def test_a_branch_has_only_its_own_parameters(apply, params, inputs):
    score = jax.grad(lambda p: apply({"params": p}, *inputs).au_logits[:, 1].sum())
    grads = jax.jit(score)(params)
    for name, grad in grads["refinement"].items():
        assert np.abs(grad[1]).max() > 0, name
        assert not np.any(np.delete(grad, 1, axis=0)), name
    assert np.abs(grads["fusion"]["fuse"]["kernel"]).max() > 0


def test_chosen_branches_say_what_they_say_among_all(apply, params, inputs, outputs):
    chosen = apply({"params": params}, *inputs, branches=jnp.asarray([2, 0]))
    np.testing.assert_allclose(
        chosen.local_logits, outputs.local_logits[:, jnp.asarray([2, 0])], atol=1e-5
    )
    np.testing.assert_allclose(chosen.au_logits, outputs.au_logits, atol=1e-6)


def test_no_word_sees_a_later_word(apply, params, inputs, outputs):
    image, local, whole = inputs
    changed = local.copy()
    changed[..., 4] = 1 + changed[..., 4] % (VOCABULARY - 1)
    again = apply({"params": params}, image, changed, whole).local_logits
    np.testing.assert_array_equal(again[..., :4, :], outputs.local_logits[..., :4, :])
    assert np.abs(again[..., 4, :] - outputs.local_logits[..., 4, :]).max() > 0


def test_greedy_words_are_the_likeliest_under_teacher_forcing(model, apply, params, inputs):
    image, _, _ = inputs
    describe = jax.jit(lambda p: model.apply(p, image, LENGTH - 1, LENGTH + 1, method="describe"))
    said = describe({"params": params})
    start = np.ones((3, AUS, 1), np.int32)
    tokens = np.concatenate([start, said.local_tokens], -1)
    whole = np.concatenate([start[:, 0], said.global_tokens], -1)
    forced = apply({"params": params}, image, tokens, whole)
    # A padded position is one after the end: nothing was said there.
    ended = np.cumsum(np.asarray(said.local_tokens) == 2, -1) - (said.local_tokens == 2) > 0
    words = np.asarray(forced.local_logits).copy()
    words[..., [0, 1, 3]] = -np.inf
    likeliest = np.where(ended, 0, words.argmax(-1))
    np.testing.assert_array_equal(said.local_tokens, likeliest)
    np.testing.assert_allclose(said.au_logits, forced.au_logits, atol=1e-5)
    attention = np.where(ended[..., None, None], 0, forced.local_attention)
    np.testing.assert_allclose(said.local_attention, attention, atol=1e-5)


def test_permuting_the_batch_permutes_the_answers(apply, params, inputs, outputs):
    order = np.asarray([2, 0, 1])
    again = apply({"params": params}, *(x[order] for x in inputs))
    np.testing.assert_allclose(again.au_logits, outputs.au_logits[order], atol=1e-5)


def test_refinement_equals_one_branch_at_a_time(rng):
    """The stacked branches against the equations of the paper in NumPy, branch by branch."""
    module = Refinement(branches=3, reduction=2)
    stem = rng.normal(size=(2, 4, 5, 6)).astype(np.float32)
    params = nn.unbox(module.init(jax.random.key(3), stem))["params"]
    params = jax.tree.map(lambda x: x + 0.1, params)
    refined, maps = module.apply({"params": params}, stem)
    p = {name: np.asarray(value) for name, value in params.items()}

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    for n in range(3):

        def mlp(x, n=n):
            hidden = np.maximum(x @ p["squeeze"][n] + p["squeeze_bias"][n], 0)
            return hidden @ p["excite"][n] + p["excite_bias"][n]

        a = sigmoid(mlp(stem.max((1, 2))) + mlp(stem.mean((1, 2))))
        x = stem * a[:, None, None]
        pooled = np.pad(np.stack([x.max(-1), x.mean(-1)], -1), ((0, 0), (1, 1), (1, 1), (0, 0)))
        s = np.zeros(stem.shape[:3])
        for i in range(4):
            for j in range(5):
                patch = pooled[:, i : i + 3, j : j + 3]
                s[:, i, j] = (patch * p["spatial"][n]).sum((1, 2, 3)) + p["spatial_bias"][n]
        np.testing.assert_allclose(maps[:, n], sigmoid(s), atol=1e-5)
        np.testing.assert_allclose(refined[:, n], x * sigmoid(s)[..., None], atol=1e-5)


def test_pooling_is_the_plain_average_where_sizes_divide(rng):
    x = rng.normal(size=(2, 8, 6, 3)).astype(np.float32)
    plain = x.reshape(2, 4, 2, 3, 2, 3).mean((2, 4))
    np.testing.assert_allclose(average_pool(jnp.asarray(x), 4, 3), plain, atol=1e-6)
    np.testing.assert_allclose(pooling_matrix(7, 4).sum(1), 1, rtol=1e-6)


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
        {"refinement": "x"},
        {"scan_blocks": True, "depths": (1, 2, 3, 2)},
        {"channel_mlp": "separate", "refinement": "spatial"},
        {"spatial_sigmoid": False, "refinement": "channel"},
        {"global_context": True, "global_captions": False},
        {"local_captioner": "per_au", "local_captions": False},
        {"au_embedding": True, "local_captions": False},
        {"au_embedding": True, "local_captioner": "per_au"},
        {"hidden": 0},
        {"backbone_width": 0},
        {"grid": -1},
        {"dropout": 1.0},
        {"drop_path": 1.0},
    ],
    ids=str,
)
def test_an_impossible_model_is_refused_by_field(change):
    with pytest.raises(UserError, match=f"model.{next(iter(change))}"):
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
