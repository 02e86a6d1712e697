"""Window attention as one TPU kernel, forward and backward (Pallas).

The kernel reads queries, keys and values of a whole map [b, h, w, 3c] where their product left
them, and writes [b, h, w, c]. It cuts the windows, shifted ones too, inside the chip's fast memory,
so that neither a partitioned map nor a score ever is in HBM. The backward pass keeps the kernel's
inputs alone and computes the softmax again.

How tiles of 8 x 128 are filled. Every row of a window is padded to a multiple of 8 tokens, which
are whole tiles: n = 56 tokens for 7 x 7, 192 for 12 x 12. A tile's 128 channels hold G = 128/d
heads. With K [n, 128] the keys of these heads and Q [G * n, 128] their queries, G times below each
other and zero outside the channels of the own head, one product

    S^T = K Q^T,    [n, G * n]

has the scores of all G heads, over full tiles, without ever separating heads. The softmax goes down
the columns. The contraction of P^T with V over keys is [G * n, 128]: its row group g is right in
the channels of head g, and the sum of the groups, other channels masked, is the output [n, 128].
The backward pass, dO [G * n, 128] made of the cotangent as Q of the queries, is

    dV = P^T dO,   dP^T = V dO^T,   dS^T = P^T * (dP^T - sum_keys(P^T * dP^T)),
    dK = dS^T Q,   dQ = dS K.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import PartitionSpec

from vlfau_jax.model import windows

LANES = 128  # channels of a tile
SUBLANES = 8  # rows of a tile
ABSENT = -1e30  # is added to the scores of keys that are padding: their weights are 0
HEADROOM = 8 * 2**20  # bytes of fast memory for what is computed, beside arrays

Ref = Any  # an array in fast memory, read and written in place
Index = Array | int


def supported(c: int, heads: int) -> bool:
    """Whether the kernel computes maps of `c` channels: whole heads must fill a tile."""
    return not LANES % (c // heads)


def window_attention(
    qkv: Array,
    qkv_bias: Array,
    bias_table: Array,
    *,
    heads: int,
    window: int,
    shift: int,
    shifted: Array | bool = True,
    axes: tuple[str, ...] = (),
    interpret: bool = False,
) -> Array:
    """Attention inside windows, those of a map that is cyclically shifted by `shift` cells.

    Args:
        qkv: queries, keys and values side by side, [b, h, w, 3c], to which `qkv_bias` is still to
            be added; `window` divides h and w.
        qkv_bias: [3c].
        bias_table: float32 [(2 * window - 1)**2, heads], by relative position.
        heads: number of heads; `supported`.
        window: cells along a window's side.
        shift: cells by which windows are displaced, 0 for none; tokens that only a cyclic shift
            brings together do not attend to each other.
        shifted: bool [], whether they are displaced: a program compiles one kernel for both kinds
            of a Swin's blocks.
        axes: axes of the known mesh that split the images. The partitioner does not split kernels,
            it would gather all images for one; each device therefore runs it on its own.
        interpret: whether to run on the CPU, slowly, for tests.

    Returns:
        [b, h, w, c] in the dtype of `qkv`.
    """
    _, h, w, c3 = qkv.shape
    s = _Sizes(h, w, c3 // 3, heads, window, shift, axes, interpret)
    offsets = qkv_bias.astype(jnp.float32).reshape(3, s.channels)
    offsets = jnp.pad(offsets, ((0, 0), (0, s.groups * LANES - s.channels)))
    offsets = offsets.reshape(3 * s.groups, 1, LANES)
    shifted = jnp.asarray(shifted, jnp.int32).reshape(1)
    return _attention(s, qkv, offsets, _bias(bias_table, window, s.packed), shifted)


@dataclass(frozen=True)
class _Sizes:
    """All that decides which kernel it is."""

    height: int
    width: int
    channels: int
    heads: int
    window: int
    shift: int
    axes: tuple[str, ...]
    interpret: bool

    @property
    def row(self) -> int:
        """Tokens of a window's row with its padding."""
        return -(-self.window // SUBLANES) * SUBLANES

    @property
    def tokens(self) -> int:
        """Tokens of a window with their padding."""
        return self.window * self.row

    @property
    def groups(self) -> int:
        """Tiles along the channels of queries, keys or values; the last may be filled in part."""
        return -(-self.channels // LANES)

    @property
    def packed(self) -> int:
        """Heads that fill a tile."""
        return LANES * self.heads // self.channels

    def tiles(self, channels: int) -> list[tuple[int, slice]]:
        """The tiles of a map of queries, keys and values, or of one of them: number, channels."""
        return [
            (
                part * self.groups + g,
                slice(
                    part * self.channels + g * LANES,
                    part * self.channels + min((g + 1) * LANES, self.channels),
                ),
            )
            for part in range(channels // self.channels)
            for g in range(self.groups)
        ]


def _bias(table: Array, window: int, packed: int) -> Array:
    """Biases by group of heads, transposed: float32 [groups, tokens (keys), packed * tokens]."""
    row = -(-window // SUBLANES) * SUBLANES
    padded, heads = window * row, table.shape[1]
    bias = table[windows.relative_position_index(window)]  # [queries, keys, heads]
    bias = bias.transpose(2, 1, 0).reshape(heads * window, window, window, window)
    wider = (0, row - window)
    bias = jnp.pad(bias, ((0, -heads % packed * window), wider, (0, 0), wider))
    bias = bias.reshape(-1, packed, padded, padded).swapaxes(1, 2)
    there = np.tile(np.arange(row) < window, window)
    return jnp.where(there[:, None, None], bias, ABSENT).reshape(-1, padded, packed * padded)


@functools.cache
def _masks(window: int, shift: int, packed: int) -> np.ndarray:
    """Masks of shifted windows, float32 [4, tokens (keys), packed * tokens (queries)].

    The first is of windows amid the map, then those of its last column, last row and corner.
    """
    row = -(-window // SUBLANES) * SUBLANES
    low, right = (
        side.ravel() >= window - shift
        for side in np.meshgrid(np.arange(window), np.arange(row), indexing="ij")
    )
    apart = [side[:, None] != side[None] for side in (low, right)]
    kinds = np.zeros_like(apart[0]), apart[1], apart[0], apart[0] | apart[1]
    return np.tile(np.where(np.stack(kinds), -100.0, 0.0), packed).astype(np.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(s: _Sizes, qkv: Array, offsets: Array, bias: Array, shifted: Array) -> Array:
    return _run(s, _forward_kernel, shifted, (qkv,), (offsets, bias), s.channels)[0]


def _attention_forward(s: _Sizes, *inputs: Array) -> tuple[Array, tuple[Array, ...]]:
    return _attention(s, *inputs), inputs


def _attention_backward(s: _Sizes, kept: tuple[Array, ...], cotangent: Array) -> tuple[Any, ...]:
    qkv, offsets, bias, shifted = kept
    maps, biases = (qkv, cotangent), (offsets, bias)
    gradients = _run(s, _backward_kernel, shifted, maps, biases, 3 * s.channels, sums=True)
    return *gradients, np.zeros(shifted.shape, jax.dtypes.float0)


_attention.defvjp(_attention_forward, _attention_backward)


def _run(
    s: _Sizes,
    kernel: Callable,
    shifted: Array,
    maps: tuple[Array, ...],
    biases: tuple[Array, ...],
    channels: int,
    sums: bool = False,
) -> tuple[Array, ...]:
    """Runs a kernel on every device, for one image after the other.

    `maps` are [b, h, w, channels]. The results are a map of `channels` and, if there are `sums`,
    arrays of the shape of `biases`, summed over images.
    """
    here = functools.partial(_run_here, s, kernel, channels, sums)
    if not s.axes:
        return here(shifted, maps, biases)

    def everywhere(
        shifted: Array, maps: tuple[Array, ...], biases: tuple[Array, ...]
    ) -> tuple[Array, ...]:
        out, *summed = here(shifted, maps, biases)
        return out, *jax.lax.psum(tuple(summed), s.axes)

    split, whole = PartitionSpec(s.axes), PartitionSpec()
    results = (split, *[whole] * (len(biases) * sums))
    inputs = (whole, split, whole)
    return jax.shard_map(everywhere, in_specs=inputs, out_specs=results, check_vma=False)(
        shifted, maps, biases
    )


def _run_here(
    s: _Sizes,
    kernel: Callable,
    channels: int,
    sums: bool,
    shifted: Array,
    maps: tuple[Array, ...],
    biases: tuple[Array, ...],
) -> tuple[Array, ...]:
    """`_run` on one device."""
    extent = (1, s.height, s.width)

    def a_map(channels: int) -> pl.BlockSpec:
        return pl.BlockSpec((*extent, channels), lambda image: (image, 0, 0, 0))

    def whole(x: Array) -> pl.BlockSpec:
        return pl.BlockSpec(x.shape, lambda image: (0, 0, 0))

    inputs = [*maps, *biases]
    specs = [*(a_map(x.shape[-1]) for x in maps), *map(whole, biases)]
    if s.shift:
        masks = jnp.asarray(_masks(s.window, s.shift, s.packed))
        inputs += [masks, shifted]
        specs.append(whole(masks))
    summed = biases if sums else ()
    batch = len(maps[0])
    shapes = [
        jax.ShapeDtypeStruct((batch, s.height, s.width, channels), maps[0].dtype),
        *(jax.ShapeDtypeStruct(x.shape, jnp.float32) for x in summed),
    ]
    out_specs = [a_map(channels), *map(whole, summed)]
    cut = (s.window, s.width + s.row, LANES)
    scratch = [
        pltpu.VMEM((tiles, *cut), jnp.float32)
        for tiles in (sum(len(s.tiles(x.shape[-1])) for x in maps), len(s.tiles(channels)))
    ]
    # Maps and biases are there twice, while one image is computed and the next is on its way.
    there = sum(2 * math.prod(spec.block_shape) * 4 for spec in (*specs, *out_specs))
    there += sum(math.prod(x.shape) * 4 for x in scratch)
    scalars = [pl.BlockSpec(memory_space=pltpu.SMEM)] * bool(s.shift)
    results = pl.pallas_call(
        functools.partial(kernel, s),
        grid=(batch,),
        in_specs=[*specs, *scalars],
        out_specs=out_specs,
        out_shape=shapes,
        scratch_shapes=scratch,
        compiler_params=pltpu.CompilerParams(vmem_limit_bytes=there + HEADROOM),
        interpret=s.interpret,
    )(*inputs)
    return tuple(results)


def _forward_kernel(s: _Sizes, qkv_ref: Ref, offset_ref: Ref, bias_ref: Ref, *refs: Ref) -> None:
    *shift_refs, out_ref, cut, written = refs
    dtype = qkv_ref.dtype

    def attend(g: Index, column: int, kind: Index) -> None:
        q, k, v = (_tile(s, cut, part * s.groups + g, column, offset_ref) for part in range(3))
        weights = _weights(s, k.astype(dtype), _spread(s, q, dtype), bias_ref, shift_refs, g, kind)
        out = _product(weights.astype(dtype), v.astype(dtype), 0, 0)
        _put(s, written, g, column, _gathered(s, out))

    _for_windows(s, (qkv_ref,), shift_refs, cut, attend, out_ref, written)


def _backward_kernel(
    s: _Sizes, qkv_ref: Ref, cotangent_ref: Ref, offset_ref: Ref, bias_ref: Ref, *refs: Ref
) -> None:
    *shift_refs, dqkv_ref, doffset_ref, dbias_ref, cut, written = refs
    dtype = qkv_ref.dtype

    @pl.when(pl.program_id(0) == 0)
    def _() -> None:
        doffset_ref[...] = jnp.zeros_like(doffset_ref)
        dbias_ref[...] = jnp.zeros_like(dbias_ref)

    def differentiate(g: Index, column: int, kind: Index) -> None:
        q, k, v = (_tile(s, cut, part * s.groups + g, column, offset_ref) for part in range(3))
        do = _tile(s, cut, 3 * s.groups + g, column)
        k, v = k.astype(dtype), v.astype(dtype)
        q, do = _spread(s, q, dtype), _spread(s, do, dtype)
        weights = _weights(s, k, q, bias_ref, shift_refs, g, kind)
        dweights = _product(v, do, 1, 1)
        dscores = weights * (dweights - (weights * dweights).sum(0, keepdims=True))
        dbias_ref[g] += dscores
        dscores = (dscores * _scale(s)).astype(dtype)
        gradients = (
            _gathered(s, _product(dscores, k, 0, 0)),
            _product(dscores, q, 1, 0),
            _product(weights.astype(dtype), do, 1, 0),
        )
        for part, gradient in enumerate(gradients):
            doffset_ref[part * s.groups + g] += gradient.sum(0, keepdims=True)
            _put(s, written, part * s.groups + g, column, gradient)

    _for_windows(s, (qkv_ref, cotangent_ref), shift_refs, cut, differentiate, dqkv_ref, written)


def _scale(s: _Sizes) -> float:
    return (s.channels // s.heads) ** -0.5


def _for_windows(
    s: _Sizes,
    inputs: Sequence[Ref],
    shift_refs: Sequence[Ref],
    cut: Ref,
    window: Callable[[Index, int, Index], None],
    output: Ref,
    written: Ref,
) -> None:
    """Calls `window(tile, column, kind of mask)` for all windows and tiles of an image.

    One row of windows after the other is copied from the inputs to `cut`, in float32, whose rows
    may start anywhere, and shifted there; what the windows left in `written` is shifted back and
    copied to the output. `shift_refs`, where there is a shift, are masks and whether it applies.
    """
    shifted = shift_refs[-1][0] if s.shift else 0
    if s.channels % LANES:  # of a tile that is filled in part the rest stays 0

        @pl.when(pl.program_id(0) == 0)
        def _() -> None:
            cut[...] = jnp.zeros_like(cut)

    def source(i: Index, r: Index) -> Array:
        row = i * s.window + r + s.shift * shifted
        return jnp.where(row >= s.height, row - s.height, row)

    def rolled(ref: Ref, tile: Index, r: Index, by: int) -> None:
        """Moves a row's cells by so many to the left, cyclically, if windows are shifted."""
        if s.shift:

            @pl.when(shifted == 1)
            def _() -> None:
                row, by_left = ref[tile, r, : s.width], by % s.width
                ref[tile, r, : s.width - by_left] = row[by_left:]
                ref[tile, r, s.width - by_left : s.width] = row[:by_left]

    def read(i: Index, r: Index) -> None:
        first = 0
        for ref in inputs:
            for g, channels in s.tiles(ref.shape[-1]):
                row = ref[0, source(i, r), :, channels].astype(jnp.float32)
                cut[first + g, r, : s.width, : channels.stop - channels.start] = row
                rolled(cut, first + g, r, s.shift)
            first += len(s.tiles(ref.shape[-1]))

    def write(i: Index, r: Index) -> None:
        for g, channels in s.tiles(output.shape[-1]):
            rolled(written, g, r, -s.shift)
            row = written[g, r, : s.width, : channels.stop - channels.start]
            output[0, source(i, r), :, channels] = row.astype(output.dtype)

    def body(i: Index, _: None) -> None:
        jax.lax.fori_loop(0, s.window, lambda r, _: read(i, r), None)
        columns = s.width // s.window

        def tiles(g: Index, _: None) -> None:
            for column in range(columns):
                last_row = (i == s.height // s.window - 1).astype(jnp.int32)
                window(g, column, shifted * (2 * last_row + (column == columns - 1)))

        jax.lax.fori_loop(0, s.groups, tiles, None)
        jax.lax.fori_loop(0, s.window, lambda r, _: write(i, r), None)

    jax.lax.fori_loop(0, s.height // s.window, body, None)


def _tile(s: _Sizes, cut: Ref, index: Index, column: int, offset_ref: Ref | None = None) -> Array:
    """One window's tokens in one tile of channels, float32 [tokens, 128]; padding is 0."""
    x = cut[index, :, column * s.window : column * s.window + s.row]
    if offset_ref is not None:
        x = x + offset_ref[pl.ds(index, 1)]
    there = jax.lax.broadcasted_iota(jnp.int32, x.shape, 1) < s.window
    return jnp.where(there, x, 0.0).reshape(s.tokens, LANES)


def _put(s: _Sizes, written: Ref, index: Index, column: int, x: Array) -> None:
    """Undoes `_tile`: the padding is left out."""
    x = x.reshape(s.window, s.row, LANES)[:, : s.window]
    written[index, :, column * s.window : (column + 1) * s.window] = x


def _heads(s: _Sizes) -> list[Array]:
    """For each head of a tile which channels are its own, bool [tokens, 128]."""
    lane = jax.lax.broadcasted_iota(jnp.int32, (s.tokens, LANES), 1)
    d = LANES // s.packed
    return [(lane >= head * d) & (lane < (head + 1) * d) for head in range(s.packed)]


def _spread(s: _Sizes, x: Array, dtype: jnp.dtype) -> Array:
    """[tokens, 128] -> [packed * tokens, 128]: once for each head, zero outside its channels."""
    return jnp.concatenate([jnp.where(own, x, 0.0).astype(dtype) for own in _heads(s)])


def _gathered(s: _Sizes, x: Array) -> Array:
    """[packed * tokens, 128] -> [tokens, 128]: of each head's rows its own channels."""
    rows = x.reshape(s.packed, s.tokens, LANES)
    return sum(jnp.where(own, rows[head], 0.0) for head, own in enumerate(_heads(s)))


def _weights(
    s: _Sizes, k: Array, q: Array, bias_ref: Ref, shift_refs: list[Ref], g: Index, kind: Index
) -> Array:
    """Softmax over keys of all heads of a tile, float32 [tokens, packed * tokens]."""
    scores = _product(k, q, 1, 1) * _scale(s) + bias_ref[g]
    if s.shift:
        scores = scores + shift_refs[0][kind]
    scores = jnp.exp(scores - scores.max(0, keepdims=True))
    return scores / scores.sum(0, keepdims=True)


def _product(x: Array, y: Array, of_x: int, of_y: int) -> Array:
    """The product of matrices over one axis of each, float32."""
    return jax.lax.dot_general(
        x, y, (((of_x,), (of_y,)), ((), ())), preferred_element_type=jnp.float32
    )
