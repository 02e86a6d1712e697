"""Walks a traced function, equation by equation: an oracle for `account.flops` and `parts`."""

import math
from collections import defaultdict

from jax.extend import core

from vlfau_jax.account.parts import address


def equations(jaxpr, trips=1, scope="", times=1):
    """Every equation that computes something, its scope, and how often it runs.

    A `while` runs `trips` times.
    """
    for equation in jaxpr.eqns:
        here = f"{scope}/{equation.source_info.name_stack}"
        name = equation.primitive.name
        rounds = {"scan": equation.params.get("length"), "while": trips}.get(name, 1)
        inner = [
            one
            for value in equation.params.values()
            for one in (value if isinstance(value, tuple | list) else (value,))
            if isinstance(one, core.ClosedJaxpr | core.Jaxpr)
        ]
        if not inner:
            yield equation, here, times
        for one in inner:
            body = one.jaxpr if isinstance(one, core.ClosedJaxpr) else one
            yield from equations(body, trips, here, times * rounds)


def products(jaxpr, trips=1):
    """FLOPs of the matrix products and convolutions of a jaxpr, by address."""
    found = defaultdict(float)
    for equation, scope, times in equations(jaxpr, trips):
        count = _COUNTS.get(equation.primitive.name)
        if count:
            found[address(scope)] += 2 * times * count(equation)
    return dict(found)


def by_part(found):
    """The same by part."""
    sums = defaultdict(float)
    for (part, _), count in found.items():
        sums[part] += count
    return dict(sums)


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


_COUNTS = {"dot_general": _dot, "conv_general_dilated": _convolution}
