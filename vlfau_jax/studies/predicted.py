"""What predictions.jsonl of an evaluation holds, frame by frame, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field

from vlfau_jax.errors import FileError
from vlfau_jax.files import open_regular
from vlfau_jax.metrics.bootstrap import Counts, count
from vlfau_jax.records import Probability, Record, parse_record

_LIMIT = 1 << 40  # bytes of predictions.jsonl
_LINE_LIMIT = 1 << 20
MOST_FRAMES = 10_000_000


class _Unit(Record):
    model_config = ConfigDict(extra="ignore")

    active: bool | None
    probability: Probability | None = None
    label: Annotated[int, Field(ge=0, le=1)] | None


class _Line(Record):
    model_config = ConfigDict(extra="ignore")

    subject: Annotated[str, Field(min_length=1, max_length=500)]
    task: Annotated[int, Field(ge=0, le=2**31 - 1)]
    frame: Annotated[int, Field(ge=0, le=2**31 - 1)]
    per_au: Annotated[dict[Annotated[str, Field(max_length=10)], _Unit], Field(max_length=1000)]


@dataclass(frozen=True)
class Predicted:
    """m test frames with labels and predictions of n units.

    Attributes:
        aus: the units' numbers.
        keys: m of (subject, task, frame), in the order of the file.
        active: bool [m, n]; False where there is no prediction.
        probabilities: float64 [m, n], NaN where there is no prediction.
        labels: bool [m, n]; False where unknown.
        known: bool [m, n], whether each label is known.
        predicted: bool [m, n], whether there is a prediction (there is none of untaught units).
    """

    aus: tuple[int, ...]
    keys: tuple[tuple[str, int, int], ...]
    active: np.ndarray
    probabilities: np.ndarray
    labels: np.ndarray
    known: np.ndarray
    predicted: np.ndarray

    def counts(self) -> tuple[tuple[str, ...], Counts]:
        """The subjects, sorted, and the counts of each, [subjects, n], of what is known."""
        subjects = tuple(sorted({subject for subject, _, _ in self.keys}))
        index = {subject: k for k, subject in enumerate(subjects)}
        whose = np.array([index[subject] for subject, _, _ in self.keys])
        known = self.known & self.predicted
        return subjects, count(whose, len(subjects), self.active, self.labels, known)


def read_predictions(path: Path, aus: Sequence[int]) -> Predicted:
    """Reads predictions.jsonl of an evaluation, whose units are `aus`.

    Raises:
        FileError: it is missing, damaged, or about other units.
    """
    keys, rows = [], []
    names = [str(au) for au in aus]
    with open_regular(path, _LIMIT) as file:
        for number, text in enumerate(iter(lambda: file.readline(_LINE_LIMIT + 1), b""), 1):
            place = f"{path}:{number}"
            if len(text) > _LINE_LIMIT or number > MOST_FRAMES:
                raise FileError(place, "is too long for what `evaluate` writes")
            line = parse_record(text, _Line, place)
            if list(line.per_au) != names:
                raise FileError(
                    place, f"has AU {', '.join(line.per_au)}; expected {', '.join(names)}"
                )
            keys.append((line.subject, line.task, line.frame))
            rows.append([(u.active, u.probability, u.label) for u in line.per_au.values()])
    if not rows:
        raise FileError(path, "holds no frame; evaluate the run again")
    shape = (len(rows), len(names))

    def column(which: int, undefined: float) -> np.ndarray:
        cells = [[undefined if u[which] is None else u[which] for u in row] for row in rows]
        return np.array(cells, float).reshape(shape)

    active, probabilities, labels = column(0, np.nan), column(1, np.nan), column(2, np.nan)
    return Predicted(
        aus=tuple(aus),
        keys=tuple(keys),
        active=active == 1,
        probabilities=probabilities,
        labels=labels == 1,
        known=~np.isnan(labels),
        predicted=~np.isnan(active),
    )
