"""Run a model over the frames of a test fold, on all devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from vlfau_jax.data.read.dataset import Dataset
from vlfau_jax.data.read.pipeline import eval_iterator
from vlfau_jax.data.text.captions import CaptionTables
from vlfau_jax.distributed.processes import is_first_process
from vlfau_jax.inference.prediction import DECODED_ARRAYS, Prediction, PredictionDecoder
from vlfau_jax.inference.trained import Trained
from vlfau_jax.sharding.arrays import batch_sharding, fetch, local_rows, replicated, shard_batch

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
    """

    keys: np.ndarray
    labels: np.ndarray
    known: np.ndarray
    predictions: list[Prediction]

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Scores 0-1, float32 [m, n]."""
        return np.stack([prediction.probabilities for prediction in self.predictions])

    @cached_property
    def active(self) -> np.ndarray:
        """Whether each probability exceeds its threshold, bool [m, n]."""
        return np.stack([prediction.active for prediction in self.predictions])

    @cached_property
    def coded_labels(self) -> np.ndarray:
        """The labels with -1 where they are unknown, int8 [m, n]."""
        return np.where(self.known, self.labels, -1).astype(np.int8)


def compile_describe(trained: Trained, mesh: Mesh) -> Describe:
    """`Trained.describe` with the parameters on every device of the mesh."""
    params = jax.device_put(trained.params, replicated(mesh))
    split = batch_sharding(mesh)
    run = jax.jit(trained.describe, in_shardings=(replicated(mesh), split), out_shardings=split)
    return lambda image: run(params, image)


def answer_fold(
    trained: Trained,
    dataset: Dataset,
    subjects: Sequence[str],
    describe: Describe,
    batch_size: int,
    mesh: Mesh,
) -> Answers:
    """Describe every frame of `subjects`; every process returns all of them.

    `batch_size` is the global one, a multiple of the devices of `mesh`.
    """
    captions = CaptionTables(trained.aus, trained.vocabulary)
    decoder = PredictionDecoder(
        trained.aus, trained.thresholds, trained.vocabulary, trained.untaught
    )
    examples = dataset.rows(subjects)
    own = local_rows(mesh, batch_size)
    batches = eval_iterator(
        dataset, examples, captions, trained.data, batch_size=batch_size, own=own
    )
    kept: dict[str, list[np.ndarray]] = {"key": [], "au": [], "au_known": []}
    predictions: list[Prediction] = []
    with tqdm(
        total=len(examples), desc="evaluate", unit="face", disable=not is_first_process()
    ) as bar:
        for batch in batches:
            split = shard_batch(batch, mesh, batch_size)
            outputs = describe(split["image"])
            outputs = {name: outputs[name] for name in DECODED_ARRAYS if name in outputs}
            outputs, rows = fetch((outputs, {name: split[name] for name in ("valid", *kept)}))
            valid = rows.pop("valid")
            predictions += decoder.decode({name: values[valid] for name, values in outputs.items()})
            for name, values in kept.items():
                values.append(rows[name][valid])
            bar.update(int(valid.sum()))
    batches.close()
    keys, labels, known = (np.concatenate(values) for values in kept.values())
    return Answers(keys, labels, known, predictions)
