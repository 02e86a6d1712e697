"""Random draws that depend on the example alone, not on its device or micro-batch."""

from __future__ import annotations

import jax
from jax import Array


def kept_rows(key: Array, rows: Array, keep: Array | float, shape: tuple[int, ...]) -> Array:
    """Draws True at rate `keep`: bool [b, *shape], each row from (key, its number) alone.

    `rows` int32 [b] are the examples' places in the whole batch: an example draws the same on any
    mesh and in any micro-batch.
    """

    def draw(row: Array) -> Array:
        return jax.random.bernoulli(jax.random.fold_in(key, row), keep, shape)

    return jax.vmap(draw)(rows)
