"""The faces of a test fold that the report shows, and by which rules they are chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from vlfau_jax.inference.explained import WordMaps, global_words, local_words, stated
from vlfau_jax.inference.prediction import Prediction
from vlfau_jax.inference.trained import Trained
from vlfau_jax.sharding.arrays import fetch, local_rows, shard_batch

# How many faces each rule chooses, and the rule in words for the page. The order is the page's.
RULES = {
    "representative": (
        6,
        "together they show as many of the units as possible, whether the model is right about "
        "them or not",
    ),
    "worst": (3, "the highest mean log loss of the known units"),
    "best": (3, "the lowest mean log loss of the known units"),
}
_LEAST = 1e-7  # probability in a log loss: float32 has 1 - p = 0 for others
_GIVEN = ("local_tokens", "local_attention", "global_tokens", "global_attention")


@dataclass(frozen=True)
class DescribedFace:
    """A face with its labels, its prediction and its maps: what one card of a page shows.

    Attributes:
        title: subject, task and frame.
        image: uint8 [h, w, 3] RGB, as the model sees it.
        prediction: scores and sentences.
        labels: int8 [n], 1, 0, or -1 where unknown; None for a face that nobody labelled.
        true_sentence: the global description that the labels give, None where one is unknown.
        spatial_maps: float [n, h', w'], the spatial attention of each unit's branch (DAIR's s);
            None from a model without it.
        attention: float [n, h', w'], the local captioner's attention, averaged over its words;
            None without such a captioner.
        states: int8 [n], whether each unit's sentence states it on (1), off (0) or neither (-1);
            None from a model that writes none.
        words: the local sentences word by word, n of them; None without such a captioner.
        global_words: the global sentence; None from a model that writes none.
        chosen_by: the names of the `RULES` that chose it.
        log_loss: `mean_log_loss` of it.
    """

    title: str
    image: np.ndarray
    prediction: Prediction
    labels: np.ndarray | None
    true_sentence: str | None
    spatial_maps: np.ndarray | None
    attention: np.ndarray | None
    states: np.ndarray | None
    words: tuple[WordMaps, ...] | None = None
    global_words: WordMaps | None = None
    chosen_by: tuple[str, ...] = ()
    log_loss: float = float("nan")

    @property
    def maps(self) -> dict[str, np.ndarray]:
        """The maps that the face has, by their labels on the card, from top to bottom."""
        maps = {"branch": self.spatial_maps, "words": self.attention}
        return {name: values for name, values in maps.items() if values is not None}


def mean_log_loss(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean over a face's known units of -log p(label), natural logarithm; NaN where none is known.

    Args:
        probabilities: float [m, n], 0-1.
        labels: int8 [m, n] in {1, 0, -1}.

    Returns:
        float64 [m].
    """
    p = np.where(labels == 1, probabilities, 1.0 - probabilities.astype(np.float64))
    losses = np.where(labels >= 0, -np.log(np.clip(p, _LEAST, 1.0)), 0.0)
    known = (labels >= 0).sum(1)
    return np.where(known > 0, losses.sum(1) / np.maximum(known, 1), np.nan)


def choose(
    losses: np.ndarray, labels: np.ndarray, subjects: np.ndarray
) -> dict[int, tuple[str, ...]]:
    """Choose which of m test faces to show, each by one or more of the `RULES`.

    Of the representative ones each next face is the one that adds most to what was shown least. By
    every rule, persons not yet shown go before those shown, and ties go to the first face.

    Args:
        losses: float [m], `mean_log_loss`.
        labels: int8 [m, n] in {1, 0, -1}.
        subjects: int [m], their numbers.

    Returns:
        row -> the rules that chose it, in the order in which they are shown.
    """
    on = labels == 1

    def adds(chosen: Sequence[int]) -> np.ndarray:
        return (on / (1.0 + on[list(chosen)].sum(0)[None]) ** 2).sum(1)

    worth = {
        "representative": adds,
        "worst": lambda _: losses,
        "best": lambda _: -losses,
    }
    found: dict[int, tuple[str, ...]] = {}
    for rule, (count, _) in RULES.items():
        for row in _select(worth[rule], subjects, count):
            found[row] = (*found.get(row, ()), rule)
    return found


def _select(
    worth: Callable[[Sequence[int]], np.ndarray], subjects: np.ndarray, count: int
) -> list[int]:
    """At most `count` rows, one by one: of the persons shown least, the one worth most.

    `worth` gives float [m] from the rows chosen so far; a row of NaN is not chosen.
    """
    chosen: list[int] = []
    while len(chosen) < count:
        values = worth(chosen)
        left = np.flatnonzero(~np.isnan(values) & ~np.isin(np.arange(len(values)), chosen))
        if not len(left):
            break
        shown = (subjects[left, None] == subjects[chosen][None]).sum(1)
        chosen.append(int(left[np.lexsort((-values[left], shown))[0]]))  # the last key is the first
    return chosen


def describe_chosen(
    trained: Trained,
    dataset: Dataset,
    subjects: Sequence[str],
    answers: Answers,
    describe: Describe,
    batch_size: int,
    mesh: Mesh,
) -> list[DescribedFace]:
    """Choose the faces for the report from all answers, and run the model again for their maps.

    Every process must call it; `batch_size` is the global one of `answer_fold`.
    """
    judged = np.where(answers.taught, answers.coded_labels, -1)
    losses = mean_log_loss(answers.probabilities, judged)
    chosen = choose(losses, judged, answers.keys[:, 0])
    source = dataset.source(dataset.rows(subjects))
    size = trained.data.image_size
    images = [resize(decode_crop(source[row]["image"]), size) for row in chosen]
    given = _describe(images, describe, batch_size, mesh)
    spatial_maps, attention = (given.get(name) for name in MAP_ARRAYS.values())
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
            states=stated(answers.predictions[row], reader),
            words=local_words(given, k, trained.vocabulary),
            global_words=global_words(given, k, trained.vocabulary),
            chosen_by=rules,
            log_loss=float(losses[row]),
        )
        for k, (row, rules) in enumerate(chosen.items())
    ]


def _describe(
    images: Sequence[np.ndarray], describe: Describe, batch_size: int, mesh: Mesh
) -> dict[str, np.ndarray]:
    """The model's maps and words of some faces, each first axis theirs."""
    found: list[dict[str, np.ndarray]] = []
    for start in range(0, len(images), batch_size):
        some = np.stack(images[start : start + batch_size])
        # A full batch: another size would be compiled anew.
        batch = np.zeros((batch_size, *some.shape[1:]), np.uint8)
        batch[: len(some)] = some
        own = {"image": batch[local_rows(mesh, batch_size)]}
        arrays = describe(shard_batch(own, mesh, batch_size)["image"])
        wanted = (*MAP_ARRAYS.values(), *_GIVEN)
        arrays = fetch({name: arrays[name] for name in wanted if name in arrays})
        found.append({name: values[: len(some)] for name, values in arrays.items()})
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}
