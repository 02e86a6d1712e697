"""Terms about attention maps: inside the unit's region, concentrated, smooth.

With s [h, w] a map of DAIR, 0 to 1, p = s / sum s its distribution over places, R the cells of the
unit's region (`vlfau_jax.regions`) as the picture's view shows them, and a the attention of a local
sentence, averaged over its words:

    map_region     -log mean_{x in R} s_x - mean_{x not in R} log(1 - s_x)
    word_region    -log sum_{x in R} a_x
    map_entropy    -sum_x p_x log p_x / log(h w)
    map_variation  the mean of |s_x - s_y| over neighbouring cells x, y (total variation)

The first is zero where a map is 1 inside and 0 outside. Minus log of the share of s inside would be
as plain, but hardly moves a map whose sigmoid is saturated outside (README.md). The second is zero
where all attention is inside, and the log of all cells over those inside where it is even; it asks
for nothing within the region.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

_TINY = 1e-6
_INSIDE = 0.5  # of the region's share of the cell that it covers most


def cells_inside(templates: Array, view: Array, grid: tuple[int, int]) -> Array:
    """Which cells of a map lie in each unit's region.

    A cell's share is the area of the region in it, over the cell's. A cell is inside where its
    share is at least half of that of the cell that the region covers most, so that a thin region
    has cells, too.

    Args:
        templates: [n, s, s] in {0, 1}, the regions in the whole crop.
        view: float32 [b, 3], left, top and side of the views of it, as shares of its side; they
            may reach beyond it, where no region is.
        grid: h and w of the maps.

    Returns:
        bool [b, n, h, w]; no cell of a region that the view does not show.
    """
    s = templates.shape[-1]
    rows = _overlaps(view[:, 1], view[:, 2], grid[0], s)
    columns = _overlaps(view[:, 0], view[:, 2], grid[1], s)
    shares = jnp.einsum("bhi,nij,bwj->bnhw", rows, templates, columns)
    most = shares.max((-1, -2), keepdims=True)
    return (shares >= _INSIDE * most) & (most > 0)


def _overlaps(first: Array, length: Array, cells: int, samples: int) -> Array:
    """Share of each cell of [first, first + length] that each sample of [0, 1] covers [b, c, s]."""
    width = jnp.maximum(length, _TINY)[:, None] / cells
    start = (first[:, None] + width * jnp.arange(cells)[None])[..., None]
    sample = (jnp.arange(samples) / samples)[None, None]
    end = jnp.minimum(start + width[..., None], sample + 1 / samples)
    return jnp.maximum(end - jnp.maximum(start, sample), 0.0) / width[..., None]


def open_inside(maps: Array, inside: Array) -> Array:
    """The loss of maps [..., h, w] that should be 1 inside [..., h, w] and 0 outside; [...].

    Of a region that is nowhere or everywhere, the other half is the loss.
    """
    within, outside = inside.sum((-1, -2)), (~inside).sum((-1, -2))
    mean = jnp.where(inside, maps, 0.0).sum((-1, -2)) / jnp.maximum(within, 1)
    closed = jnp.where(inside, 0.0, jnp.log(1 - maps + _TINY)).sum((-1, -2))
    opened = jnp.where(within > 0, jnp.log(mean + _TINY), 0.0)
    return -opened - closed / jnp.maximum(outside, 1)


def region(maps: Array, inside: Array) -> Array:
    """-log of the share of maps [..., h, w], not negative, that lies inside [..., h, w]; [...]."""
    shared = jnp.where(inside, maps, 0.0).sum((-1, -2))
    return jnp.log(maps.sum((-1, -2)) + _TINY) - jnp.log(shared + _TINY)


def entropy(maps: Array) -> Array:
    """Entropy of maps [..., h, w], not negative, over that of an even one; [...], 0 to 1."""
    *_, h, w = maps.shape
    p = maps / jnp.maximum(maps.sum((-1, -2), keepdims=True), _TINY)
    return -(p * jnp.log(p + _TINY)).sum((-1, -2)) / jnp.log(float(max(h * w, 2)))


def variation(maps: Array) -> Array:
    """Mean absolute difference between the neighbouring cells of maps [..., h, w]; [...]."""
    down = jnp.abs(maps[..., 1:, :] - maps[..., :-1, :])
    across = jnp.abs(maps[..., :, 1:] - maps[..., :, :-1])
    number = down.shape[-1] * down.shape[-2] + across.shape[-1] * across.shape[-2]
    return (down.sum((-1, -2)) + across.sum((-1, -2))) / max(number, 1)


def word_mean(attention: Array, counted: Array) -> Array:
    """Attention [..., t, h, w] averaged over the words that are counted, bool [..., t]."""
    summed = jnp.where(counted[..., None, None], attention, 0.0).sum(-3)
    return summed / jnp.maximum(counted.sum(-1), 1)[..., None, None]
