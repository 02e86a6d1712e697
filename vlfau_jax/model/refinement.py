"""Dual-level AU individual refinement (DAIR): one attention-refined feature map per action unit.

After CBAM (arXiv 1807.06521), with parameters stacked along the action unit axis, so that all
branches are one contraction and can be sharded over branches.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from vlfau_jax.model.swin import named

KERNEL = 3


def spatial_convolution(x: Array, kernel: Array) -> Array:
    """Each branch's own 3x3 convolution to one channel.

    Written as nine shifted products: XLA fuses them, while a grouped convolution of two channels
    is slow everywhere.

    Args:
        x: [b, n, h, w, c].
        kernel: [n, 3, 3, c].

    Returns:
        [b, n, h, w].
    """
    _, _, h, w, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(
        jnp.einsum("bnhwc,nc->bnhw", padded[:, :, i : i + h, j : j + w], kernel[:, i, j])
        for i in range(KERNEL)
        for j in range(KERNEL)
    )


class Refinement(nn.Module):
    """F -> F_i and where branch i looked, for all action units at once."""

    branches: int
    reduction: int = 16
    spatial_sigmoid: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, stem: Array) -> tuple[Array, Array]:
        """Stem F [b, h, w, d] -> (F_i [b, n, h, w, d], spatial maps s [b, n, h, w])."""
        n, d = self.branches, stem.shape[-1]
        r = max(1, d // self.reduction)
        batched = nn.initializers.variance_scaling(
            1.0, "fan_in", "truncated_normal", in_axis=-2, out_axis=-1, batch_axis=(0,)
        )
        w1 = self.param("squeeze", named(batched, "au", "embed", "refine"), (n, d, r))
        b1 = self.param("squeeze_bias", named(nn.initializers.zeros, "au", "refine"), (n, r))
        w2 = self.param("excite", named(batched, "au", "refine", "embed"), (n, r, d))
        b2 = self.param("excite_bias", named(nn.initializers.zeros, "au", "embed"), (n, d))
        kernel = self.param(
            "spatial",
            named(
                nn.initializers.lecun_normal(in_axis=(1, 2, 3), out_axis=0),
                "au",
                "conv",
                "conv",
                "in",
            ),
            (n, KERNEL, KERNEL, 2),
        )
        bias = self.param("spatial_bias", named(nn.initializers.zeros, "au"), (n,))

        # a = sigmoid(MLP(maxpool_HW(F)) + MLP(avgpool_HW(F))), the two MLPs being one.
        pooled = jnp.stack([stem.max((1, 2)), stem.mean((1, 2))])
        hidden = nn.relu(jnp.einsum("pbd,ndr->pbnr", pooled, w1) + b1[None, None])
        channel = nn.sigmoid(jnp.einsum("pbnr,nrd->bnd", hidden, w2) + 2.0 * b2[None])
        x = (stem[:, None] * channel[:, :, None, None]).astype(self.dtype)

        # s = conv3x3([maxpool_D(F'), avgpool_D(F')])
        pooled = jnp.stack([x.max(-1), x.mean(-1)], axis=-1).astype(jnp.float32)
        spatial = spatial_convolution(pooled, kernel) + bias[None, :, None, None]
        if self.spatial_sigmoid:
            spatial = nn.sigmoid(spatial)
        return x * spatial[..., None].astype(self.dtype), spatial
