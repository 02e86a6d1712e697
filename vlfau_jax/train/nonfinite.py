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


class NonFiniteError(RunError):
    """`step` (from 1) gave `values` that are not finite, by metric, on the faces of `keys`.

    `keys` int32 [b, 3] are the batch's, on the devices.
    """

    def __init__(self, step: int, values: Mapping[str, float], keys: Array) -> None:
        super().__init__(f"step {step}: {told(values)}")
        self.step, self.values, self.keys = step, dict(values), keys


def broken(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that are not finite."""
    return {name: value for name, value in metrics.items() if not math.isfinite(value)}


def told(values: Mapping[str, float]) -> str:
    """Which terms are not finite, or what else where all of them are: the terms' faults come first.

    A term that is not finite makes sum and gradient so, which is then not worth telling.
    """
    terms = {f"the term {name!r}": value for name, value in values.items() if name not in _SAID}
    found = terms or {_SAID[name]: value for name, value in values.items()}
    return ", ".join(f"{name} is {value}" for name, value in found.items())


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
