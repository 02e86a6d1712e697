"""Run a model over the frames of a test fold, on all devices."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from vlfau_jax.data.read.dataset import Dataset
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.data.read.pipeline import eval_iterator
from vlfau_jax.data.text.captions import CaptionTables
from vlfau_jax.data.text.descriptions import Descriptions
from vlfau_jax.distributed.processes import check_same, is_first_process
from vlfau_jax.evaluation.kept_answers import MAP_ARRAYS, KeptAnswers
from vlfau_jax.evaluation.likelihood import Likelihood, likelihood_of, sums
from vlfau_jax.inference.prediction import (
    DECODED_ARRAYS,
    Prediction,
    PredictionDecoder,
    check_finite,
)
from vlfau_jax.inference.trained import THRESHOLD, Trained
from vlfau_jax.metrics.au import is_active
from vlfau_jax.metrics.scored import ScoredFrames
from vlfau_jax.model.vlfau import VLFAU, normalise
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
        intensities: int8 [m, n], the coded ones, 0 to 5, -1 where unknown.
        likelihood: by kind of sentence, the two sums of likelihood.py.
        maps: float32 [m, n, h, w] by whose they are, as in `metrics.maps.MappedFaces`; empty where
            they were not asked for.
    """

    keys: np.ndarray
    labels: np.ndarray
    known: np.ndarray
    predictions: list[Prediction]
    descriptions: Descriptions
    intensities: np.ndarray | None = None
    likelihood: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    maps: dict[str, np.ndarray] = field(default_factory=dict)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Scores 0-1, float32 [m, n]."""
        return np.stack([prediction.probabilities for prediction in self.predictions])

    @cached_property
    def active(self) -> np.ndarray:
        """Whether each probability exceeds its threshold, bool [m, n]."""
        return np.stack([prediction.active for prediction in self.predictions])

    @property
    def scored(self) -> ScoredFrames:
        """The scores beside the labels."""
        first = self.predictions[0]
        return ScoredFrames(
            first.aus,
            self.probabilities,
            self.active,
            self.labels,
            self.known,
            first.untaught,
            self.intensities,
        )

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
    """`Trained.describe` with the parameters on every device of the mesh, and "word_maps".

    These are the local sentences' attention, averaged over their words, float32 [b, n, h, w].
    """

    def describe(params: Any, image: jax.Array) -> dict[str, jax.Array]:
        arrays = trained.describe(params, image)
        if "local_attention" in arrays:
            # Each word's attention sums to one over the places, and to zero after the end.
            summed = arrays["local_attention"].sum(2)
            arrays["word_maps"] = summed / summed.sum((-1, -2), keepdims=True)
        return arrays

    params = jax.device_put(trained.params, replicated(mesh))
    split = batch_sharding(mesh)
    run = jax.jit(
        known_mesh(describe, mesh),
        in_shardings=(replicated(mesh), split),
        out_shardings=split,
    )
    return lambda image: run(params, image)


def score_rows(
    model: VLFAU,
    params: Any,
    dataset: Dataset,
    rows: np.ndarray,
    captions: CaptionTables,
    options: DataOptions,
    untaught: Collection[int],
    batch_size: int,
    mesh: Mesh,
) -> ScoredFrames:
    """Scores of some faces without their sentences, decided by the field's threshold.

    Every process must call it, and gets all of them.

    Args:
        model: the network.
        params: its parameters, on the devices of `mesh` or on the host.
        dataset: the prepared sets.
        rows: int, the faces, see `Dataset.rows`.
        captions: token tables for the units.
        options: how the faces are read.
        untaught: the units that training could not teach.
        batch_size: the global one, a multiple of the devices of `mesh`.
        mesh: all devices.

    Raises:
        RunError: the model gives numbers that are no answer.
    """
    batches = eval_iterator(
        dataset, rows, captions, options, batch_size=batch_size, own=local_rows(mesh, batch_size)
    )
    found = []
    with closing(batches):
        for batch in batches:
            split = shard_batch(batch, mesh, batch_size)
            probabilities = _probabilities(model, params, split["image"])
            *arrays, valid = fetch((probabilities, split["au"], split["au_known"], split["valid"]))
            found.append([values[valid] for values in arrays])
    probabilities, labels, known = (np.concatenate(values) for values in zip(*found, strict=True))
    check_finite({"au_probabilities": probabilities})
    active = is_active(probabilities, (THRESHOLD,) * len(captions.aus))
    return ScoredFrames(captions.aus, probabilities, active, labels, known, untaught)


@partial(jax.jit, static_argnames="model")
def _probabilities(model: VLFAU, params: Any, image: jax.Array) -> jax.Array:
    logits = model.apply({"params": params}, normalise(image), method=VLFAU.score)
    return jax.nn.sigmoid(logits)


def answer_fold(
    trained: Trained,
    dataset: Dataset,
    subjects: Sequence[str],
    describe: Describe,
    batch_size: int,
    mesh: Mesh,
    kept: KeptAnswers | None = None,
    likelihood: Likelihood = lambda batch: {},
    maps: bool = False,
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
        likelihood: tells how likely the true sentences are.
        maps: whether the answers have maps.

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
    surprise: list[dict[str, np.ndarray]] = []
    wanted = (*DECODED_ARRAYS, *(MAP_ARRAYS.values() if maps else ()))
    found: dict[str, list[np.ndarray]] = {name: [] for name in MAP_ARRAYS}
    done = 0

    def decode(arrays: Mapping[str, np.ndarray]) -> list[Prediction]:
        for whose, name in MAP_ARRAYS.items():
            if maps and name in arrays:
                found[whose].append(arrays[name])
        return decoder.decode(arrays)

    for arrays in kept.read(keys) if kept else ():
        surprise.append(likelihood_of(arrays))
        predictions += decode(arrays)
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
            outputs = {name: outputs[name] for name in wanted if name in outputs}
            outputs |= likelihood(split)
            outputs, key, valid = fetch((outputs, split["key"], split["valid"]))
            arrays = {name: values[valid] for name, values in outputs.items()}
            if not np.array_equal(key[valid], keys[len(predictions) :][: valid.sum()]):
                raise ValueError(f"batch {number} is not the one that is due")
            predictions += decode(arrays)
            surprise.append(likelihood_of(arrays))
            check_finite(surprise[-1])
            if kept and is_first_process():
                kept.add(number, key[valid], arrays)
            bar.update(int(valid.sum()))
    au, known = labels.au[examples].astype(np.float32), labels.known[examples]
    joined = {whose: np.concatenate(values) for whose, values in found.items() if values}
    return Answers(
        keys,
        au,
        known,
        predictions,
        trained.descriptions,
        labels.level[examples],
        sums(surprise),
        joined,
    )
