"""The faces of a test fold that the report shows, and by which rule they are chosen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlfau_jax.inference.prediction import Prediction


@dataclass(frozen=True)
class DescribedFace:
    """A test face with its labels, its prediction and its maps: what one card of the report shows.

    Attributes:
        title: subject, task and frame.
        image: uint8 [h, w, 3] RGB, as the model sees it.
        prediction: scores and sentences.
        labels: int8 [n], 1, 0, or -1 where unknown.
        true_sentence: the global description that the labels give, None where one is unknown.
        spatial_maps: float [n, h', w'], where each unit's branch looks (DAIR's s); None where it
            looks everywhere alike.
        attention: float [n, h', w'], the local captioner's attention, averaged over its words;
            None without such a captioner.
    """

    title: str
    image: np.ndarray
    prediction: Prediction
    labels: np.ndarray
    true_sentence: str | None
    spatial_maps: np.ndarray | None
    attention: np.ndarray | None

    @property
    def maps(self) -> dict[str, np.ndarray]:
        """The maps that there are, by the words beside them on the card, from the top."""
        maps = {"branch": self.spatial_maps, "words": self.attention}
        return {name: values for name, values in maps.items() if values is not None}


def choose(probabilities: np.ndarray, labels: np.ndarray, people: np.ndarray, count: int) -> list:
    """Which of m test faces to show: indices, first those that cover the units, then failures.

    Two thirds are taken to show as many true units as may be, each next face the one that adds
    most to what was shown least, whether the model is right about it or not. One third are the
    faces with the most wrong units. Somebody not yet shown goes before somebody shown; ties go to
    the first. `CHOICE` says so on the page.

    probabilities float [m, n]; labels int8 [m, n] in {1, 0, -1}; people int [m], subject numbers.
    """
    wrong = ((probabilities > 0.5) != (labels == 1)) & (labels >= 0)
    on = labels == 1
    chosen: list[int] = []
    shown = np.zeros(labels.shape[1])
    times = {int(person): 0 for person in people}
    for turn in range(min(count, len(labels))):
        failures = turn >= count - count // 3
        worth = wrong.sum(1) if failures else (on / (1.0 + shown[None]) ** 2).sum(1)
        seen = np.array([times[int(person)] for person in people])
        worth = np.where(np.isin(np.arange(len(labels)), chosen), -np.inf, worth)
        # Rank by (how often this person was shown, worth): lexsort's last key is the first.
        best = int(np.lexsort((-worth, seen + np.isinf(worth) * len(labels)))[0])
        chosen.append(best)
        shown += on[best]
        times[int(people[best])] += 1
    return chosen


CHOICE = (
    "Chosen by a rule, not by eye: two thirds of the faces together show as many of the units as "
    "may be, whether the model is right about them or not; the last third are those with the most "
    "wrong units. Every person is shown once before anyone is shown twice."
)
