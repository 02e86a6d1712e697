"""The protocol of an evaluation: what has to be equal for two scores to be comparable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vlfau_jax.data.read.dataset import Dataset
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.data.read.prepared_set import PreparedSet


def protocol(dataset: Dataset, options: DataOptions) -> dict[str, Any]:
    """Describes how a data set is read, as JSON values.

    `layout`, `camera` and `frame_offset` are those of `prepare`; `label_rule` states in words when
    a chosen unit is active, `label_threshold` the intensity for it (None if occurrence decides),
    `excluded_stretches` what was left out, and `folds` whose folds were used. For a mixture each of
    them is a dict by set.
    """

    def of(fact: Callable[[PreparedSet], Any]) -> Any:
        facts = {one.name: fact(one) for one in dataset.sets}
        return facts if len(facts) > 1 else facts[dataset.name]

    return {
        "folds": of(
            lambda one: dataset.folds.describe(one.data_set, one.subjects, one.stated_folds)
        ),
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
    rule = " or, of units without occurrence codes, ".join(rules[kind] for kind in kinds)
    return f"active where {rule or 'nothing is coded'}; unknown codes are left out"


def _excluded(one: PreparedSet, wanted: bool) -> str:
    if not wanted or not one.published.excluded:
        return "none"
    return f"{one.published.excluded_by}: {int(one.excluded().sum()):,} frames"
