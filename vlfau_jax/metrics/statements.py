"""Metrics of generated sentences: the unit and state that each one states, checked as facts.

Word-overlap scores (BLEU, METEOR, CIDEr) rate "the brows are raised" and "the brows are not raised"
as near twins, and some need Java. A reader asks something else: does this sentence state the right
unit, in the right state, and does it agree with the score beside it?
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vlfau_jax.data.text.descriptions import NOUN, STATES, Descriptions
from vlfau_jax.data.text.reading import Reader

NEAR = 0.1  # a probability this close to its threshold is near it


@dataclass(frozen=True, eq=False)
class ExplainedFaces:
    """The sentences of m faces, and the labels and scores that they are compared with.

    Attributes:
        aus: the units' numbers, n of them.
        local: [m][n] sentences about single units; None from a model that writes none.
        global_: [m] sentences about the whole face; None from a model that writes none.
        labels: [m, n] in {0, 1}.
        known: bool [m, n].
        active: bool [m, n], whether each score exceeds its threshold.
        nouns: [m], the true ones as `noun_of` gives them.
        constant: bool [n], each unit's more frequent state in training.
        taught: bool [n], the units that training could teach; None for all. The others count
            nowhere.
        margin: float [m, n], each probability less its threshold; None where no metric near the
            threshold is asked for.
        descriptions: the texts that the model was trained on, from which is known what a sentence
            says.
    """

    aus: Sequence[int]
    local: Sequence[Sequence[str]] | None
    global_: Sequence[str] | None
    labels: np.ndarray
    known: np.ndarray
    active: np.ndarray
    nouns: Sequence[str]
    constant: np.ndarray
    taught: np.ndarray | None = None
    margin: np.ndarray | None = None
    descriptions: Descriptions = STATES

    @property
    def kinds(self) -> tuple[str, ...]:
        """Which sentences there are: "local", "global", both or neither."""
        kinds = {"local": self.local, "global": self.global_}
        return tuple(kind for kind, sentences in kinds.items() if sentences is not None)

    @cached_property
    def judged(self) -> np.ndarray:
        """Whether each unit of a face counts: its label is known, and it was taught; [m, n]."""
        return self.known if self.taught is None else self.known & self.taught[None]

    @property
    def positive(self) -> np.ndarray:
        """Whether each label is on, bool [m, n]; meaningless where it is unknown."""
        return self.labels > 0

    @cached_property
    def reader(self) -> Reader:
        """Reads the sentences."""
        return Reader(self.descriptions)

    @cached_property
    def states(self) -> np.ndarray:
        """`states` of the local sentences, int8 [m, n]."""
        return states(self.aus, self.local, self.reader)

    @cached_property
    def counted(self) -> np.ndarray:
        """Whether each unit was taught, bool [m, n]; the labels need not be known."""
        taught = np.ones(len(self.aus), bool) if self.taught is None else self.taught
        return np.broadcast_to(taught, self.known.shape)

    @cached_property
    def named(self) -> np.ndarray:
        """Whether each global sentence names each unit, bool [m, n]."""
        units = [self.reader.named(sentence) for sentence in self.global_]
        found = np.array([[au in face for au in self.aus] for face in units], bool)
        return found.reshape(self.known.shape)

    @cached_property
    def named_elsewhere(self) -> int:
        """How often global sentences name units that the data set does not have."""
        own = set(self.aus)
        return sum(len(self.reader.named(sentence) - own) for sentence in self.global_)


def polarity_accuracy(faces: ExplainedFaces) -> float:
    """Share of all (face, unit) with a known label whose local sentence states unit and state."""
    return _mean((faces.states == faces.positive)[faces.judged])


def polarity_constant(faces: ExplainedFaces) -> float:
    """`polarity_accuracy` of sentences that always state a unit's more frequent state in training.

    The floor beside it; it needs no sentence.
    """
    return _mean((faces.constant[None, :] == faces.positive)[faces.judged])


def agreement(faces: ExplainedFaces) -> float:
    """Share of all (face, unit) whose local sentence states the state that the score gives."""
    return _mean((faces.states == faces.active)[faces.counted])


def agreement_near(faces: ExplainedFaces) -> float:
    """`agreement` over the (face, unit) whose probability is within `NEAR` of its threshold."""
    if faces.margin is None:
        return float("nan")
    near = faces.counted & (np.abs(faces.margin) <= NEAR)
    return _mean((faces.states == faces.active)[near])


def contradiction(faces: ExplainedFaces) -> float:
    """Share of all (face, unit) whose local sentence states the other state than the score."""
    opposite = (faces.states >= 0) & (faces.states != faces.active)
    return _mean(opposite[faces.counted])


def unsaid(faces: ExplainedFaces) -> float:
    """Share of all (face, unit) whose local sentence states neither state of the unit."""
    return _mean((faces.states < 0)[faces.counted])


def global_f1(faces: ExplainedFaces) -> float:
    """F1 of the units that the global sentences name, pooled over faces and units with labels."""
    positive = faces.positive & faces.judged
    # A unit that the data set does not have is wrong wherever it is named.
    hits = int((faces.named & positive).sum())
    false = int((faces.named & ~positive & faces.judged).sum()) + faces.named_elsewhere
    wrong = false + int((positive & ~faces.named).sum())
    return 2 * hits / (2 * hits + wrong) if hits + wrong else float("nan")


def named_untrue(faces: ExplainedFaces) -> float:
    """Share of the units named by global sentences, labels known, whose label is off."""
    false = int((faces.named & ~faces.positive & faces.judged).sum()) + faces.named_elsewhere
    return _share(false, int((faces.named & faces.judged).sum()) + faces.named_elsewhere)


def named_inactive(faces: ExplainedFaces) -> float:
    """Share of the units named by global sentences whose score is not active."""
    named = faces.named & faces.counted
    wrong = int((named & ~faces.active).sum()) + faces.named_elsewhere
    return _share(wrong, int(named.sum()) + faces.named_elsewhere)


def active_unnamed(faces: ExplainedFaces) -> float:
    """Share of the units whose score is active that the global sentence does not name."""
    active = faces.active & faces.counted
    return _share(int((active & ~faces.named).sum()), int(active.sum()))


def noun_accuracy(faces: ExplainedFaces) -> float:
    """Share of the global sentences whose first noun is the face's."""
    if NOUN not in faces.descriptions.face.active + faces.descriptions.face.inactive:
        return float("nan")  # the texts speak of nobody
    said = map(faces.reader.nouns, faces.global_)
    return _mean(
        np.array([own in nouns for own, nouns in zip(faces.nouns, said, strict=True)], bool)
    )


def states(aus: Sequence[int], sentences: Iterable[Sequence[str]], reader: Reader) -> np.ndarray:
    """int8 [m, n]: 1 or 0 where sentence i of a face states unit i on or off, -1 where neither."""
    rows = []
    for face in sentences:
        facts = [reader.stated(sentence) for sentence in face]
        rows.append(
            [
                int(fact.active) if fact is not None and fact.au == au else -1
                for au, fact in zip(aus, facts, strict=True)
            ]
        )
    return np.array(rows, np.int8).reshape(-1, len(aus))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
