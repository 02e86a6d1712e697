"""Multi-scale combination (MSC): chosen taps of the backbone become one stem feature map."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from vlfau_jax.model.swin import by_token, convolution, dense


def pooling_cells(size: int, cells: int) -> list[tuple[int, int]]:
    """Where each of `cells` begins and ends among `size` positions in adaptive pooling.

    Cell i covers floor(i*size/cells) .. ceil((i+1)*size/cells), which is never empty, even where
    there are more cells than positions.
    """
    return [(i * size // cells, -((-(i + 1) * size) // cells)) for i in range(cells)]


def pooling_matrix(size: int, cells: int) -> np.ndarray:
    """Averages `size` positions into `cells` (adaptive average pooling), float32 [cells, size]."""
    matrix = np.zeros((cells, size), np.float32)
    for i, (first, last) in enumerate(pooling_cells(size, cells)):
        matrix[i, first:last] = 1.0 / (last - first)
    return matrix


def average_pool(x: Array, height: int, width: int) -> Array:
    """Adaptive average pooling of [b, h, w, c] to [b, height, width, c]."""
    _, h, w, _ = x.shape
    if not h % height and not w % width:  # equal cells need no product, nor its gradient's
        return x.reshape(-1, height, h // height, width, w // width, x.shape[-1]).mean((2, 4))
    rows = jnp.asarray(pooling_matrix(h, height), x.dtype)
    cols = jnp.asarray(pooling_matrix(w, width), x.dtype)
    return jnp.einsum("ih,jw,bhwc->bijc", rows, cols, x)


def max_pool(x: Array, height: int, width: int) -> Array:
    """Adaptive max pooling of [b, h, w, c] to [b, height, width, c], over the same cells."""
    for axis, cells in ((1, height), (2, width)):
        size = x.shape[axis]
        if size == cells:
            continue
        spans = pooling_cells(size, cells)
        x = jnp.stack(
            [jax.lax.slice_in_dim(x, first, last, axis=axis).max(axis) for first, last in spans],
            axis,
        )
    return x


POOLINGS = {"average": average_pool, "max": max_pool}


class MultiScaleCombination(nn.Module):
    """Pools each chosen tap to the stem grid, 3x3 convolution each, concatenation, linear map.

    Attributes:
        width: channels of F.
        grid: the stem grid's height and width; 0 takes the last tap's, as in the paper, whether
            that tap is chosen or not.
        taps: which of the backbone's taps are fused, counted from 1. Convolution `tap{i}` belongs
            to tap i + 1 whatever the choice, so that a subset keeps the whole set's names.
        pooling: a key of `POOLINGS`.
        dtype: compute dtype.
    """

    width: int
    grid: int = 0
    taps: tuple[int, ...] = (1, 2, 3, 4)
    pooling: str = "average"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, taps: Sequence[Array]) -> Array:
        """All taps [b, h_i, w_i, c_i] of the backbone -> F, float32 [b, h, w, width]."""
        h, w = (self.grid, self.grid) if self.grid else taps[-1].shape[1:3]
        pool = POOLINGS[self.pooling]
        scales = [
            convolution(self.width, 3, 1, ("in", "embed"), self.dtype, f"tap{tap - 1}")(
                pool(taps[tap - 1].astype(self.dtype), h, w)
            )
            for tap in self.taps
        ]
        fused = jnp.concatenate(scales, axis=-1)
        fuse = dense(self.width, ("tap", "embed"), self.dtype, "fuse")
        return by_token(fuse, fused).astype(jnp.float32)
