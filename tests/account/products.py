"""Counts the products of a traced function, equation by equation: an oracle for `account.flops`."""

import math
from collections import defaultdict

from jax.extend import core

from vlfau_jax.account.parts import address


def products(jaxpr, trips=1, scope="", times=1, found=None):
    """FLOPs of the matrix products and convolutions of a jaxpr, by part; loops by their length.

    A `while` runs `trips` times.
    """
    found = defaultdict(float) if found is None else found
    for equation in jaxpr.eqns:
        here = f"{scope}/{equation.source_info.name_stack}"
        name = equation.primitive.name
        if name in ("dot_general", "conv_general_dilated"):
            count = _dot if name == "dot_general" else _convolution
            found[address(here).part] += 2 * times * count(equation)
        rounds = {"scan": equation.params.get("length"), "while": trips}.get(name, 1)
        for value in equation.params.values():
            for one in value if isinstance(value, tuple | list) else (value,):
                if isinstance(one, core.ClosedJaxpr):
                    products(one.jaxpr, trips, here, times * rounds, found)
                elif isinstance(one, core.Jaxpr):
                    products(one, trips, here, times * rounds, found)
    return dict(found)


def _dot(equation):
    (contracted, _), _ = equation.params["dimension_numbers"]
    left, result = equation.invars[0].aval, equation.outvars[0].aval
    return math.prod(result.shape) * math.prod(left.shape[i] for i in contracted)


def _convolution(equation):
    """Every output as if its whole kernel lay inside the image; a dilated image is mostly zeros."""
    spec = equation.params["dimension_numbers"].rhs_spec
    kernel, result = equation.invars[1].aval, equation.outvars[0].aval
    per_output = math.prod(kernel.shape[i] for i in spec[1:])
    return math.prod(result.shape) * per_output / math.prod(equation.params["lhs_dilation"])
