"""Whether the sentences say what is so: which unit and state each one states, checked as facts.

Word-overlap scores (BLEU, METEOR, CIDEr) call "the brows are raised" and "the brows are not raised"
near twins, and some need Java. A reader's question is another one: does this sentence state the
right unit, in the right state, and does it agree with the score beside it?
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from vlfau_jax import facs
from vlfau_jax.data.text.descriptions import NOUNS

# Below this overlap a sentence states nothing. Of the descriptions themselves, the nearest two
# (those of AU 9) reach 0.71, two of different units at most 0.51.
NEAR_ENOUGH = 0.6

_WORD = re.compile(r"[a-z]+")


def words(text: str) -> tuple[str, ...]:
    """The words of a sentence, lower case, without punctuation."""
    return tuple(_WORD.findall(text.lower()))


def _grams(text: str) -> Counter[tuple[str, ...]]:
    """Multiset of words and word pairs; pairs tell "are not raised" from "are raised ... not"."""
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
    """The (unit, active) whose description in facs.py a sentence is, or is nearest to.

    Nearness is the Dice coefficient of the multisets of words and word pairs (0-1). None when no
    description reaches `NEAR_ENOUGH`, or two are equally near: such a sentence states nothing.
    """
    exact = _DESCRIPTIONS.get(words(sentence))
    if exact is not None:
        return exact
    grams = _grams(sentence)
    size = grams.total()
    if not size:
        return None
    nearness = [
        (2 * (grams & other).total() / (size + other.total()), fact) for other, fact in _GRAMS
    ]
    (best, fact), (second, _) = sorted(nearness, reverse=True)[:2]
    return fact if best >= NEAR_ENOUGH and best > second else None


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


@dataclass(frozen=True)
class Explanations:
    """Scores of the sentences, as shares of 1; NaN where there was nothing to count.

    Attributes:
        polarity_accuracy: of all (face, unit) with a known label, how many local sentences state
            the right unit in the right state.
        polarity_constant: the floor beside it: the same share for sentences that always state
            each unit's more frequent state in training.
        agreement: of all (face, unit), how many local sentences state the very state that the
            score beside them gives.
        global_f1: F1 of the units named by the global sentences, pooled over the faces and units
            whose labels are known.
        noun_accuracy: how many global sentences begin with the right noun.
    """

    polarity_accuracy: float
    polarity_constant: float
    agreement: float
    global_f1: float
    noun_accuracy: float


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


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


def _global_f1(
    aus: Sequence[int], spoken: Sequence[Collection[int]], labels: np.ndarray, known: np.ndarray
) -> float:
    said = np.array([[au in face for au in aus] for face in spoken], bool).reshape(known.shape)
    true = (labels > 0) & known
    # A unit outside the data set's own is false wherever it is named.
    strange = sum(len(set(face) - set(aus)) for face in spoken)
    hits = int((said & true).sum())
    wrong = int((said & ~true & known).sum()) + strange + int((true & ~said).sum())
    return 2 * hits / (2 * hits + wrong) if hits + wrong else float("nan")


def explain(
    aus: Sequence[int],
    local: Sequence[Sequence[str]] | None,
    global_: Sequence[str] | None,
    labels: np.ndarray,
    known: np.ndarray,
    active: np.ndarray,
    nouns: Sequence[str],
    constant: np.ndarray,
) -> Explanations:
    """Score the sentences of m faces.

    local [m][n] and global_ [m] sentences, None from a model that writes none; labels [m, n] in
    {0, 1}; known bool [m, n]; active bool [m, n], the scores above their threshold; nouns [m], the
    true ones as `noun_of` gives them; constant bool [n], each unit's more frequent state in
    training.
    """
    true = labels > 0
    polarity_accuracy = agreement = global_f1 = noun_accuracy = float("nan")
    if local is not None:
        state = states(aus, local)
        polarity_accuracy = _mean((state == true)[known])
        agreement = _mean(state == active)
    if global_ is not None:
        spoken = [next((word for word in words(text) if word in NOUNS), None) for text in global_]
        noun_right = [said == noun for said, noun in zip(spoken, nouns, strict=True)]
        global_f1 = _global_f1(aus, [named(s) for s in global_], labels, known)
        noun_accuracy = _mean(np.array(noun_right, bool))
    return Explanations(
        polarity_accuracy=polarity_accuracy,
        polarity_constant=_mean((constant[None, :] == true)[known]),
        agreement=agreement,
        global_f1=global_f1,
        noun_accuracy=noun_accuracy,
    )
