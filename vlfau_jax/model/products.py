"""Products of bfloat16 arrays that keep the float32 in which they are summed."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def float32_product(subscripts: str, x: Array, y: Array) -> Array:
    """einsum(subscripts, x, y) in float32; x and y are of one dtype, the compute dtype.

    The slope that comes back is float32, too. Multiplied as it is, it would make x and y float32,
    and the products of the way back as slow as those: it is rounded to their dtype first, as after
    any other product. Differentiate under vmap only what has the mapped axis in x and in y: the
    gradient of the other would be computed for every entry, and then summed.
    """
    return jnp.einsum(subscripts, x, y, preferred_element_type=jnp.float32)


def _forward(subscripts: str, x: Array, y: Array) -> tuple[Array, tuple[Array, Array]]:
    return float32_product(subscripts, x, y), (x, y)


def _backward(subscripts: str, kept: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    x, y = kept
    slope = slope.astype(x.dtype)
    (of_x,) = jax.linear_transpose(lambda x: jnp.einsum(subscripts, x, y), x)(slope)
    (of_y,) = jax.linear_transpose(lambda y: jnp.einsum(subscripts, x, y), y)(slope)
    return of_x, of_y


float32_product.defvjp(_forward, _backward)
