"""Run a model over the frames of a test fold, on all devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from vlfau_jax.data.read.dataset import Dataset
from vlfau_jax.data.read.pipeline import eval_iterator
from vlfau_jax.data.text.captions import CaptionTables
from vlfau_jax.data.text.descriptions import Descriptions
from vlfau_jax.distributed.processes import check_same, is_first_process
from vlfau_jax.evaluation.kept_answers import KeptAnswers
from vlfau_jax.inference.prediction import DECODED_ARRAYS, Prediction, PredictionDecoder
from vlfau_jax.inference.trained import Trained
from vlfau_jax.sharding.arrays import (
    batch_sharding,
    fetch,
    known_mesh,
    local_rows,
    replicated,
    shard_batch,
)

# uint8 faces [b, h, w, 3] -> the model's arrays by name, b split over all devices.
Describe = Callable[[jax.Array], dict[str, jax.Array]]


@dataclass(frozen=True, eq=False)
class Answers:
    """The labels and the predictions of every test frame, in the order of the set.

    Attributes:
        keys: int [m, 3], the number of the subject in the set, the task and the frame.
        labels: [m, n] in {0, 1}.
        known: bool [m, n], whether each label is known.
        predictions: m of them.
        descriptions: the texts in which labels are told.
    """

    keys: np.ndarray
    labels: np.ndarray
    known: np.ndarray
    predictions: list[Prediction]
    descriptions: Descriptions

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Scores 0-1, float32 [m, n]."""
        return np.stack([prediction.probabilities for prediction in self.predictions])

    @cached_property
    def active(self) -> np.ndarray:
        """Whether each probability exceeds its threshold, bool [m, n]."""
        return np.stack([prediction.active for prediction in self.predictions])

    @property
    def taught(self) -> np.ndarray:
        """Whether each unit was taught, bool [n]; see `Prediction.untaught`."""
        first = self.predictions[0]
        return ~np.isin(first.aus, list(first.untaught))

    @cached_property
    def coded_labels(self) -> np.ndarray:
        """The labels with -1 where they are unknown, int8 [m, n]."""
        return np.where(self.known, self.labels, -1).astype(np.int8)


def compile_describe(trained: Trained, mesh: Mesh) -> Describe:
    """`Trained.describe` with the parameters on every device of the mesh."""
    params = jax.device_put(trained.params, replicated(mesh))
    split = batch_sharding(mesh)
    run = jax.jit(
        known_mesh(trained.describe, mesh),
        in_shardings=(replicated(mesh), split),
        out_shardings=split,
    )
    return lambda image: run(params, image)


def answer_fold(
    trained: Trained,
    dataset: Dataset,
    subjects: Sequence[str],
    describe: Describe,
    batch_size: int,
    mesh: Mesh,
    kept: KeptAnswers | None = None,
) -> Answers:
    """Describe every frame of `subjects`; every process returns all of them.

    Args:
        trained: the model.
        dataset: the prepared sets.
        subjects: who is tested.
        describe: runs the model.
        batch_size: the global one, a multiple of the devices of `mesh`.
        mesh: all devices.
        kept: the answers of an interrupted evaluation, which this one goes on after and adds to.

    Raises:
        RunError: the model gives numbers that are no answer.
    """
    captions = CaptionTables(trained.aus, trained.vocabulary, trained.descriptions)
    decoder = PredictionDecoder(
        trained.aus, trained.thresholds, trained.vocabulary, trained.untaught
    )
    examples = dataset.rows(subjects)
    labels = dataset.labels
    keys = np.stack([labels.subject, labels.task, labels.frame], 1)[examples].astype(np.int32)
    predictions: list[Prediction] = []
    done = 0
    for arrays in kept.read(keys) if kept else ():
        predictions += decoder.decode(arrays)
        done += 1
    check_same("answers that are kept", done)
    own = local_rows(mesh, batch_size)
    left = examples[len(predictions) :]
    batches = eval_iterator(dataset, left, captions, trained.data, batch_size=batch_size, own=own)
    with (
        closing(batches),
        tqdm(
            total=len(examples),
            initial=len(predictions),
            desc="evaluate",
            unit="face",
            disable=not is_first_process(),
        ) as bar,
    ):
        for number, batch in enumerate(batches if len(left) else (), done):
            split = shard_batch(batch, mesh, batch_size)
            outputs = describe(split["image"])
            outputs = {name: outputs[name] for name in DECODED_ARRAYS if name in outputs}
            outputs, key, valid = fetch((outputs, split["key"], split["valid"]))
            arrays = {name: values[valid] for name, values in outputs.items()}
            if not np.array_equal(key[valid], keys[len(predictions) :][: valid.sum()]):
                raise ValueError(f"batch {number} is not the one that is due")
            predictions += decoder.decode(arrays)
            if kept and is_first_process():
                kept.add(number, key[valid], arrays)
            bar.update(int(valid.sum()))
    au, known = labels.au[examples].astype(np.float32), labels.known[examples]
    return Answers(keys, au, known, predictions, trained.descriptions)
