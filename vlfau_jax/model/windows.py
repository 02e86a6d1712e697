"""Windows of a feature map: partition, reverse, relative positions (Swin, arXiv 2103.14030)."""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np
from jax import Array


def patches(x: Array, size: int) -> Array:
    """Joins the cells of each square of [b, h, w, c]: [b, h/size, w/size, size**2 * c]."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // size, size, w // size, size, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // size, w // size, -1)


def partition(x: Array, window: int) -> Array:
    """Splits [b, h, w, c] into windows: [b * (h/window) * (w/window), window**2, c]."""
    return patches(x, window).reshape(-1, window * window, x.shape[-1])


def reverse(windows: Array, window: int, height: int, width: int) -> Array:
    """Undoes `partition`: [b * windows, window**2, c] -> [b, height, width, c]."""
    c = windows.shape[-1]
    x = windows.reshape(-1, height // window, width // window, window, window, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, height, width, c)


def pad_to_windows(x: Array, window: int) -> Array:
    """Pads [b, h, w, c] with zeros, below and right, to multiples of `window`."""
    _, h, w, _ = x.shape
    return jnp.pad(x, ((0, 0), (0, -h % window), (0, -w % window), (0, 0)))


@functools.cache
def relative_position_index(window: int) -> np.ndarray:
    """Row of the bias table for each pair of tokens, int32 [window**2, window**2]."""
    rows, cols = np.meshgrid(np.arange(window), np.arange(window), indexing="ij")
    tokens = np.stack([rows.ravel(), cols.ravel()])
    offset = tokens[:, :, None] - tokens[:, None, :] + window - 1
    return (offset[0] * (2 * window - 1) + offset[1]).astype(np.int32)


@functools.cache
def shift_mask(height: int, width: int, window: int, shift: int) -> np.ndarray:
    """Additive mask of shifted windows, float32 [windows, window**2, window**2], 0 or -100.

    A cyclic shift brings far-apart strips into one window; tokens of different strips may not
    attend to each other. -100 (not -inf) is the reference implementation's value.
    """
    strips = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    region = np.zeros((1, height, width, 1), np.float32)
    for number, (rows, cols) in enumerate((r, c) for r in strips for c in strips):
        region[:, rows, cols] = number
    h, w = height // window, width // window
    tokens = region.reshape(h, window, w, window).transpose(0, 2, 1, 3).reshape(h * w, -1)
    return np.where(tokens[:, :, None] != tokens[:, None, :], -100.0, 0.0).astype(np.float32)
