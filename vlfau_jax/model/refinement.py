"""Dual-level AU individual refinement (DAIR): one attention-refined feature map per action unit.

After CBAM (arXiv 1807.06521), with parameters stacked along the action unit axis, so that all
branches are one contraction and can be sharded over branches.
"""

from __future__ import annotations

from collections.abc import Callable

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
    """F -> F_i and the spatial attention map of branch i, for all action units at once.

    Attributes:
        branches: n, the number of action units.
        reduction: d over the hidden width of channel attention.
        attention: "both", or "channel" or "spatial" alone, or "none"; an attention that is switched
            off has no parameters.
        channel_mlp: "shared", one MLP for the max- and the average-pooled features, as in CBAM; or
            "separate": the parameters of the shared one are then the max-pooled features', and
            those with the prefix `average_` the average-pooled ones'.
        spatial_sigmoid: whether s passes a sigmoid.
        dtype: compute dtype of F_i.
    """

    branches: int
    reduction: int = 16
    attention: str = "both"
    channel_mlp: str = "shared"
    spatial_sigmoid: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, stem: Array) -> tuple[Array, Array]:
        """Stem F [b, h, w, d] -> (F_i [b, n, h, w, d], spatial maps s [b, n, h, w]).

        Without spatial attention s is 1 everywhere.
        """
        b, h, w, d = stem.shape
        x = stem[:, None]
        if self.attention in ("both", "channel"):
            x = x * self._channel(stem)[:, :, None, None]
        x = jnp.broadcast_to(x, (b, self.branches, h, w, d)).astype(self.dtype)
        if self.attention in ("channel", "none"):
            return x, jnp.ones(x.shape[:-1], jnp.float32)
        spatial = self._spatial(x)
        return x * spatial[..., None].astype(self.dtype), spatial

    def _channel(self, stem: Array) -> Array:
        """Channels: a = sigmoid(MLP(maxpool_HW(F)) + MLP(avgpool_HW(F))), float32 [b, n, d]."""
        pooled = [stem.max((1, 2)), stem.mean((1, 2))]
        if self.channel_mlp == "shared":
            return nn.sigmoid(self._mlp(jnp.stack(pooled), ""))
        scores = [
            self._mlp(x[None], name) for x, name in zip(pooled, ("", "average_"), strict=True)
        ]
        return nn.sigmoid(sum(scores))

    def _mlp(self, pooled: Array, prefix: str) -> Array:
        """Each branch's MLP of pooled features [p, b, d], summed over p: [b, n, d]."""
        n, d = self.branches, pooled.shape[-1]
        r = max(1, d // self.reduction)
        batched = nn.initializers.variance_scaling(
            1.0, "fan_in", "truncated_normal", in_axis=-2, out_axis=-1, batch_axis=(0,)
        )
        zeros = nn.initializers.zeros

        def param(
            name: str, init: Callable, axes: tuple[str, ...], shape: tuple[int, ...]
        ) -> Array:
            return self.param(prefix + name, named(init, *axes), shape)

        w1 = param("squeeze", batched, ("au", "embed", "refine"), (n, d, r))
        b1 = param("squeeze_bias", zeros, ("au", "refine"), (n, r))
        w2 = param("excite", batched, ("au", "refine", "embed"), (n, r, d))
        b2 = param("excite_bias", zeros, ("au", "embed"), (n, d))
        hidden = nn.relu(jnp.einsum("pbd,ndr->pbnr", pooled, w1) + b1[None, None])
        return jnp.einsum("pbnr,nrd->bnd", hidden, w2) + len(pooled) * b2[None]

    def _spatial(self, x: Array) -> Array:
        """Positions: s = conv3x3([maxpool_D(F'), avgpool_D(F')]), float32 [b, n, h, w]."""
        init = nn.initializers.lecun_normal(in_axis=(1, 2, 3), out_axis=0)
        kernel = self.param(
            "spatial",
            named(init, "au", "conv", "conv", "in"),
            (self.branches, KERNEL, KERNEL, 2),
        )
        bias = self.param("spatial_bias", named(nn.initializers.zeros, "au"), (self.branches,))
        pooled = jnp.stack([x.max(-1), x.mean(-1)], axis=-1).astype(jnp.float32)
        spatial = spatial_convolution(pooled, kernel) + bias[None, :, None, None]
        return nn.sigmoid(spatial) if self.spatial_sigmoid else spatial
