"""The mean of the parameters of several runs of one network, as one network.

Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned models improves
accuracy without increasing inference time" (arXiv 2203.05482). What they average are runs that
began from the same parameters (`train.warm_start`, `model.backbone_weights`): the mean of networks
that were trained apart from random starts is none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from vlfau_jax.errors import UserError
from vlfau_jax.inference.trained import Trained
from vlfau_jax.train.checkpoint import params_digest

# Options of the network that no answer depends on, but for rounding.
_FREE = (
    *("drop_path", "dropout", "backbone_weights"),
    *("scan_blocks", "window_attention", "remat", "dtype"),
)


def averaged(first: Trained, others: Sequence[tuple[str, Trained]]) -> Trained:
    """The network with the mean of all runs' parameters, each computed in float64.

    What is recorded of the training is that of `first`; people are those of all runs, units count
    as untaught and faces as rendered where they are so in any of them.

    Args:
        first: the run that the others are added to.
        others: the other runs, each with what it is called in messages.

    Returns:
        `first` with other parameters, float32, and a record of each run in `averaged`.

    Raises:
        UserError: a run is of another network (the message names the first parameter or option
            that differs), reads faces or speaks otherwise, or has the very parameters of one
            before.
    """
    if not others:
        return first
    records = [_record(first)]
    for name, other in others:
        _check_same(first, other, name)
        records.append(_record(other))
        if records[-1]["params_digest"] in {one["params_digest"] for one in records[:-1]}:
            raise UserError(f"{name} has the same parameters as another run; give each run once")
    runs = [first, *(run for _, run in others)]
    untaught = {au: why for run in reversed(runs) for au, why in run.untaught.items()}
    return dataclasses.replace(
        first,
        params=jax.tree.map(_mean, *(run.params for run in runs)),
        train_subjects=_joined([run.train_subjects for run in runs]),
        validation_subjects=_joined([run.validation_subjects for run in runs]),
        synthetic=any(run.synthetic for run in runs),
        untaught=dict(sorted(untaught.items())),
        averaged=tuple(records),
    )


def _mean(*leaves: Any) -> np.ndarray:
    total = np.asarray(leaves[0], np.float64)
    for leaf in leaves[1:]:
        total = total + leaf
    return (total / len(leaves)).astype(np.float32)


def _record(run: Trained) -> dict[str, Any]:
    """What tells which parameters a run gave."""
    return {
        "dataset": run.data.name,
        "fold": run.data.fold,
        "synthetic": run.synthetic,
        "step": run.step,
        "checkpoint": run.checkpoint,
        "config_digest": run.config_digest,
        "params_digest": params_digest(run.params),
    }


def _joined(people: Sequence[Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one for some in people for one in some))


def _check_same(first: Trained, other: Trained, name: str) -> None:
    """Raises UserError where two runs are not of one network, or not for the same faces."""
    ours, theirs = (_shapes(run.params) for run in (first, other))
    for parameter in sorted(ours.keys() | theirs.keys()):
        here, there = (shapes.get(parameter, "missing") for shapes in (ours, theirs))
        if here != there:
            raise UserError(
                f"{name} is of another network than --workdir: its {parameter} is {there}, not "
                f"{here}"
            )
    options = [dataclasses.asdict(run.model.options) for run in (first, other)]
    for key in sorted(options[0].keys() - {*_FREE}):
        if options[0][key] != options[1][key]:
            raise UserError(
                f"{name} is of another network than --workdir: its model.{key} is "
                f"{options[1][key]!r}, not {options[0][key]!r}"
            )
    for what, of in {
        "action units": lambda run: run.aus,
        "words": lambda run: run.vocabulary.words,
        "sentences": lambda run: (run.descriptions, run.max_words),
        "image size": lambda run: run.data.image_size,
        "crop rule": lambda run: dict(run.crop_rule),
    }.items():
        if of(first) != of(other):
            raise UserError(
                f"{name} differs from --workdir in its {what}; average runs of one kind"
            )


def _shapes(params: Any) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in flatten_dict(params, sep="/").items()}
