"""The first faces of an experiment's training stream, as the network gets them."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from vlfau_jax.data.read.batch import Batch
from vlfau_jax.train.experiment import ExperimentData

UNKNOWN = "unknown: masked, neither a label nor a sentence is learned from"
NO_SENTENCE = "no sentence about the face: a unit's label is unknown"
LEGEND = (
    "on / off: the label that is learned. ?: unknown, left out of the loss. Right: the sentence "
    "about the unit, decoded from its tokens; under the face: the sentence about the face."
)


@dataclass(frozen=True)
class TrainingFace:
    """One augmented face of the training stream, n action units.

    Attributes:
        title: subject, task and frame.
        image: uint8 [h, h, 3] RGB, as the network gets it.
        labels: int8 [n], 1, 0, or -1 where unknown.
        sentence: about the face; "" where there is none.
        sentences: n about the units; "" where there is none.
    """

    title: str
    image: np.ndarray
    labels: np.ndarray
    sentence: str
    sentences: tuple[str, ...]


def first_faces(data: ExperimentData, number: int) -> list[TrainingFace]:
    """The first faces of the stream that `train` reads, from its first batches."""
    options = replace(data.settings.data, workers=0)  # the stream is the same for any number
    stream = replace(data, settings=replace(data.settings, data=options)).training_batches()
    faces: list[TrainingFace] = []
    with closing(stream) as batches:
        while len(faces) < number:
            batch = next(batches)
            rows = range(min(len(batch["image"]), number - len(faces)))
            faces += [_face(data, batch, row) for row in rows]
    return faces


def _face(data: ExperimentData, batch: Batch, row: int) -> TrainingFace:
    subject, task, frame = (int(k) for k in batch["key"][row])
    decode = data.vocabulary.decode
    return TrainingFace(
        title=f"{data.dataset.subjects[subject]}, task {task}, frame {frame}",
        image=batch["image"][row],
        labels=np.where(batch["au_known"][row], batch["au"][row], -1).astype(np.int8),
        sentence=decode(batch["global_tokens"][row]),
        sentences=tuple(decode(tokens) for tokens in batch["local_tokens"][row]),
    )
