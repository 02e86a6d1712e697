"""The backbone beside transformers' PyTorch Swin, through the files `import_backbone` reads."""

from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import load_file
from transformers import SwinConfig, SwinModel

from vlfau_jax.model.layouts import stack_blocks, unstack_blocks
from vlfau_jax.model.options import SIZES, scanned
from vlfau_jax.train.huggingface import backbone, hugging_face_name, import_backbone

SMALL = {"embed_dim": 8, "depths": (2, 4, 1, 2), "num_heads": (1, 2, 4, 2)}
OUTPUTS = ("embedding", "stage 1", "stage 2", "stage 3", "stage 4", "norm")


def full(size):
    """The reference's configuration of one of Swin's sizes."""
    ours = SIZES[size]
    names = {"embed_dim": "backbone_width", "depths": "depths", "num_heads": "heads"}
    return {theirs: ours[name] for theirs, name in names.items()}


def reference(seed, **config):
    """A SwinModel whose every parameter matters: biases and tables are not at their initial zero.

    Weights of unit gain spread the softmax; what a uniform attention returns would hide its input.
    """
    model = SwinModel(SwinConfig(**config), add_pooling_layer=False).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("table"):
                parameter.copy_(noise)
            elif parameter.ndim == 1:
                parameter.add_(0.3 * noise)
            else:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
    return model


def picture(seed, batch, height, width):
    """Noise of unit deviation, as a normalised picture has."""
    return np.random.default_rng(seed).normal(size=(batch, height, width, 3)).astype(np.float32)


def ours(model, scan):
    """Our network with the reference's parameters, by way of its files, looped or scanned."""
    with TemporaryDirectory() as folder:
        out = Path(folder, "ours.safetensors")
        model.save_pretrained(folder)
        import_backbone(folder, out)
        params = unflatten_dict(load_file(out), sep="/")["backbone"]
    if scan:
        assert any(map(scanned, model.config.depths))
        params = stack_blocks(params)
    return backbone(model.config).clone(scan_blocks=scan), params


def our_outputs(swin, params, image):
    """What `OUTPUTS` names, [b, h, w, c]."""
    last = f"stage3_block{swin.depths[3] - 1}"
    taps, state = swin.apply(
        {"params": params},
        image,
        capture_intermediates=lambda module, _: module.name in ("embedding", last),
        mutable=["intermediates"],
    )
    seen = state["intermediates"]
    return (seen["embedding"]["__call__"][0], *taps[:3], seen[last]["__call__"][0], taps[3])


def their_outputs(model, image):
    pixels = torch.from_numpy(image).permute(0, 3, 1, 2)
    answer = model(pixels, output_hidden_states=True)
    maps = [x.permute(0, 2, 3, 1) for x in answer.reshaped_hidden_states]
    return (*maps, answer.last_hidden_state.reshape(maps[-1].shape))


def errors(model, image, gradients, scan):
    """The largest error of each output over that output's largest value and, for a loss that
    weighs every value of every stage at random, the error of each parameter's gradient over that
    gradient, in the Euclidean norm."""
    swin, params = ours(model, scan)
    expected = their_outputs(model, image)
    rng = np.random.default_rng(7)
    weights = [rng.normal(size=y.shape).astype(np.float32) for y in expected]

    def loss(params, image):
        outputs = our_outputs(swin, params, image)
        return sum(jnp.sum(x * w) for x, w in zip(outputs, weights, strict=True)), outputs

    run = jax.value_and_grad(loss, has_aux=True) if gradients else loss
    answer = jax.device_get(jax.jit(run)(params, image))
    found = answer[0][1] if gradients else answer[1]
    for x, y in zip(found, expected, strict=True):
        assert x.shape == y.shape
    forward = {
        name: float(np.abs(x - y).max() / np.abs(y).max())
        for name, x, y in zip(OUTPUTS, found, (y.detach().numpy() for y in expected), strict=True)
    }
    if not gradients:
        return forward, {}
    sum((y * torch.from_numpy(w)).sum() for y, w in zip(expected, weights, strict=True)).backward()
    return forward, gradient_errors(model, flatten_dict(unstack_blocks(answer[1]), sep="/"))


def gradient_errors(model, found):
    theirs = {on_disk(name): p.grad.numpy() for name, p in model.named_parameters()}
    assert {hugging_face_name(name) for name in found} == theirs.keys()
    errors = {}
    for name, gradient in found.items():
        expected = theirs[hugging_face_name(name)]
        if name.endswith("kernel"):
            expected = expected.transpose((2, 3, 1, 0) if expected.ndim == 4 else (1, 0))
        scale = np.linalg.norm(expected)
        if name.endswith("key/bias"):
            # It moves all scores of a query alike, which softmax does not feel: the gradient is
            # zero but for rounding, which is measured against the query's.
            scale = np.linalg.norm(theirs[hugging_face_name(name.replace("key", "query"))])
            assert np.linalg.norm(expected) < 1e-3 * scale
        errors[name] = float(np.linalg.norm(gradient - expected) / scale)
    return errors


def on_disk(name):
    """The name in a file of a parameter in memory, spelt out independently of `huggingface`."""
    for memory, disk in (
        ("attention.q_proj", "attention.self.query"),
        ("attention.k_proj", "attention.self.key"),
        ("attention.v_proj", "attention.self.value"),
        ("attention.relative_position_bias.", "attention.self."),
        ("attention.o_proj", "attention.output.dense"),
        ("mlp.fc1", "intermediate.dense"),
        ("mlp.fc2", "output.dense"),
    ):
        name = name.replace(memory, disk)
    return name


def check(model, image, gradients=True, scan=False):
    found = errors(model, image, gradients, scan)
    for what, measured, limit in zip(("outputs", "gradients"), found, (1e-4, 1e-3), strict=True):
        if measured:
            worst = max(measured, key=measured.get)
            print(f"{what}: at most {measured[worst]:.1e}, of {worst}")
            assert measured[worst] < limit, measured


@pytest.mark.parametrize(
    ("window", "height", "width", "scan"),
    [
        (2, 64, 64, True),  # shifted windows up to the last stage
        (3, 99, 71, False),  # odd maps: padded to patches, to windows and to pairs
        (7, 224, 224, True),  # the last map is one window, unshifted
        (4, 130, 250, False),  # oblong: one window high, several wide
    ],
)
def test_small(window, height, width, scan):
    model = reference(window, window_size=window, image_size=224, **SMALL)
    check(model, picture(0, 2, height, width), scan=scan)


@pytest.mark.slow
def test_odd_sizes_need_padding_everywhere():
    height, width = sides = (225, 238)
    for stage in range(4):
        sides = [-(-side // (2 if stage else 4)) for side in sides]
        assert all(side % 7 for side in sides), f"stage {stage + 1} needs no padding"
    check(reference(0, **SMALL), picture(0, 1, height, width), scan=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_random_configurations(seed):
    rng = np.random.default_rng(seed)
    heads = tuple(int(n) for n in rng.choice([1, 2, 4], 4))
    window = int(rng.integers(2, 6))
    patch = int(rng.choice([2, 4]))
    model = reference(
        seed,
        embed_dim=4 * int(rng.integers(1, 4)),
        depths=tuple(int(n) for n in rng.integers(1, 4, 4)),
        num_heads=heads,
        window_size=window,
        patch_size=patch,
        mlp_ratio=float(rng.choice([1.0, 2.5, 4.0])),
    )
    # The reference cannot process a last map smaller than its window.
    smallest = patch * (8 * (window - 1) + 1)
    height, width = (int(n) for n in rng.integers(smallest, 2 * smallest, 2))
    check(model, picture(seed, 2, height, width), gradients=seed == 0)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["swin_t", "swin_s", "swin_b"])
def test_full_size_at_224(size):
    check(reference(1, **full(size)), picture(1, 1, 224, 224))


@pytest.mark.slow
def test_large_at_224_scanned():
    check(reference(1, **full("swin_l")), picture(1, 1, 224, 224), gradients=False, scan=True)


@pytest.mark.slow
def test_base_at_384_with_window_12():
    model = reference(2, image_size=384, window_size=12, **full("swin_b"))
    check(model, picture(2, 1, 384, 384))
