"""A step whose loss or gradient is not finite: its description, and the faces of its batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax import Array

from vlfau_jax.errors import RunError

NONFINITE_FILE = "nonfinite.json"
_NAMED_FACES = 3  # faces named in the line itself

_AGGREGATES = {"grad_norm": "the gradient's norm", "total": "the sum of all terms"}
_WEIGHT = "_weight"  # ends the name of a term's weight


class NonFiniteError(RunError):
    """`step` (from 1) gave `values` that are not finite, by metric, on the faces of `keys`.

    `keys` int32 [b, 3] are the batch's, on the devices; `again`: the step before was skipped, too.
    """

    def __init__(
        self, step: int, values: Mapping[str, float], keys: Array, again: bool = False
    ) -> None:
        super().__init__(f"step {step}: {format_values(values)}")
        self.step, self.values, self.keys, self.again = step, dict(values), keys, again


def nonfinite(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that are not finite."""
    return {name: value for name, value in metrics.items() if not math.isfinite(value)}


def format_values(values: Mapping[str, float]) -> str:
    """Describes which terms, weights and rates are not finite, or else which aggregates.

    A term that is not finite makes sum and gradient not finite, too: those are then left out.
    """
    causes = {_describe(name): value for name, value in values.items() if name not in _AGGREGATES}
    found = causes or {_AGGREGATES[name]: value for name, value in values.items()}
    return ", ".join(f"{name} is {value}" for name, value in found.items())


def _describe(metric: str) -> str:
    if metric == "learning_rate":
        return "the learning rate"
    if metric.endswith(_WEIGHT):
        return f"the weight of the term {metric.removesuffix(_WEIGHT)!r}"
    return f"the term {metric!r}"


def advice(error: NonFiniteError, skipped: int) -> str:
    """How to go on, after `skipped` skipped steps: with one more, or without.

    The faces of one batch seldom explain two failed steps in a row; the parameters do.
    """
    if error.again:
        return (
            "the step before was skipped, too, so the parameters themselves may be at fault: give "
            "a lower optimizer.learning_rate and --overwrite, or --resume from an earlier "
            "checkpoint by removing the newer ones"
        )
    return f"--resume with train.skip_steps={skipped + 1} leaves this step out"


def describe_step(
    error: NonFiniteError, keys: np.ndarray, subjects: Sequence[str]
) -> dict[str, Any]:
    """Content of nonfinite.json: `step`, `values` (as text: JSON has no NaN) and `faces`.

    Each face has subject, task and frame. keys: int32 [b, 3] of the whole batch; subjects: those
    that their first column indexes.
    """
    faces = [
        {"subject": subjects[subject], "task": task, "frame": frame}
        for subject, task, frame in keys.tolist()
    ]
    values = {name: str(value) for name, value in error.values.items()}
    return {"step": error.step, "values": values, "faces": faces}


def first_faces(content: Mapping[str, Any]) -> str:
    """The first faces of `describe_step`, for a line."""
    faces = content["faces"]
    named = (f"{f['subject']} task {f['task']} frame {f['frame']}" for f in faces[:_NAMED_FACES])
    more = len(faces) - _NAMED_FACES
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")
