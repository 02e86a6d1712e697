"""A step whose loss or gradient is not finite: what is said of it, and which faces it saw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax import Array

from vlfau_jax.errors import RunError

NONFINITE_FILE = "nonfinite.json"
_SHOWN = 3  # faces named in the line itself

_SAID = {"grad_norm": "the gradient's norm", "total": "the sum of all terms"}
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


def broken(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that are not finite."""
    return {name: value for name, value in metrics.items() if not math.isfinite(value)}


def format_values(values: Mapping[str, float]) -> str:
    """Which terms, weights and rates are not finite, or what else where all of them are.

    One that is not finite makes sum and gradient so, which is then not worth telling.
    """
    causes = {_named(name): value for name, value in values.items() if name not in _SAID}
    found = causes or {_SAID[name]: value for name, value in values.items()}
    return ", ".join(f"{name} is {value}" for name, value in found.items())


def _named(metric: str) -> str:
    if metric == "learning_rate":
        return "the learning rate"
    if metric.endswith(_WEIGHT):
        return f"the weight of the term {metric.removesuffix(_WEIGHT)!r}"
    return f"the term {metric!r}"


def advice(error: NonFiniteError, skipped: int) -> str:
    """How to go on, where `skipped` steps are left out so far: one more skip, or none.

    Faces that break one step seldom break the next: then it is the parameters.
    """
    if error.again:
        return (
            "the step before was skipped, too, so the parameters themselves may be at fault: give "
            "a lower optimizer.learning_rate and --overwrite, or --resume from an earlier "
            "checkpoint by removing the newer ones"
        )
    return f"--resume with train.skip_steps={skipped + 1} leaves this step out"


def name_faces(error: NonFiniteError, keys: np.ndarray, subjects: Sequence[str]) -> dict[str, Any]:
    """What a file can say of it: `step`, `values` (as text: JSON has no NaN) and `faces`.

    Each face has subject, task and frame. keys: int32 [b, 3] of the whole batch; subjects: what
    their first column counts.
    """
    faces = [
        {"subject": subjects[subject], "task": task, "frame": frame}
        for subject, task, frame in keys.tolist()
    ]
    values = {name: str(value) for name, value in error.values.items()}
    return {"step": error.step, "values": values, "faces": faces}


def shown(content: Mapping[str, Any]) -> str:
    """The first of the faces of `name_faces`, for a line."""
    faces = content["faces"]
    first = ", ".join(f"{f['subject']} task {f['task']} frame {f['frame']}" for f in faces[:_SHOWN])
    return first if len(faces) <= _SHOWN else f"{first} and {len(faces) - _SHOWN} more"
