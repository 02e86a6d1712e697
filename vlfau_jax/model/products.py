"""Products of bfloat16 arrays that keep the float32 in which they are accumulated."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def float32_product(subscripts: str, x: Array, y: Array) -> Array:
    """einsum(subscripts, x, y) in float32; x and y are of one dtype, the compute dtype.

    The cotangent of the result is float32, too. Used as it is, it would promote x and y to float32
    and make the products of the backward pass as slow as float32 ones. It is therefore rounded to
    their dtype first, as after any other product. Under vmap, differentiate only with the mapped
    axis in both x and y: the gradient of an unmapped one would be computed for every entry and then
    summed.
    """
    return jnp.einsum(subscripts, x, y, preferred_element_type=jnp.float32)


def _forward(subscripts: str, x: Array, y: Array) -> tuple[Array, tuple[Array, Array]]:
    return float32_product(subscripts, x, y), (x, y)


def _backward(
    subscripts: str, residuals: tuple[Array, Array], cotangent: Array
) -> tuple[Array, Array]:
    x, y = residuals
    cotangent = cotangent.astype(x.dtype)
    (grad_x,) = jax.linear_transpose(lambda x: jnp.einsum(subscripts, x, y), x)(cotangent)
    (grad_y,) = jax.linear_transpose(lambda y: jnp.einsum(subscripts, x, y), y)(cotangent)
    return grad_x, grad_y


float32_product.defvjp(_forward, _backward)
