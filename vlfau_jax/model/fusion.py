"""Multi-scale combination (MSC): four taps of the backbone become one stem feature map."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from vlfau_jax.model.swin import convolution, dense


def pooling_matrix(size: int, cells: int) -> np.ndarray:
    """Averages `size` positions into `cells` (adaptive average pooling), float32 [cells, size].

    Cell i covers floor(i*size/cells) .. ceil((i+1)*size/cells), as adaptive pooling is usually
    defined; where `cells` divides `size` this is plain average pooling.
    """
    matrix = np.zeros((cells, size), np.float32)
    for i in range(cells):
        first, last = i * size // cells, -((-(i + 1) * size) // cells)
        matrix[i, first:last] = 1.0 / (last - first)
    return matrix


def average_pool(x: Array, height: int, width: int) -> Array:
    """Adaptive average pooling of [b, h, w, c] to [b, height, width, c]."""
    _, h, w, _ = x.shape
    if (h, w) == (height, width):
        return x
    rows = jnp.asarray(pooling_matrix(h, height), x.dtype)
    cols = jnp.asarray(pooling_matrix(w, width), x.dtype)
    return jnp.einsum("ih,jw,bhwc->bijc", rows, cols, x)


class MultiScaleCombination(nn.Module):
    """Pools every tap to the stem grid, 3x3 convolution each, concatenation, linear map.

    `grid` is the stem grid's height and width; 0 takes the last tap's, as the paper does.
    """

    width: int
    grid: int = 0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, taps: Sequence[Array]) -> Array:
        """Taps [b, h_i, w_i, c_i] -> F, float32 [b, h, w, width]."""
        h, w = (self.grid, self.grid) if self.grid else taps[-1].shape[1:3]
        scales = [
            convolution(self.width, 3, 1, ("in", "embed"), self.dtype, f"tap{i}")(
                average_pool(tap.astype(self.dtype), h, w)
            )
            for i, tap in enumerate(taps)
        ]
        fused = jnp.concatenate(scales, axis=-1)
        return dense(self.width, ("tap", "embed"), self.dtype, "fuse")(fused).astype(jnp.float32)
