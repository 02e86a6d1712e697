"""The parts of the network, and which of them an operation of a compiled program belongs to.

JAX writes into every operation the way to it (`op_name`): transformations, modules, scopes,

    jit(step)/transpose(jvp(VLFAU))/VLFAU._encode/backbone/backbone._stage/stage1_block0/mlp_in/dot

Operations of the backward pass, and with them what `remat` computes again, pass through
`transpose(...)`. Arguments of the step have names like `state.params['backbone'][...]`.
"""

from __future__ import annotations

import functools
import re
from typing import Literal, NamedTuple

Direction = Literal["forward", "backward"]

STAGES = (1, 2, 3, 4)
# "merges" are patch merging and the norm after stage 4; "input" the pictures' normalisation and
# what is drawn at random for the whole network; "sharding" moves parameters and rows between
# devices; "losses" are also the metrics, "optimizer" the sum over micro-batches, clipping, the
# average and the choice whether a step counts.
PARTS = (
    "embedding",
    *(f"stage {stage} {half}" for stage in STAGES for half in ("attention", "mlp")),
    "merges",
    "MSC",
    "DAIR",
    "classifier",
    "local captioner",
    "global captioner",
    "losses",
    "optimizer",
    "input",
    "sharding",
    "other",
)

_STAGE = re.compile(r"stage(\d)_(?:block\d+|pairs)")
# What the attention half of a block holds. The rest is the MLP's, also both residual sums and
# drop paths, whose names do not tell them apart.
_ATTENTION = re.compile(
    r"\b(?:attention|norm_attention)\b|_roll_static|_pad\b|/(?:reshape|transpose|slice|squeeze)$"
)
# Sought in this order; gradients and moments bear the names of their parameters, too.
_OTHERS = (
    ("optimizer", re.compile(r"\b(?:optimizer|accumulation|opt_state|ema)\b")),
    ("losses", re.compile(r"\blosses\b")),
    ("local captioner", re.compile(r"\blocal_captioner\b")),
    ("global captioner", re.compile(r"\bglobal_captioner\b|_own_context")),
    ("DAIR", re.compile(r"\brefinement\b")),
    ("classifier", re.compile(r"\bclassifier\b")),
    ("merges", re.compile(r"\bbackbone\b\W+(?:merge\d|norm\b)")),
    ("embedding", re.compile(r"\bbackbone\b\W+embedding\b")),
    ("MSC", re.compile(r"\bfusion\b")),
    ("input", re.compile(r"\binput\b|\bbackbone\b|^batch\[|^batch$|\bstate\.(?:step|skipped)\b")),
    ("sharding", re.compile(r"\bsharding\b")),
    # Branches are chosen, positions flattened, between the parts for the captions' sake.
    ("local captioner", re.compile(r"\bVLFAU\b")),
)


class Address(NamedTuple):
    """One of `PARTS`, and on which way through it."""

    part: str
    direction: Direction


@functools.lru_cache(maxsize=200_000)
def address(op_name: str) -> Address:
    """Where an operation belongs, from its `op_name`; part "other" where it names no part."""
    return Address(_part(op_name), "backward" if "transpose(" in op_name else "forward")


def _part(op_name: str) -> str:
    stage = _STAGE.search(op_name)
    for part, pattern in _OTHERS[:2] if stage else _OTHERS:
        if pattern.search(op_name):
            return part
    if stage:
        half = "attention" if _ATTENTION.search(op_name, stage.end()) else "mlp"
        return f"stage {int(stage[1]) + 1} {half}"
    return "other"
