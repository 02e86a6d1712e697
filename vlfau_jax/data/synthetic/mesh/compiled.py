"""Compiles loops over pixels, texels and vertices to machine code, by numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, compiled on its first call and kept on disk, where there is a place for that.

    numba keeps it beside the module, or else in the user's cache folder; a file appears there whole
    or not at all, so processes that compile at the same time do not disturb each other. It looks
    for changes in the function's own file alone: a constant that it takes from another module would
    stay as it was, and so must be an argument.
    """
    try:
        return numba.njit(cache=True, fastmath=True)(function)
    except RuntimeError:  # neither folder may be written to: every process compiles for itself
        return numba.njit(fastmath=True)(function)
