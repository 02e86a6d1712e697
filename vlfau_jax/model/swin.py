"""Swin Transformer backbone (arXiv 2103.14030) with the taps that VL-FAU fuses.

Logical axis names of its parameters: `embed` (residual width), `heads` (queries, keys, values),
`mlp` (hidden width of a block), `window` (relative positions), `conv` (kernel extent), `in`,
`layers` (pairs of blocks, scanned). `layouts` says how blocks are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jax.ad_checkpoint import checkpoint_name

from vlfau_jax.model import window_kernel, windows
from vlfau_jax.model.draws import kept_rows
from vlfau_jax.model.options import scanned
from vlfau_jax.model.remat import rematerialised
from vlfau_jax.model.window_attention import IMAGE_AXES, KIND, is_fused, window_attention

NORM_EPSILON = 1e-5
# What a block keeps for its backward pass, beside its input, under `remat="dots"`: 6 of its widths.
# Queries, keys and values, 3 more, are computed again: a scan would copy them to where it keeps
# them, and back to where the kernel reads them, which takes longer than their product.
PRODUCTS = ("attention", "middle", "hidden")


def named(init: Callable, *axes: str) -> Callable:
    """An initialiser whose parameter carries logical axis names."""
    return nn.with_logical_partitioning(init, axes)


def layer_norm(name: str) -> nn.LayerNorm:
    """LayerNorm in float32 whatever the compute dtype."""
    return nn.LayerNorm(
        epsilon=NORM_EPSILON,
        dtype=jnp.float32,
        scale_init=named(nn.initializers.ones, "embed"),
        bias_init=named(nn.initializers.zeros, "embed"),
        name=name,
    )


def group_norm(name: str) -> nn.GroupNorm:
    """Normalisation over the whole map in float32; unlike LayerNorm it keeps local contrast."""
    return nn.GroupNorm(
        num_groups=1,
        epsilon=NORM_EPSILON,
        dtype=jnp.float32,
        scale_init=named(nn.initializers.ones, "embed"),
        bias_init=named(nn.initializers.zeros, "embed"),
        name=name,
    )


def dense(
    features: int, axes: tuple[str, str], dtype: jnp.dtype, name: str, bias: bool = True
) -> nn.Dense:
    """A linear layer with named axes.

    Swin initialises with a standard deviation of 0.02, which suits widths of hundreds and long
    schedules. At small widths the early taps then carry almost no signal, so the scale follows the
    fan-in here.
    """
    return nn.Dense(
        features,
        use_bias=bias,
        dtype=dtype,
        kernel_init=named(nn.initializers.lecun_normal(), *axes),
        bias_init=named(nn.initializers.zeros, axes[1]),
        name=name,
    )


def convolution(
    features: int, size: int, stride: int, axes: tuple[str, str], dtype: jnp.dtype, name: str
) -> nn.Conv:
    """A square convolution, zero padded so that stride 1 keeps the size, with named axes."""
    pad = (size - 1) // 2 if size != stride else 0
    return nn.Conv(
        features,
        (size, size),
        strides=stride,
        padding=[(pad, pad)] * 2,
        dtype=dtype,
        kernel_init=named(nn.initializers.lecun_normal(), "conv", "conv", *axes),
        bias_init=named(nn.initializers.zeros, axes[1]),
        name=name,
    )


def drop_path(x: Array, keep: Array | np.float32, key: Array | None, rows: Array) -> Array:
    """Stochastic depth: an example keeps its residual branch at rate `keep` (arXiv 1603.09382)."""
    if key is None:
        return x
    kept = kept_rows(key, rows, keep, (1,) * (x.ndim - 1))
    return jnp.where(kept, x / keep.astype(x.dtype), 0.0)


def by_token(layer: Callable[[Array], Array], x: Array) -> Array:
    """A normalisation or product along the channels of [..., c], at every token.

    XLA's CPU backend hands both to a library, as they are shaped: of a map [b, h, w, c] it makes
    many small products of w rows, on one core, of a matrix [tokens, c] one. A TPU's tiles hold
    eight rows: there a map of 28 or 14 columns would have to be laid out anew, and stays a map.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    if device is not None and device.platform == KIND:
        return layer(x)
    y = layer(x.reshape(-1, x.shape[-1]))
    return y.reshape(*x.shape[:-1], *y.shape[1:])


@jax.custom_vjp
def gelu(x: Array) -> Array:
    """The exact GELU, x * Phi(x) with the normal distribution's Phi, computed in float32.

    The backward pass keeps `x` alone. Phi = (1 + erf(x / sqrt(2))) / 2, as in PyTorch: with erfc
    (`nn.gelu`) XLA needs over twice as long to compile a block for TPU (account/README.md).
    """
    wide = x.astype(jnp.float32)
    return (wide * _phi(wide)).astype(x.dtype)


def _phi(x: Array) -> Array:
    return 0.5 + 0.5 * jax.lax.erf(x * np.float32(0.5**0.5))


def _gelu_backward(x: Array, cotangent: Array) -> tuple[Array]:
    wide = x.astype(jnp.float32)
    density = np.float32((2 * np.pi) ** -0.5) * jnp.exp(-0.5 * wide * wide)
    return (((_phi(wide) + wide * density) * cotangent.astype(jnp.float32)).astype(x.dtype),)


gelu.defvjp(lambda x: (gelu(x), x), _gelu_backward)


class DenseParameters(nn.Module):
    """Kernel [*inputs, features] and bias [features] of a linear layer applied elsewhere."""

    features: int
    axes: tuple[str, ...]

    @nn.compact
    def __call__(self, *inputs: int) -> tuple[Array, Array]:
        """Declares them as `dense` and `convolution` do, with their initial values."""
        init = named(nn.initializers.lecun_normal(), *self.axes)
        kernel = self.param("kernel", init, (*inputs, self.features))
        zeros = named(nn.initializers.zeros, self.axes[-1])
        return kernel, self.param("bias", zeros, (self.features,))


class PatchEmbedding(nn.Module):
    """Image [b, h, w, 3] -> tokens [b, h/patch, w/patch, width].

    `stem="patch"` is Swin's own patch projection. `stem="conv"` reaches the same stride through
    3x3 convolutions of stride 2 and learns far sooner from scratch (arXiv 2106.14881).
    """

    width: int
    patch: int
    stem: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, image: Array) -> Array:
        _, h, w, _ = image.shape
        x = jnp.pad(image, ((0, 0), (0, -h % self.patch), (0, -w % self.patch), (0, 0)))
        if self.stem == "patch":
            # A product: of a convolution's three channels no device makes full tiles.
            axes = ("conv", "conv", "in", "embed")
            kernel, bias = DenseParameters(self.width, axes, name="project")(*[self.patch] * 2, 3)
            kernel = kernel.astype(self.dtype).reshape(-1, self.width)
            x = by_token(lambda x: x @ kernel, windows.patches(x.astype(self.dtype), self.patch))
            x = x + jnp.broadcast_to(bias.astype(self.dtype), x.shape)
        else:
            halvings = self.patch.bit_length() - 1
            for i in range(halvings):
                features = self.width >> (halvings - 1 - i)
                x = convolution(features, 3, 2, ("in", "embed"), self.dtype, f"conv{i}")(x)
                x = nn.gelu(group_norm(f"norm{i}")(x).astype(self.dtype))
            x = convolution(self.width, 3, 1, ("in", "embed"), self.dtype, "project")(x)
        return by_token(layer_norm("norm"), x).astype(self.dtype)


class WindowAttention(nn.Module):
    """Multi-head self-attention inside windows with a learned relative position bias.

    The windows are those of a map that is cyclically shifted by `shift` cells; `computed` is
    `ModelOptions.window_attention`.
    """

    heads: int
    window: int
    shift: int
    computed: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array, shifted: Array | bool = True) -> Array:
        """Map of whole windows [b, h, w, c] -> the same; not `shifted` is for the kernel alone."""
        _, h, w, c = x.shape
        parameters = [
            DenseParameters(c, ("embed", "heads"), name=name)(c)
            for name in ("query", "key", "value")
        ]
        table = self.param(
            "relative_position_bias",
            named(nn.initializers.truncated_normal(0.02), "window", "heads"),
            ((2 * self.window - 1) ** 2, self.heads),
        )
        # One product instead of three reads the tokens once. Queries, keys and values have an axis
        # of their own, since devices may split the channels of each.
        kernel, bias = (
            jnp.stack(parts, -2).astype(self.dtype) for parts in zip(*parameters, strict=True)
        )
        output = dense(c, ("heads", "embed"), self.dtype, "output")
        sizes = {"heads": self.heads, "window": self.window}
        if is_fused(self.computed, x.shape, self.heads):
            out = window_kernel.window_attention(
                x @ kernel.reshape(c, -1),
                bias.ravel(),
                table,
                **sizes,
                shift=self.shift,
                shifted=shifted,
                axes=IMAGE_AXES,
            )
            return output(checkpoint_name(out, "attention"))
        mask = None
        if self.shift:
            x = jnp.roll(x, (-self.shift, -self.shift), (1, 2))
            mask = windows.shift_mask(h, w, self.window, self.shift)
        x = windows.partition(x, self.window)
        qkv = by_token(lambda x: jnp.einsum("...i,iqc->...qc", x, kernel), x)
        out = window_attention(qkv + bias[None, None], table, mask, **sizes)
        out = by_token(output, checkpoint_name(out, "attention"))
        out = windows.reverse(out, self.window, h, w)
        return jnp.roll(out, (self.shift, self.shift), (1, 2)) if self.shift else out


class SwinBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); windows shifted by `shift` cells."""

    heads: int
    window: int
    shift: int
    mlp_ratio: float
    dtype: jnp.dtype
    window_attention: str = "auto"

    @nn.compact
    def __call__(
        self,
        x: Array,
        keep: Array | np.float32,
        key: Array | None,
        rows: Array,
        shifted: Array | bool = True,
    ) -> Array:
        """Tokens [b, h, w, c] -> the same.

        `shifted` is as `WindowAttention` takes it, the rest as `drop_path`.
        """
        _, h, w, c = x.shape
        keys = (None, None) if key is None else jax.random.split(key)

        y = by_token(layer_norm("norm_attention"), x).astype(self.dtype)
        y = windows.pad_to_windows(y, self.window)
        sizes = (self.heads, self.window, self.shift)
        y = WindowAttention(*sizes, self.window_attention, self.dtype, name="attention")(y, shifted)
        x = checkpoint_name(x + drop_path(y[:, :h, :w], keep, keys[0], rows), "middle")

        y = by_token(layer_norm("norm_mlp"), x).astype(self.dtype)
        y = by_token(dense(int(c * self.mlp_ratio), ("embed", "mlp"), self.dtype, "mlp_in"), y)
        y = checkpoint_name(y, "hidden")
        y = by_token(dense(c, ("mlp", "embed"), self.dtype, "mlp_out"), gelu(y))
        return x + drop_path(y, keep, keys[1], rows)


class BlockPair(nn.Module):
    """An unshifted block, then a shifted one: the scan body shared by equal pairs of a stage."""

    heads: int
    window: int
    shift: int
    mlp_ratio: float
    dtype: jnp.dtype
    window_attention: str = "auto"
    remat: str = "none"

    @nn.compact
    def __call__(
        self, x: Array, keep: Array, keys: Array | None, rows: Array
    ) -> tuple[Array, None]:
        """Tokens, and for each of both blocks its `keep` float32 [2] and key [2]."""
        block = rematerialised(SwinBlock, self.remat, products=PRODUCTS, scanned=True)
        sizes = (self.mlp_ratio, self.dtype, self.window_attention)
        for i, name in enumerate(("first", "second")):
            x = block(self.heads, self.window, i * self.shift, *sizes, name=name)(
                x, keep[i], None if keys is None else keys[i], rows
            )
        return x, None


ScannedPairs = nn.scan(
    BlockPair,
    variable_axes={"params": 0},
    split_rngs={"params": True},
    in_axes=(0, 0, nn.broadcast),
    metadata_params={nn.PARTITION_NAME: "layers"},
)


class PatchMerging(nn.Module):
    """Halves the grid and doubles the width: [b, h, w, c] -> [b, ceil(h/2), ceil(w/2), 2c]."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c = x.shape[-1]
        x = windows.pad_to_windows(x, 2)
        # The order of the four neighbours is the reference implementation's: columns outermost.
        x = jnp.concatenate([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], axis=-1)
        x = by_token(layer_norm("norm"), x).astype(self.dtype)
        return by_token(dense(2 * c, ("in", "embed"), self.dtype, "reduce", bias=False), x)


class Swin(nn.Module):
    """The backbone: normalised image [b, h, w, 3] -> four taps, coarse to fine grids.

    The taps are what stages 2, 3 and 4 get from patch merging, and the normalised output of
    stage 4 (paper, Fig. 2): for Swin-B at 224 px 28x28x256, 14x14x512, 7x7x1024, 7x7x1024.
    """

    width: int
    depths: Sequence[int]
    heads: Sequence[int]
    window: int
    patch: int = 4
    stem: str = "patch"
    mlp_ratio: float = 4.0
    drop_path_rate: float = 0.0
    dtype: jnp.dtype = jnp.float32
    scan_blocks: bool = False
    remat: str = "none"
    window_attention: str = "auto"

    @nn.compact
    def __call__(
        self, image: Array, train: bool = False, rows: Array | None = None
    ) -> tuple[Array, Array, Array, Array]:
        """`rows` int32 [b]: whose drop path each example takes; None counts them from 0."""
        rows = jnp.arange(image.shape[0]) if rows is None else rows
        blocks = sum(self.depths)
        keep = (1.0 - np.linspace(0.0, self.drop_path_rate, blocks)).astype(np.float32)
        # One stream for all blocks, so that both layouts draw the same.
        dropping = train and self.drop_path_rate > 0.0
        keys = jax.random.split(self.make_rng("drop_path"), blocks) if dropping else None
        x = PatchEmbedding(self.width, self.patch, self.stem, self.dtype, name="embedding")(image)
        taps = []
        done = 0
        for stage, depth in enumerate(self.depths):
            if stage:
                x = PatchMerging(self.dtype, name=f"merge{stage}")(x)
                taps.append(x)
            own = slice(done, done + depth)
            x = self._stage(stage, x, keep[own], None if keys is None else keys[own], rows)
            done += depth
        return (*taps, by_token(layer_norm("norm"), x))

    def _stage(
        self, stage: int, x: Array, keep: np.ndarray, keys: Array | None, rows: Array
    ) -> Array:
        """Blocks of one stage on [b, h, w, c]; `keep` and `keys` have one entry for each."""
        # A map no larger than the window is one window, unshifted.
        window = min(self.window, *x.shape[1:3])
        shift = window // 2 if min(x.shape[1:3]) > self.window else 0
        sizes = {
            "heads": self.heads[stage],
            "window": window,
            "mlp_ratio": self.mlp_ratio,
            "dtype": self.dtype,
            "window_attention": self.window_attention,
        }
        fused = is_fused(self.window_attention, x.shape, self.heads[stage])
        if fused and self.scan_blocks and len(keep) > 1 and not self.is_initializing():
            block = SwinBlock(**sizes, shift=shift, parent=None)
            return self._one_body(block, stage, x, keep, keys, rows)
        if self.scan_blocks and scanned(len(keep)):
            if keys is not None:
                keys = keys.reshape(-1, 2, *keys.shape[1:])
            pairs = ScannedPairs(**sizes, shift=shift, remat=self.remat, name=f"stage{stage}_pairs")
            return pairs(x, jnp.asarray(keep.reshape(-1, 2)), keys, rows)[0]
        kind = rematerialised(SwinBlock, self.remat, products=PRODUCTS)
        for i, own in enumerate(keep):
            block = kind(**sizes, shift=shift * (i % 2), name=f"stage{stage}_block{i}")
            x = block(x, own, None if keys is None else keys[i], rows)
        return x

    def _one_body(
        self,
        block: SwinBlock,
        stage: int,
        x: Array,
        keep: np.ndarray,
        keys: Array | None,
        rows: Array,
    ) -> Array:
        """What the blocks of a stage compute in either layout, as one scan over all of them.

        The kernel takes both kinds of windows, so that a program holds one block's code instead of
        two or all. Joining the parameters copies each once a step.
        """

        def body(x: Array, own: tuple) -> tuple[Array, None]:
            params, keep, key, shifted = own
            return block.apply({"params": params}, x, keep, key, rows, shifted), None

        params = nn.unbox(self.variables["params"])
        if pairs := params.get(f"stage{stage}_pairs"):
            pairs = pairs["first"], pairs["second"]
            joined = jax.tree.map(
                lambda *two: jnp.stack(two, 1).reshape(-1, *two[0].shape[1:]), *pairs
            )
        else:
            blocks = (params[f"stage{stage}_block{i}"] for i in range(len(keep)))
            joined = jax.tree.map(lambda *own: jnp.stack(own), *blocks)
        shifted = np.arange(len(keep)) % 2 == 1
        body = rematerialised(body, self.remat, products=PRODUCTS, scanned=True)
        with jax.named_scope(f"stage{stage}_pairs"):
            return jax.lax.scan(body, x, (joined, jnp.asarray(keep), keys, jnp.asarray(shifted)))[0]
