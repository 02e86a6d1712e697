"""Reads sentences back: which units they speak of, and in which state.

What a text says is known from the descriptions that a model was trained on, whatever their
language: a sentence that equals one of them, or is most similar to it, states what that one does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Literal, TypeVar

from vlfau_jax.data.text.descriptions import NOUNS, STATES, Descriptions, Stated
from vlfau_jax.data.text.splitting import words

# Below this overlap a sentence states nothing. Of the sentences of facs.py, the most similar two
# (those of AU 9) reach 0.71, two of different units at most 0.52.
MIN_SIMILARITY = 0.6

State = Literal["active", "inactive", "unsaid"]
Owner = TypeVar("Owner", int, str)


def _grams(text: str) -> Counter[tuple[str, ...]]:
    """Multiset of words and word pairs; pairs know "are not raised" from "are raised ... not"."""
    single = words(text)
    return Counter([(word,) for word in single] + list(pairwise(single)))


class Reader:
    """Reads sentences of some descriptions.

    Attributes:
        stated: what a sentence about one unit states, see `_stated`.
        named: the units that a sentence about the face names, see `_named`.
        nouns: whom it speaks of, keys of `NOUNS`, see `_first_nouns`.
    """

    def __init__(self, descriptions: Descriptions = STATES) -> None:
        facts = [(text, fact) for _, text, fact in descriptions.facts()]
        self._exact = {words(text): fact for text, fact in facts}
        self._grams = [(_grams(text), fact) for text, fact in facts]
        units = [
            (words(text), au) for au in descriptions.aus for text in descriptions.of(au).phrases
        ]
        # Longest first: a phrase inside another must not win.
        self._phrases = sorted(units, key=lambda pair: -len(pair[0]))
        nouns = [(words(getattr(descriptions.face.nouns, noun)), noun) for noun in NOUNS]
        self._nouns = sorted(nouns, key=lambda pair: -len(pair[0]))
        self._nobody = {words(descriptions.whole((), (), noun)) for noun in NOUNS}
        # A trained captioner repeats a small number of sentences.
        self.stated: Callable[[str], Stated | None] = lru_cache(65536)(self._stated)
        self.named: Callable[[str], frozenset[int]] = lru_cache(65536)(self._named)
        self.nouns: Callable[[str], frozenset[str]] = lru_cache(65536)(self._first_nouns)

    def _stated(self, sentence: str) -> Stated | None:
        """The unit, state and intensity that a sentence about one unit states.

        They are those of the description that it equals, or is most similar to. Similarity is the
        Dice coefficient of the multisets of words and word pairs (0-1). None when no description
        reaches `MIN_SIMILARITY`, or two of different units or states are equally similar: such a
        sentence states nothing. Of equally similar ones of the same state the intensity is 0, not
        stated.
        """
        exact = self._exact.get(words(sentence))
        if exact is not None:
            return exact
        grams = _grams(sentence)
        size = grams.total()
        if not size:
            return None
        similarities = [
            (2 * (grams & other).total() / (size + other.total()), fact)
            for other, fact in self._grams
        ]
        best = max(similarity for similarity, _ in similarities)
        found = {fact for similarity, fact in similarities if similarity == best}
        facts = {fact[:2] for fact in found}
        if best < MIN_SIMILARITY or len(facts) > 1:
            return None
        return found.pop() if len(found) == 1 else Stated(*facts.pop())

    def _named(self, sentence: str) -> frozenset[int]:
        """The units whose phrases a sentence about the whole face contains."""
        rest = words(sentence)
        found = set()
        start = 0
        while start < len(rest):
            au, length = _first(self._phrases, rest[start:])
            if au is not None:
                found.add(au)
            start += length
        return frozenset(found)

    def _first_nouns(self, sentence: str) -> frozenset[str]:
        """The keys of the first noun of a sentence; several where they share a word, or none."""
        rest = words(sentence)
        for start in range(len(rest)):
            noun, length = _first(self._nouns, rest[start:])
            if noun is not None:
                said = rest[start : start + length]
                return frozenset(key for phrase, key in self._nouns if phrase == said)
        return frozenset()

    def read(self, sentence: str, aus: Sequence[int]) -> dict[int, State]:
        """What a sentence of either kind says of each of `aus`.

        A sentence about one unit says its state; one about the face says that the units are active
        that it names, or, in the words for a face without any, that all are inactive. The rest is
        unsaid: that a unit is not named does not say that it is off.
        """
        if words(sentence) in self._nobody:
            return dict.fromkeys(aus, "inactive")
        said: dict[int, State] = {}
        if (fact := self.stated(sentence)) is not None:
            said[fact.au] = "active" if fact.active else "inactive"
        else:
            said |= dict.fromkeys(self.named(sentence), "active")
        return {au: said.get(au, "unsaid") for au in aus}


def _first(
    phrases: Sequence[tuple[tuple[str, ...], Owner]], rest: tuple[str, ...]
) -> tuple[Owner | None, int]:
    """The owner of the first of `phrases` that `rest` begins with, and its length; or None, 1."""
    for phrase, owner in phrases:
        if rest[: len(phrase)] == phrase:
            return owner, len(phrase)
    return None, 1
