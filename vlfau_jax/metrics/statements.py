"""Metrics of generated sentences: the unit and state that each one states, checked as facts.

Word-overlap scores (BLEU, METEOR, CIDEr) rate "the brows are raised" and "the brows are not raised"
as near twins, and some need Java. A reader asks something else: does this sentence state the right
unit, in the right state, and does it agree with the score beside it?
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np

from vlfau_jax import facs
from vlfau_jax.data.text.descriptions import NOUNS

# Below this overlap a sentence states nothing. Of the descriptions themselves, the most similar two
# (those of AU 9) reach 0.71, two of different units at most 0.51.
MIN_SIMILARITY = 0.6

_WORD = re.compile(r"[a-z]+")


def words(text: str) -> tuple[str, ...]:
    """The words of a sentence, lower case, without punctuation."""
    return tuple(_WORD.findall(text.lower()))


def _grams(text: str) -> Counter[tuple[str, ...]]:
    """Multiset of words and word pairs; pairs know "are not raised" from "are raised ... not"."""
    single = words(text)
    return Counter([(word,) for word in single] + list(pairwise(single)))


_DESCRIPTIONS: dict[tuple[str, ...], tuple[int, bool]] = {
    words(text): (unit.number, active)
    for unit in facs.ACTION_UNITS.values()
    for active, text in ((True, unit.active), (False, unit.inactive))
}
_GRAMS = [(_grams(" ".join(text)), fact) for text, fact in _DESCRIPTIONS.items()]


@lru_cache(maxsize=65536)
def stated(sentence: str) -> tuple[int, bool] | None:
    """The (unit, active) whose description in facs.py a sentence equals, or is most similar to.

    Similarity is the Dice coefficient of the multisets of words and word pairs (0-1). None when no
    description reaches `MIN_SIMILARITY`, or two are equally similar: such a sentence states
    nothing.
    """
    exact = _DESCRIPTIONS.get(words(sentence))
    if exact is not None:
        return exact
    grams = _grams(sentence)
    size = grams.total()
    if not size:
        return None
    similarities = [
        (2 * (grams & other).total() / (size + other.total()), fact) for other, fact in _GRAMS
    ]
    (best, fact), (second, _) = sorted(similarities, reverse=True)[:2]
    return fact if best >= MIN_SIMILARITY and best > second else None


_PHRASES = sorted(
    ((words(unit.verb_phrase), unit.number) for unit in facs.ACTION_UNITS.values()),
    key=lambda pair: -len(pair[0]),
)


def named(sentence: str) -> frozenset[int]:
    """The units whose verb phrases a sentence about the whole face contains."""
    rest = list(words(sentence))
    found = set()
    start = 0
    while start < len(rest):
        for phrase, number in _PHRASES:  # longest first: a phrase inside another must not win
            if tuple(rest[start : start + len(phrase)]) == phrase:
                found.add(number)
                start += len(phrase)
                break
        else:
            start += 1
    return frozenset(found)


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
    def states(self) -> np.ndarray:
        """`states` of the local sentences, int8 [m, n]."""
        return states(self.aus, self.local)


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
    same = faces.states == faces.active
    return _mean(same if faces.taught is None else same[:, faces.taught])


def global_f1(faces: ExplainedFaces) -> float:
    """F1 of the units that the global sentences name, pooled over faces and units with labels."""
    units = [named(sentence) for sentence in faces.global_]
    predicted = np.array([[au in face for au in faces.aus] for face in units], bool)
    predicted = predicted.reshape(faces.known.shape)
    positive = faces.positive & faces.judged
    # A unit that the data set does not have is wrong wherever it is named.
    foreign = sum(len(face - set(faces.aus)) for face in units)
    hits = int((predicted & positive).sum())
    false = int((predicted & ~positive & faces.judged).sum()) + foreign
    wrong = false + int((positive & ~predicted).sum())
    return 2 * hits / (2 * hits + wrong) if hits + wrong else float("nan")


def noun_accuracy(faces: ExplainedFaces) -> float:
    """Share of the global sentences whose first noun is the face's."""
    first = [next((w for w in words(text) if w in NOUNS), None) for text in faces.global_]
    return _mean(np.array([a == b for a, b in zip(first, faces.nouns, strict=True)], bool))


def states(aus: Sequence[int], sentences: Iterable[Sequence[str]]) -> np.ndarray:
    """int8 [m, n]: 1 or 0 where sentence i of a face states unit i on or off, -1 where neither."""
    rows = []
    for face in sentences:
        facts = [stated(sentence) for sentence in face]
        rows.append(
            [
                int(fact[1]) if fact is not None and fact[0] == au else -1
                for au, fact in zip(aus, facts, strict=True)
            ]
        )
    return np.array(rows, np.int8).reshape(-1, len(aus))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
