"""Rematerialisation: what the backward pass recomputes instead of keeping it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import linen as nn

# What is saved inside a part, by the name in `ModelOptions.remat`; None for nothing. Products with
# weights are expensive to recompute. Those of attention have batch dimensions, are large and cheap.
# Products with weights stacked by action unit have batch dimensions, too, and are n times as large.
POLICIES: dict[str, Callable[..., Any] | None] = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": None,
}


def rematerialised(
    part: Callable, remat: str, *, products: Sequence[str] = (), scanned: bool = False
) -> Callable:
    """Wraps a function or module class so that its backward pass keeps only what `remat` names.

    The values are the same. "none" returns `part` itself.

    Args:
        part: the function or module class.
        remat: `ModelOptions.remat`.
        products: what "dots" keeps instead of every product, by its name in the part
            (`checkpoint_name`): a product after its bias is added, where it is used so, is not
            kept twice.
        scanned: whether it is the body of a scan, whose bounds keep XLA from merging the second
            computation with the first; elsewhere an optimisation barrier must.
    """
    if remat == "none":
        return part
    policy = POLICIES[remat]
    if policy and products:
        policy = jax.checkpoint_policies.save_only_these_names(*products)
    lift = nn.remat if isinstance(part, type) else jax.checkpoint
    return lift(part, policy=policy, prevent_cse=not scanned)
