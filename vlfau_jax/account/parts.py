"""The parts of the network, and which of them an operation of a compiled program belongs to.

JAX writes into every operation the way to it (`op_name`): transformations, modules, scopes,

    jit(step)/transpose(jvp(VLFAU))/VLFAU._encode/backbone/backbone._stage/stage1_block0/mlp_in/dot

Operations of the backward pass pass through `transpose(...)`, what `remat` computes again through
`rematted_computation`. Arguments of the step have names like `state.params['backbone'][...]`.
"""

from __future__ import annotations

import functools
import re
from typing import Literal, NamedTuple

Direction = Literal["forward", "backward"]

STAGES = (1, 2, 3, 4)
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
    "other",
)

_STAGE = re.compile(r"stage(\d)_(?:block\d+|pairs)")
_MLP = re.compile(r"\b(?:mlp_in|mlp_out|norm_mlp)\b|\b(?:gelu|erf|erfc)\b")
# Sought in this order: what is innermost comes first.
_OTHERS = (
    ("local captioner", re.compile(r"local_captioner")),
    ("global captioner", re.compile(r"global_captioner|_own_context")),
    ("MSC", re.compile(r"\bfusion\b(?!\.)|MultiScaleCombination")),
    ("DAIR", re.compile(r"\brefinement\b")),
    ("classifier", re.compile(r"\bclassifier\b")),
    ("merges", re.compile(r"backbone\W.*\bmerge\d|\bmerge\d/")),
    ("embedding", re.compile(r"backbone\W.*\bembedding\b")),
    ("optimizer", re.compile(r"\boptimizer\b|\bopt_state\b|\bema\b")),
    ("losses", re.compile(r"\blosses\b")),
    ("input", re.compile(r"\binput\b|\bnormalise\b|\bbatch\[")),
)


class Address(NamedTuple):
    """One of `PARTS`, and on which way through it."""

    part: str
    direction: Direction


@functools.lru_cache(maxsize=200_000)
def address(op_name: str) -> Address:
    """Where an operation belongs, from its `op_name`; part "other" where it names no part."""
    backward = "transpose(" in op_name or "rematted_computation" in op_name
    return Address(_part(op_name), "backward" if backward else "forward")


def _part(op_name: str) -> str:
    stage = _STAGE.search(op_name)
    if stage:
        own = op_name[stage.end() :]
        # Residual sums and stochastic depth stand between the halves, with the half they follow.
        return f"stage {stage[1]} {'mlp' if _MLP.search(own) else 'attention'}"
    for part, pattern in _OTHERS:
        if pattern.search(op_name):
            return part
    return "merges" if "backbone" in op_name else "other"
