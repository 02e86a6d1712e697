"""The network as ONNX and in PyTorch beside the live one, once for every switch of the options.

`tests/reference` is the independent network in PyTorch; these two are what users get.
"""

from dataclasses import asdict, replace

import jax
import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict, unflatten_dict

from tests.inference.programs import MAX_WORDS, UNITS, WORDS
from tests.reference.weights import random_params
from tests.tiny import TINY_MODEL
from vlfau_jax.data.text.vocabulary import END, START
from vlfau_jax.inference import torch_model
from vlfau_jax.inference.outputs import describe
from vlfau_jax.inference.weights import in_float32, stored
from vlfau_jax.model.vlfau import IMAGE_MEAN, IMAGE_STD, VLFAU, normalise

LENGTHS = {"local": MAX_WORDS[0] + 1, "global": MAX_WORDS[1] + 1}
BLOCKS = {"depths": (2, 2, 0, 1), "heads": (1, 2, 2, 4), "window": 3, "patch": 2, "stem": "patch"}
# Switch, pixels, precision of the weights.
CASES = {
    "shifted and padded windows": (BLOCKS, 36, "float32"),
    "convolutions": ({}, 16, "int8"),
    "pooled to a grid": ({"grid": 3, "taps": (1, 2, 4), "pooling": "max"}, 16, "bfloat16"),
    "averaged to a grid": ({"grid": 3, "taps": (1, 4), "global_captions": False}, 16, "float32"),
    "channel": ({"refinement": "channel", "channel_mlp": "separate"}, 16, "int8"),
    "spatial": ({"refinement": "spatial", "spatial_sigmoid": False}, 16, "float32"),
    "a decoder each": ({"local_captioner": "per_au", "global_context": True}, 16, "int8"),
    "an embedding each": ({"au_embedding": True, "refinement": "none"}, 16, "float32"),
    "told its score": ({"told_scores": True, "au_embedding": True}, 16, "int8"),
    "each told its own": ({"told_scores": True, "local_captioner": "per_au"}, 16, "float32"),
    "silent": ({"local_captions": False, "global_captions": False}, 16, "float32"),
}


@pytest.fixture(params=CASES, scope="module")
def case(request):
    """A network with its weights file, faces, and what it gives for them."""
    switch, size, precision = CASES[request.param]
    rng = np.random.default_rng(0)
    options = replace(TINY_MODEL, **switch)
    model = VLFAU(options, UNITS, WORDS)
    flat = flatten_dict(random_params(model, rng, size, size), sep="/")
    weights = stored({name: np.asarray(value) for name, value in flat.items()}, precision)
    params = unflatten_dict(in_float32(weights), sep="/")
    faces = rng.integers(0, 256, (5, size, size, 3), np.uint8)

    def run(params, faces):
        return describe(model, params, faces, MAX_WORDS, 1)

    return model, weights, params, faces, jax.device_get(jax.jit(run)(params, faces))


def check(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert (found[name].dtype, found[name].shape) == (values.dtype, values.shape), name
        if name.endswith("tokens"):
            np.testing.assert_array_equal(found[name], values, name)
        else:
            np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-5, err_msg=name)


def in_pytorch(model, weights, size):
    assert model.max_own_words + 1 == torch_model.OWN_LENGTH
    config = {
        "model": asdict(model.options),
        "aus": range(UNITS),
        "image_size": size,
        "vocabulary_size": WORDS,
        "sentence_lengths": LENGTHS,
        "normalisation": {"mean": IMAGE_MEAN, "std": IMAGE_STD},
    }
    network = torch_model.VLFAU(config)
    tensors = {
        name: torch.from_numpy(np.array(x, x.dtype if x.dtype == np.int8 else np.float32))
        for name, x in weights.items()
    }
    network.load_state_dict(torch_model.to_state(tensors))
    return network


def test_pytorch(case):
    model, weights, _, faces, expected = case
    network = in_pytorch(model, weights, faces.shape[1])
    answers = network.describe(torch.from_numpy(faces))
    check({name: value.numpy() for name, value in answers.items()}, expected)


def test_onnx(case):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    from vlfau_jax.inference.onnx_model import onnx_model

    model, weights, _, faces, expected = case
    made = onnx_model(
        model.options,
        weights,
        units=UNITS,
        words=WORDS,
        image_size=faces.shape[1],
        lengths=LENGTHS,
        own_length=model.max_own_words + 1,
    )
    settings = runtime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = runtime.InferenceSession(made.SerializeToString(), settings)
    names = [one.name for one in session.get_outputs()]
    asked = [{"sentences": np.asarray(say)} for say in (True, False)]
    if not model.options.captions:
        asked = [{}, {}]
    whole, alone = (
        dict(zip(names, session.run(names, {"image": faces} | more), strict=True)) for more in asked
    )
    check(whole, expected)
    for name in ("au_probabilities", "spatial_maps"):
        if name in whole:
            np.testing.assert_array_equal(alone[name], whole[name])
    assert all(len(alone[name]) == 0 for name in names if name.endswith("tokens"))
    one = dict(zip(names, session.run(names, {"image": faces[:1]} | asked[0]), strict=True))
    np.testing.assert_allclose(one["au_probabilities"], whole["au_probabilities"][:1], atol=1e-6)


def test_pytorch_trains_and_its_weights_come_back(tmp_path):
    """Logits of given sentences are the live network's; `save` writes the tensors it was given."""
    rng = np.random.default_rng(1)
    model = VLFAU(replace(TINY_MODEL, global_context=True, told_scores=True), UNITS, WORDS)
    params = random_params(model, rng, 36, 36)
    flat = {name: np.asarray(x) for name, x in flatten_dict(params, sep="/").items()}
    network = in_pytorch(model, flat, 36)
    faces = rng.integers(0, 256, (2, 36, 36, 3), np.uint8)
    local, whole = (rng.integers(4, WORDS, shape) for shape in ((2, UNITS, 4), (2, 5)))
    local[..., 0] = whole[..., 0] = START
    local[..., -1] = whole[..., -1] = END
    expected = model.apply({"params": params}, normalise(faces), local, whole)
    given = (torch.from_numpy(x) for x in (local, whole))
    found = network(network.normalise(torch.from_numpy(faces)), *given)
    for name in ("au_logits", "local_logits", "global_logits"):
        ours = getattr(found, name).detach().numpy()
        np.testing.assert_allclose(ours, getattr(expected, name), rtol=1e-4, atol=1e-4)
    sum(
        x.square().sum() for x in (found.au_logits, found.local_logits, found.global_logits)
    ).backward()
    assert all(p.grad.abs().sum() > 0 for p in network.parameters() if p.ndim > 1)
    torch_model.save(network, tmp_path / "model.safetensors")
    back = torch_model.to_state(torch_model.load_file(tmp_path / "model.safetensors"))
    assert back.keys() == network.state_dict().keys()
    assert all(torch.equal(back[name], x) for name, x in network.state_dict().items())
    assert torch_model.load_file(tmp_path / "model.safetensors").keys() == flat.keys()


@pytest.mark.parametrize(("precision", "limit"), [("bfloat16", 2**-8), ("int8", 0.5 / 127)])
def test_rounding_is_of_matrices_alone_and_bounded(precision, limit):
    model = VLFAU(replace(TINY_MODEL, local_captioner="per_au"), UNITS, WORDS)
    flat = flatten_dict(random_params(model, np.random.default_rng(0), 16, 16), sep="/")
    flat = {name: np.asarray(value) for name, value in flat.items()}
    weights = stored(flat, precision)
    rounded = in_float32(weights)
    assert rounded.keys() == flat.keys()
    changed = {name for name in flat if weights[name].dtype != np.float32}
    assert {name for name in flat if not np.array_equal(rounded[name], flat[name])} <= changed
    assert not [name for name in changed if name.endswith("bias") or "norm" in name]
    assert {"backbone/embedding/project/kernel", "local_captioner/words"} <= changed
    assert "local_captioner/attention_to_score" not in changed
    for name in changed:
        value = flat[name]
        axes = (0, 1, 2) if value.ndim == 4 else -2
        largest = np.abs(value).max(axes, keepdims=True)
        assert (np.abs(rounded[name] - value) <= 1.001 * limit * largest).all(), name
    assert np.array_equal(
        stored({"x/kernel": np.zeros((2, 2), np.float32)}, precision)["x/kernel"], np.zeros((2, 2))
    )
