"""The kernel of window attention: the plain path's values and gradients, and its fallback."""

import importlib.util
import logging
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st

from vlfau_jax.model import swin, window_kernel, windows
from vlfau_jax.model import window_attention as paths
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.model.swin import SwinBlock
from vlfau_jax.model.vlfau import VLFAU
from vlfau_jax.sharding.arrays import batch_sharding, known_mesh, replicated
from vlfau_jax.sharding.mesh import MeshOptions, make_mesh


def plain(qkv, table, heads, window, shift):
    """Attention inside displaced windows as `SwinBlock` computes it without the kernel."""
    _, h, w, _ = qkv.shape
    x, mask = qkv, None
    if shift:
        x = jnp.roll(x, (-shift, -shift), (1, 2))
        mask = windows.shift_mask(h, w, window, shift)
    x = windows.partition(x, window)
    x = x.reshape(*x.shape[:2], 3, -1)
    x = paths.window_attention(x, table, mask, heads=heads, window=window)
    return jnp.roll(windows.reverse(x, window, h, w), (shift, shift), (1, 2))


def with_gradients(attention, *inputs):
    *inputs, cotangent = inputs
    value, backward = jax.vjp(attention, *inputs)
    return value, *backward(cotangent)


@st.composite
def maps(draw):
    window = draw(st.sampled_from((3, 7, 12)))
    across, down = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    # A map of a single window is never displaced (`Swin._stage`).
    shift = draw(st.sampled_from((0, window // 2))) if min(across, down) > 1 else 0
    channels = draw(st.sampled_from((96, 128, 192, 256)))
    heads = channels // draw(st.sampled_from((32, 64) if channels % 64 == 0 else (32,)))
    shape = draw(st.integers(1, 2)), down * window, across * window, channels
    return shape, heads, window, shift, draw(st.booleans()), draw(st.sampled_from((0.3, 3.0)))


@settings(max_examples=8, deadline=None)
@given(maps())
def test_kernel_has_the_plain_paths_values_and_gradients(case):
    (b, h, w, c), heads, window, shift, shifted, scale = case
    rng = np.random.default_rng(0)

    def noise(*shape):
        return jnp.asarray(scale * rng.normal(size=shape), jnp.float32)

    inputs = (
        noise(b, h, w, 3 * c),
        noise(3 * c),
        noise((2 * window - 1) ** 2, heads),
        noise(b, h, w, c),
    )
    sizes = {"heads": heads, "window": window, "shift": shift}

    def kernel(qkv, bias, table):
        return window_kernel.window_attention(
            qkv, bias, table, **sizes, shifted=jnp.asarray(shifted), interpret=True
        )

    def expectation(qkv, bias, table):
        return plain(qkv + bias[None, None, None], table, heads, window, shift * shifted)

    found = with_gradients(kernel, *inputs)
    expected = with_gradients(expectation, *inputs)
    for x, y, tolerance in zip(found, expected, (1e-5, 1e-4, 1e-4, 1e-4), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance * np.abs(y).max())


@pytest.mark.parametrize(
    ("channels", "heads", "filled"),
    [(128, 4, True), (96, 3, True), (256, 1, False), (96, 2, False)],
)
def test_heads_that_do_not_fill_tiles_are_not_supported(channels, heads, filled):
    assert window_kernel.supported(channels, heads) == filled


class _Mesh:
    """What `is_fused` asks of a mesh."""

    def __init__(self, kind="tpu", data=4, tensor=1):
        self.abstract_device = type("Device", (), {"platform": kind})
        self.shape = {"data": data, "fsdp": 1, "tensor": tensor}
        self.size, self.empty = data * tensor, False


@pytest.mark.parametrize(
    ("mesh", "shape", "heads", "reason"),
    [
        (_Mesh(), (8, 14, 14, 128), 4, None),
        (_Mesh("cpu"), (8, 14, 14, 128), 4, "of kind cpu"),
        (_Mesh("cuda"), (8, 14, 14, 128), 4, "of kind cuda"),
        (_Mesh(tensor=2), (8, 14, 14, 128), 4, "mesh.tensor=2"),
        (_Mesh(), (6, 14, 14, 128), 4, "6 images do not split over 4"),
        (_Mesh(), (8, 14, 14, 96), 2, "2 heads of 48 channels"),
    ],
)
def test_what_a_device_cannot_run_falls_back_and_the_log_says_so_once(
    mesh, shape, heads, reason, caplog, monkeypatch
):
    paths._say_once.cache_clear()
    monkeypatch.setattr(jax.sharding, "get_abstract_mesh", lambda: mesh)
    assert not paths.is_fused("plain", shape, heads)
    with caplog.at_level(logging.WARNING):
        assert paths.is_fused("auto", shape, heads) == (reason is None)
        # Where the kernel could be expected nobody need have asked for it.
        assert bool(caplog.records) == (mesh.abstract_device.platform == "tpu" and bool(reason))
        for _ in range(2):
            assert paths.is_fused("fused", shape, heads) == (reason is None)
    assert all(reason in record.message for record in caplog.records)
    assert len(caplog.records) == (reason is not None)


def test_without_a_known_mesh_the_path_is_plain():
    """Exported programs have none: they hold plain operations alone."""
    assert not paths.is_fused("fused", (8, 14, 14, 128), 4)


@pytest.mark.parametrize("scan_blocks", [False, True])
def test_every_block_of_the_network_is_asked(scan_blocks, monkeypatch):
    asked = []
    monkeypatch.setattr(swin, "is_fused", lambda choice, *_: asked.append(choice))
    options = ModelOptions(
        backbone_width=4,
        depths=(1, 4, 0, 0),
        heads=(1, 1, 1, 1),
        window=2,
        window_attention="fused",
        scan_blocks=scan_blocks,
        local_captions=False,
        global_captions=False,
    )
    image, tokens = jnp.zeros((1, 32, 32, 3)), jnp.zeros((1, 1, 2), jnp.int32)
    jax.eval_shape(VLFAU(options, 1, 4).init, jax.random.key(0), image, tokens, tokens[:, 0])
    assert {*asked} == {"fused"}
    assert len(asked) >= (3 if scan_blocks else 5)


def block(choice):
    """A block whose map of 5 x 6 is padded to 6 x 6."""
    network = SwinBlock(4, 3, 1, 2.0, jnp.float32, window_attention=choice)
    return network, (np.ones(1, np.float32)[0], None, np.arange(4)), {}, (5, 6, 128)


def scanned(choice):
    """A backbone whose stages scan two and four blocks, some of them dropped."""
    network = swin.Swin(
        128,
        (2, 4),
        (4, 8),
        window=2,
        mlp_ratio=1.0,
        drop_path_rate=0.5,
        scan_blocks=True,
        remat="dots",
        window_attention=choice,
    )
    return network, (True,), {"drop_path": jax.random.key(1)}, (32, 32, 3)


@pytest.mark.parametrize("part", [block, scanned])
def test_a_part_computes_the_same_on_either_path_on_four_devices(part, monkeypatch):
    """The kernel runs on each device's own images, and no device gathers another's."""
    mesh = make_mesh(MeshOptions(data=2, fsdp=2), jax.devices()[:4])

    def run(choice):
        network, inputs, keys, extent = part(choice)
        x = np.random.default_rng(0).normal(size=(4, *extent)).astype(np.float32)
        params = nn.unbox(network.init({"params": jax.random.key(0), **keys}, x, *inputs))

        def loss(params, x):
            outputs = network.apply(params, x, *inputs, rngs=keys)
            return sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(outputs))

        split, whole = batch_sharding(mesh), replicated(mesh)
        step = jax.jit(
            known_mesh(jax.value_and_grad(loss, argnums=(0, 1)), mesh),
            in_shardings=(whole, split),
            out_shardings=(whole, (whole, split)),
        ).lower(params, x)
        compiled = step.compile()
        return compiled(params, x), compiled.as_text()

    expected, _ = run("plain")
    called = []

    def interpreted(*args, kernel=window_kernel.window_attention, **sizes):
        called.append(sizes)
        return kernel(*args, **sizes, interpret=True)

    monkeypatch.setattr(window_kernel, "window_attention", interpreted)
    monkeypatch.setattr(paths, "KIND", "cpu")
    found, text = run("auto")
    assert called
    assert "all-gather" not in text
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4)


COMPILED = """
import jax, numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P
from vlfau_jax.model.window_attention import IMAGE_AXES, is_fused
from vlfau_jax.model.window_kernel import window_attention
from vlfau_jax.sharding.arrays import known_mesh
topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")
mesh = Mesh(np.array(topology.devices).reshape(2, 2, 1), ("data", "fsdp", "tensor"),
            axis_types=(AxisType.Auto,) * 3)
split, whole = (NamedSharding(mesh, spec) for spec in (P(("data", "fsdp")), P()))
def gradients(qkv, bias, table, cotangent):
    assert is_fused("auto", cotangent.shape, 4)
    sizes = dict(heads=4, window=WINDOW, shift=WINDOW // 2, axes=IMAGE_AXES)
    return jax.vjp(lambda *x: window_attention(*x, **sizes), qkv, bias, table)[1](cotangent)
def shape(*sizes, dtype="bfloat16"):
    return jax.ShapeDtypeStruct(sizes, dtype)
side = 2 * WINDOW
text = jax.jit(known_mesh(gradients, mesh), in_shardings=(split, whole, whole, split),
    out_shardings=(split, whole, whole)).lower(shape(8, side, side, 384), shape(384),
    shape((2 * WINDOW - 1) ** 2, 4, dtype="float32"), shape(8, side, side, 128)).compile().as_text()
assert "tpu_custom_call" in text and "all-gather" not in text and "all-to-all" not in text, text
"""


@pytest.mark.parametrize("window", [7, 12])
def test_kernel_compiles_for_tpu(window):
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("pip install libtpu, and this test compiles the kernel for TPU v5e")
    env = os.environ | {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"}
    program = COMPILED.replace("WINDOW", str(window))
    run = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
