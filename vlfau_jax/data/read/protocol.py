"""What besides the model decides a score: the fields that make two published numbers comparable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vlfau_jax.data.raw.codes import EXCLUDED
from vlfau_jax.data.read.dataset import Dataset
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.data.read.prepared_set import PreparedSet


def protocol(dataset: Dataset, options: DataOptions) -> dict[str, Any]:
    """How a data set is read, as JSON can hold it; of a mixture, the fields hold a dict by set.

    `layout`, `camera` and `frame_offset` are those of `prepare`; `label_rule` says in words when a
    chosen unit is active, `label_threshold` the intensity for it (None if occurrence decides), and
    `excluded_stretches` says what was left out.
    """

    def of(fact: Callable[[PreparedSet], Any]) -> Any:
        facts = {one.name: fact(one) for one in dataset.sets}
        return facts if len(facts) > 1 else facts[dataset.name]

    return {
        "layout": of(lambda one: one.layout),
        "camera": of(lambda one: one.camera or None),
        "frame_offset": of(lambda one: one.frame_offset),
        "label_rule": of(lambda one: _rule(one.decided_by(dataset.aus), options.threshold)),
        "label_threshold": of(
            lambda one: options.threshold if "intensity" in one.decided_by(dataset.aus) else None
        ),
        "excluded_stretches": of(lambda one: _excluded(one, options.exclude_stretches)),
        "crop_rule": dataset.crop,
    }


def _rule(kinds: Sequence[str], threshold: int) -> str:
    rules = {
        "occurrence": "the occurrence code is 1",
        "intensity": f"the intensity is {threshold} or more",
    }
    told = " or, of units without occurrence codes, ".join(rules[kind] for kind in kinds)
    return f"active where {told or 'nothing is coded'}; unknown codes are left out"


def _excluded(one: PreparedSet, wanted: bool) -> str:
    if not wanted or one.name not in EXCLUDED:
        return "none"
    return f"JAA-Net's list: {int(one.excluded().sum()):,} frames"
