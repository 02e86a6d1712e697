"""Rematerialisation: what the way back computes again instead of having kept it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

# What is kept inside a part, by the name in `ModelOptions.remat`; None for nothing. Products with
# weights are the dear ones; those of attention have batch dimensions, are large and cheap. So have
# those of weights stacked by action unit, whose products are n times as large.
POLICIES: dict[str, Callable[..., Any] | None] = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": None,
}


def rematerialised(part: Callable, remat: str, *, scanned: bool = False) -> Callable:
    """A function or module class with the same values, which keeps what `remat` says.

    "none" gives `part` itself. `scanned`: whether it is the body of a scan, whose own bounds keep
    XLA from merging the second computation with the first; elsewhere a barrier must.
    """
    if remat == "none":
        return part
    lift = nn.remat if isinstance(part, type) else jax.checkpoint
    return lift(part, policy=POLICIES[remat], prevent_cse=not scanned)
