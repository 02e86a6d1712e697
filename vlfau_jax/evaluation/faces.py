"""The faces of a test fold that the report shows, and by which rule they are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jax.sharding import Mesh

from vlfau_jax.data.raw.frames import decode_crop
from vlfau_jax.data.read.dataset import Dataset
from vlfau_jax.data.read.transforms import resize
from vlfau_jax.data.text.reading import Reader
from vlfau_jax.evaluation.answers import Answers, Describe
from vlfau_jax.evaluation.kept_answers import MAP_ARRAYS
from vlfau_jax.evaluation.predictions import true_sentence
from vlfau_jax.inference.prediction import Prediction
from vlfau_jax.metrics.statements import states
from vlfau_jax.sharding.arrays import fetch, local_rows, shard_batch

FACES_SHOWN = 10


@dataclass(frozen=True)
class DescribedFace:
    """A test face with its labels, its prediction and its maps: what one card of the report shows.

    Attributes:
        title: subject, task and frame.
        image: uint8 [h, w, 3] RGB, as the model sees it.
        prediction: scores and sentences.
        labels: int8 [n], 1, 0, or -1 where unknown.
        true_sentence: the global description that the labels give, None where one is unknown.
        spatial_maps: float [n, h', w'], the spatial attention of each unit's branch (DAIR's s);
            None from a model without it.
        attention: float [n, h', w'], the local captioner's attention, averaged over its words;
            None without such a captioner.
        states: int8 [n], whether each unit's sentence states it on (1), off (0) or neither (-1);
            None from a model that writes none.
    """

    title: str
    image: np.ndarray
    prediction: Prediction
    labels: np.ndarray
    true_sentence: str | None
    spatial_maps: np.ndarray | None
    attention: np.ndarray | None
    states: np.ndarray | None

    @property
    def maps(self) -> dict[str, np.ndarray]:
        """The maps that the face has, by their labels on the card, from top to bottom."""
        maps = {"branch": self.spatial_maps, "words": self.attention}
        return {name: values for name, values in maps.items() if values is not None}


def choose(active: np.ndarray, labels: np.ndarray, subjects: np.ndarray, count: int) -> list[int]:
    """Choose which of m test faces to show: first those that cover the units, then failures.

    Two thirds together show as many true units as possible: each next face is the one that adds
    most to what was shown least, whether the model is right about it or not. One third are the
    faces with the most wrong units. Subjects not yet shown go before those shown; ties go to the
    first. `CHOICE` states the rule on the page.

    Args:
        active: bool [m, n], whether each probability exceeds its threshold.
        labels: int8 [m, n] in {1, 0, -1}.
        subjects: int [m], their numbers.
        count: how many faces, if there are as many.

    Returns:
        Indices, in the order in which they are shown.
    """
    wrong = (active != (labels == 1)) & (labels >= 0)
    on = labels == 1
    chosen: list[int] = []
    shown = np.zeros(labels.shape[1])
    times = {int(subject): 0 for subject in subjects}
    for turn in range(min(count, len(labels))):
        failures = turn >= count - count // 3
        worth = wrong.sum(1) if failures else (on / (1.0 + shown[None]) ** 2).sum(1)
        seen = np.array([times[int(subject)] for subject in subjects])
        worth = np.where(np.isin(np.arange(len(labels)), chosen), -np.inf, worth)
        # Rank by (how often this subject was shown, worth): lexsort's last key is the first.
        best = int(np.lexsort((-worth, seen + np.isinf(worth) * len(labels)))[0])
        chosen.append(best)
        shown += on[best]
        times[int(subjects[best])] += 1
    return chosen


CHOICE = (
    "Chosen by a rule, not by hand: two thirds of the faces together show as many of the units as "
    "possible, whether the model is right about them or not; the last third are those with the "
    "most wrong units. Every person is shown once before anyone is shown twice."
)


def describe_chosen(
    dataset: Dataset,
    subjects: Sequence[str],
    answers: Answers,
    describe: Describe,
    image_size: int,
    batch_size: int,
    mesh: Mesh,
) -> list[DescribedFace]:
    """Choose the faces for the report from all answers, and run the model again for their maps.

    Every process must call it; `batch_size` is the global one of `answer_fold`.
    """
    count = min(FACES_SHOWN, batch_size)
    judged = np.where(answers.taught, answers.coded_labels, -1)
    rows = choose(answers.active, judged, answers.keys[:, 0], count)
    source = dataset.source(dataset.rows(subjects))
    # A full batch: another size would be compiled anew.
    images = np.zeros((batch_size, image_size, image_size, 3), np.uint8)
    for k, row in enumerate(rows):
        images[k] = resize(decode_crop(source[row]["image"]), image_size)
    own = {"image": images[local_rows(mesh, batch_size)]}
    arrays = describe(shard_batch(own, mesh, batch_size)["image"])
    arrays = fetch({name: arrays[name] for name in MAP_ARRAYS.values() if name in arrays})
    spatial_maps, attention = (arrays.get(name) for name in MAP_ARRAYS.values())
    reader = Reader(answers.descriptions)
    return [
        DescribedFace(
            title="{}, task {}, frame {}".format(
                dataset.subjects[answers.keys[row, 0]], *answers.keys[row, 1:]
            ),
            image=images[k],
            prediction=answers.predictions[row],
            labels=answers.coded_labels[row],
            true_sentence=true_sentence(dataset, answers, row),
            spatial_maps=None if spatial_maps is None else spatial_maps[k],
            attention=None if attention is None else attention[k],
            states=_states(answers.predictions[row], reader),
        )
        for k, row in enumerate(rows)
    ]


def _states(prediction: Prediction, reader: Reader) -> np.ndarray | None:
    if prediction.sentences is None:
        return None
    return states(prediction.aus, [prediction.sentences], reader)[0]
