"""Attention of every token of a window to every other (Swin, arXiv 2103.14030).

    softmax(q k^T / sqrt(d) + bias + mask) v

for the heads of all windows, from queries, keys and values as one projection makes them. `bias` is
learned for each pair of relative positions; `mask` keeps the strips apart that a cyclic shift
brings into one window (`windows.shift_mask`).
"""

from __future__ import annotations

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vlfau_jax.model import window_kernel, windows
from vlfau_jax.model.products import float32_product

KIND = "tpu"  # of device that the kernel is written for
IMAGE_AXES = ("data", "fsdp")  # of the mesh, which split the images


def window_attention(
    qkv: Array, bias_table: Array, mask: np.ndarray | None, *, heads: int, window: int
) -> Array:
    """Attention inside windows.

    Args:
        qkv: queries, keys and values, [windows, n, 3, c], n = window**2; head i of each has
            channels i * c/heads to (i + 1) * c/heads.
        bias_table: float32 [(2 * window - 1)**2, heads], by relative position.
        mask: float32 [windows per image, n, n] to be added to the scores; None for none.
        heads: number of heads.
        window: cells along a window's side.

    Returns:
        [windows, n, c] in the dtype of `qkv`. Scores and softmax are float32.
    """
    total, n, _, c = qkv.shape
    q, k, v = jnp.moveaxis(qkv.reshape(total, n, 3, heads, c // heads), 2, 0)
    q = (q.astype(jnp.float32) * (c // heads) ** -0.5).astype(q.dtype)
    scores = float32_product("wqhd,wkhd->whqk", q, k)
    bias = bias_table[windows.relative_position_index(window)].transpose(2, 0, 1)[None]
    if mask is not None:
        bias = bias + mask[:, None]
    scores = (scores.reshape(-1, *bias.shape) + bias[None]).reshape(scores.shape)
    # softmax(s) v = (e v) / sum(e), e = exp(s - max(s)), divides d instead of n numbers a row.
    highest = jax.lax.stop_gradient(scores.max(-1, keepdims=True))
    weights = jnp.exp(scores - highest)
    out = float32_product("whqk,wkhd->whqd", weights.astype(v.dtype), v)
    out = (out / weights.sum(-1)[..., None]).astype(qkv.dtype)
    return out.transpose(0, 2, 1, 3).reshape(total, n, c)


def is_fused(choice: str, shape: tuple[int, ...], heads: int) -> bool:
    """Whether a map [b, h, w, c] of tokens takes the kernel, `window_kernel.window_attention`.

    It is compiled for TPUs alone, and for a program whose mesh is known (`jax.set_mesh`): exported
    programs have none.

    Args:
        choice: `ModelOptions.window_attention`.
        shape: that of the map, over all devices.
        heads: number of heads.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if choice == "plain" or mesh.empty:
        return False
    kind = mesh.abstract_device.platform
    shards = mesh.size // mesh.shape["tensor"]
    if kind != KIND:
        reason = f"devices are of kind {kind}, the kernel is for {KIND}"
    elif mesh.shape["tensor"] > 1:
        reason = f"mesh.tensor={mesh.shape['tensor']} splits the heads"
    elif shape[0] % shards:
        reason = f"{shape[0]} images do not split over {shards} devices"
    elif not window_kernel.supported(shape[-1], heads):
        reason = f"{heads} heads of {shape[-1] // heads} channels do not fill a tile of 128"
    else:
        return True
    if choice == "fused" or kind == KIND:
        _say_once(f"window attention without its kernel: {reason}")
    return False


@functools.cache
def _say_once(message: str) -> None:
    logging.getLogger(__name__).warning(message)
