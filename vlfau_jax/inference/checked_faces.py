"""The faces on which an export is checked, and what rounding the weights changes about them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import jax
import numpy as np

from vlfau_jax.data.raw.frames import decode_crop
from vlfau_jax.data.read.dataset import open_dataset
from vlfau_jax.data.read.transforms import resize
from vlfau_jax.errors import DataError, UserError
from vlfau_jax.evaluation.checks import unseen_subjects
from vlfau_jax.inference.trained import Trained
from vlfau_jax.metrics.au import is_active

COUNT = 64
_BATCH = 9  # a program for any number of faces is run for this one and for 1

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class CheckedFaces:
    """The faces.

    Attributes:
        images: uint8 RGB [m, size, size, 3], m is `COUNT` or as many as there are.
        source: whose they are, in words.
    """

    images: np.ndarray
    source: str


def checked_faces(trained: Trained) -> CheckedFaces:
    """Faces of the people whom the fold tests, evenly spaced; noise where their set is missing."""
    size = trained.data.image_size
    try:
        dataset = open_dataset(trained.data)
        rows = dataset.rows(unseen_subjects(trained, dataset, None))
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, COUNT).round().astype(int))]
        decoded = [decode_crop(example["image"]) for example in dataset.source(rows)]
    except (UserError, DataError) as error:
        print(f"no test faces to check the export on, noise instead: {error}", file=sys.stderr)
        images = np.random.default_rng(0).integers(0, 256, (COUNT, size, size, 3), np.uint8)
        return CheckedFaces(images, f"{COUNT} pictures of noise, for want of the prepared set")
    images = np.stack([resize(face, size) for face in decoded if face is not None])
    kind = "rendered (synthetic) faces" if dataset.synthetic else "faces"
    people = f"the people whom fold {trained.data.fold} of {dataset.name} tests"
    return CheckedFaces(images, f"{len(images)} {kind} of {people}")


def run(function: Callable[[np.ndarray], Mapping[str, Any]], images: np.ndarray) -> Arrays:
    """What a function of faces gives for all of them, at two sizes of batches: 1 and 9."""
    parts = [jax.device_get(function(images[:1]))]
    for start in range(1, len(images), _BATCH):
        batch = images[start : start + _BATCH]
        filled = np.resize(batch, (_BATCH, *batch.shape[1:]))
        answer = jax.device_get(function(filled))
        parts.append({name: values[: len(batch)] for name, values in answer.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@dataclass(frozen=True)
class Loss:
    """What rounded weights change.

    Attributes:
        faces: how many and whose, in words.
        largest_probability_change: of any unit of any face, 0-1.
        changed_decisions: units of faces that are on the other side of their threshold.
        decisions: all of them.
        changed_sentences: sentences that differ in a word.
        sentences: all of them.
    """

    faces: str
    largest_probability_change: float
    changed_decisions: int
    decisions: int
    changed_sentences: int
    sentences: int

    @classmethod
    def measure(
        cls, before: Arrays, after: Arrays, thresholds: tuple[float, ...], faces: str
    ) -> Loss:
        """Of the arrays that a network gives with its weights before and after rounding."""
        p, q = before["au_probabilities"], after["au_probabilities"]
        decided = is_active(p, thresholds) != is_active(q, thresholds)
        changed = [
            (before[name] != after[name]).any(-1).ravel()
            for name in ("local_tokens", "global_tokens")
            if name in before
        ]
        said = np.concatenate([np.zeros(0, bool), *changed])
        return cls(
            faces,
            float(np.abs(p.astype(np.float64) - q).max()),
            int(decided.sum()),
            decided.size,
            int(said.sum()),
            len(said),
        )

    def to_json(self) -> dict[str, Any]:
        """The record in config.json."""
        return asdict(self)

    def __str__(self) -> str:
        text = (
            f"probabilities change by {self.largest_probability_change:.2g} at most, "
            f"{self.changed_decisions} of {self.decisions} decisions"
        )
        if self.sentences:
            text += f" and {self.changed_sentences} of {self.sentences} sentences"
        return f"{text} are others, on {self.faces}"
