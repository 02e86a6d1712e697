"""The decoder against its equations in NumPy, and the three ways to share it between units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vlfau_jax.model.captioner import Captioner
from vlfau_jax.sharding.mesh import MeshOptions, make_mesh
from vlfau_jax.sharding.rules import placements

B, N, P, D, T, V = 2, 3, 5, 6, 5, 9
SIZES = {
    "vocabulary_size": V,
    "feature_width": D,
    "embedding": 4,
    "hidden": 7,
    "attention": 3,
    "dropout": 0.4,
}
MODES = {"shared": {}, "per_au": {"decoders": N}, "embedding": {"au_embeddings": N}}


@pytest.fixture(scope="module")
def scene():
    rng = np.random.default_rng(2)
    tokens = rng.integers(3, V, (B, N, T)).astype(np.int32)
    tokens[..., 0] = 1
    return rng.normal(size=(B, N, P, D)).astype(np.float32), tokens


def random_params(module, scene, seed=0):
    """Parameters with nothing zero and nothing small, biases included."""
    shapes = jax.eval_shape(
        lambda key: module.init(key, *scene, False, method="teacher_force"), jax.random.key(0)
    )
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: (0.7 * rng.normal(size=leaf.shape)).astype(np.float32), nn.unbox(shapes)
    )["params"]


@pytest.fixture(scope="module", params=MODES, ids=str)
def mode(request, scene):
    module = Captioner(**SIZES, **MODES[request.param])
    force = jax.jit(
        lambda p, features, tokens, branches=None: module.apply(
            {"params": p}, features, tokens, False, branches, method="teacher_force"
        )
    )
    return request.param, force, random_params(module, scene)


def own_parameters(name, params, n):
    """What unit n's sentences depend on, as a plain decoder's parameters."""
    if name == "per_au":
        return {k: v[n] for k, v in params.items()}
    p = dict(params)
    if name == "embedding":
        p["words"] = p["words"] + p.pop("aus")[n]
    return p


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def begin(p, f):
    """h and c before the first word, for one map f [p, d]."""
    mean = f.mean(0)
    h = mean @ p["mean_to_hidden"] + p["hidden_bias"]
    return h, mean @ p["mean_to_cell"] + p["cell_bias"]


def decode_step(p, f, state, word):
    """One step of the module's equations for one sentence: state, logits, attention."""
    h, c = state
    hidden = h @ p["hidden_to_attention"] + f @ p["features_to_attention"] + p["attention_bias"]
    weights = softmax(np.maximum(hidden, 0) @ p["attention_to_score"])
    x = np.concatenate([p["words"][word], weights @ f, h])
    kernel = np.concatenate([p["words_to_gates"], p["context_to_gates"], p["hidden_to_gates"]])
    i, forget, g, o = np.split(x @ kernel + p["gates_bias"], 4)
    c = sigmoid(forget) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return (h, c), h @ p["hidden_to_logits"] + p["logits_bias"], weights


def test_every_sentence_follows_the_equations(mode, scene):
    name, force, params = mode
    features, tokens = scene
    logits, attention = force(params, features, tokens)
    assert logits.shape == (B, N, T - 1, V) and attention.shape == (B, N, T - 1, P)
    for b in range(B):
        for n in range(N):
            p, f = own_parameters(name, params, n), features[b, n]
            state = begin(p, f)
            for t in range(T - 1):
                state, expected, weights = decode_step(p, f, state, tokens[b, n, t])
                np.testing.assert_allclose(logits[b, n, t], expected, atol=2e-5)
                np.testing.assert_allclose(attention[b, n, t], weights, atol=1e-5)


def test_chosen_branches_use_their_own_parameters_and_no_others(mode, scene):
    name, force, params = mode
    features, tokens = scene
    chosen = jnp.asarray([2, 0])
    logits, _ = force(params, features, tokens)
    few, _ = force(params, features[:, chosen], tokens[:, chosen], chosen)
    np.testing.assert_allclose(few, logits[:, chosen], atol=1e-5)
    grads = jax.jit(
        jax.grad(lambda p: force(p, features[:, chosen], tokens[:, chosen], chosen)[0].sum())
    )(params)
    per_unit = {"per_au": set(params), "embedding": {"aus"}, "shared": set()}[name]
    for parameter, grad in grads.items():
        assert np.abs(grad).max() > 0, parameter
        if parameter in per_unit:
            assert not np.any(grad[1]), parameter
            assert np.abs(grad[0]).max() > 0 and np.abs(grad[2]).max() > 0, parameter


def test_no_word_sees_a_later_word_or_another_sentence(mode, scene):
    _, force, params = mode
    features, tokens = scene
    changed = tokens.copy()
    changed[0, 1, 2] = 3 + (tokens[0, 1, 2] - 2) % (V - 3)
    before, after = (force(params, features, words)[0] for words in (tokens, changed))
    differs = np.abs(before - after).max(-1) > 0
    expected = np.zeros((B, N, T - 1), bool)
    expected[0, 1, 2:] = True
    np.testing.assert_array_equal(differs, expected)


def test_dropout_is_drawn_anew_for_every_sentence_and_word(mode, scene):
    name, _, params = mode
    features = np.broadcast_to(scene[0][:1, :1], scene[0].shape)
    tokens = np.broadcast_to(scene[1][:1, :1], scene[1].shape)
    # Equal decoders before equal features: only dropout can make the sentences differ.
    shape = {"per_au": set(params), "embedding": {"aus"}, "shared": set()}[name]
    params = {k: np.broadcast_to(v[:1], v.shape) if k in shape else v for k, v in params.items()}
    module = Captioner(**SIZES, **MODES[name])
    logits, attention = module.apply(
        {"params": params},
        features,
        tokens,
        True,
        method="teacher_force",
        rngs={"dropout": jax.random.key(0)},
    )
    rows = np.asarray(logits).reshape(B * N, T - 1, V)
    assert len(np.unique(rows[:, 0], axis=0)) == B * N
    np.testing.assert_allclose(attention[1, 2], attention[0, 0], atol=1e-6)


def test_each_stacked_decoder_begins_like_a_plain_one(scene):
    features, tokens = scene
    draw = {}
    for name in ("shared", "per_au"):
        module = Captioner(**SIZES, **MODES[name])
        init = jax.jit(
            lambda key, module=module: module.init(
                key, features, tokens, False, method="teacher_force"
            )
        )
        draw[name] = jax.device_get(nn.unbox(init(jax.random.key(0)))["params"])
    assert draw["shared"].keys() == draw["per_au"].keys()
    for name, plain in draw["shared"].items():
        stacked = draw["per_au"][name]
        assert stacked.shape == (N, *plain.shape)
        if np.any(plain):
            assert np.abs(stacked[0] - stacked[1]).max() > 0, name
        if np.any(plain) and plain.size > 12:  # enough draws for a deviation
            assert 0.5 < np.std(stacked) / np.std(plain) < 2, name
    square = draw["per_au"]["hidden_to_gates"][1]
    np.testing.assert_allclose(square @ square.T, np.eye(len(square)), atol=1e-5)


@pytest.mark.parametrize("name", MODES)
def test_every_mode_can_be_sharded(name, scene):
    """Units over 'tensor' where each has its decoder; a shared one is whole there."""
    module = Captioner(**SIZES | {"hidden": 8}, **dict.fromkeys(MODES[name], 4))
    features, tokens = (np.repeat(x[:, :1], 4, axis=1) for x in scene)
    boxed = jax.eval_shape(
        lambda key: module.init(key, features, tokens, False, method="teacher_force"),
        jax.random.key(0),
    )["params"]
    rows = {row.path: row.spec for row in placements(boxed, make_mesh(MeshOptions(2, 2, 2)))}
    expected = ("tensor", "fsdp", None) if name == "per_au" else ("fsdp", None)
    assert rows["mean_to_cell"] == jax.sharding.PartitionSpec(*expected)
    assert ("aus" in rows) == (name == "embedding")
