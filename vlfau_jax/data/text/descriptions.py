"""Describes a face in words: a sentence for each action unit's state, one about the whole face.

A local description states one action unit's state; a global description names the face and the
verb phrases of its active units, in the order of the data set's units. The texts are a record: one
that is built in (`built_in`), or a file of the user's own (`description_file`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import AfterValidator, Field, StringConstraints

from vlfau_jax.data.text.paraphrases import PARAPHRASES
from vlfau_jax.data.text.splitting import SPACE, words
from vlfau_jax.facs import ACTION_UNITS, BENCHMARK_AUS, ActionUnit
from vlfau_jax.records import Record

BuiltIn = Literal["states", "graded", "paraphrased"]
NOUNS = ("man", "woman", "person")
GRADES = 5  # FACS's intensities A (trace) to E (maximum), coded 1 to 5
NOUN, PHRASES = "{noun}", "{phrases}"

_JOINERS = "\u200c\u200d"  # letters of Persian and of Indian scripts are joined or parted by them
_GRADE_WORDS = ("barely", "slightly", "markedly", "severely", "maximally")


def noun_of(subject: str, sex: str = "") -> str:
    """The noun for a subject; without a `sex` it follows from ids like BP4D's (F001, M001)."""
    match = re.fullmatch(r"([FM])\d{3}", subject)
    return {"F": "woman", "M": "man", "female": "woman", "male": "man"}.get(
        sex or (match[1] if match else ""), "person"
    )


def _printable(text: str) -> str:
    text = unicodedata.normalize("NFC", text)
    for character in text:
        if not (character.isprintable() or character in _JOINERS) or character == SPACE:
            raise ValueError(f"should not hold the character U+{ord(character):04X}")
    return text


def _one_line(text: str) -> str:
    text = _printable(" ".join(text.split()))
    if not words(text):
        raise ValueError("should hold a word")
    if re.search(r"<(pad|start|end|unk)>", text):
        raise ValueError("should not hold <pad>, <start>, <end> or <unk>")
    return text


def _with_phrases(text: str) -> str:
    if text.count(PHRASES) != 1 or text.count(NOUN) > 1:
        raise ValueError(f"should hold {PHRASES} once, and {NOUN} at most once")
    return _one_line(text)


def _with_noun(text: str) -> str:
    if PHRASES in text or text.count(NOUN) > 1:
        raise ValueError(f"should hold {NOUN} at most once, and no {PHRASES}")
    return _one_line(text)


def _unit_number(key: str) -> str:
    if not re.fullmatch("[1-9][0-9]?", key) or int(key) not in ACTION_UNITS:
        raise ValueError(f"should be an action unit among {', '.join(map(str, ACTION_UNITS))}")
    return key


_Sentence = Annotated[str, Field(max_length=600), AfterValidator(_one_line)]
_Sentences = Annotated[tuple[_Sentence, ...], Field(min_length=1, max_length=16)]
_Phrase = Annotated[str, Field(max_length=100), AfterValidator(_one_line)]
_Separator = Annotated[str, StringConstraints(max_length=20), AfterValidator(_printable)]


class UnitTexts(Record):
    """What is said about one action unit; where there are several texts, one is drawn.

    Attributes:
        phrases: what an active unit contributes to the sentence about the face.
        active: sentences that state the unit is on.
        inactive: sentences that state it is off.
        grades: sentences that state its intensity as well, from 1 (trace) to 5 (maximum); None
            where it is not spoken of.
    """

    phrases: Annotated[tuple[_Phrase, ...], Field(min_length=1, max_length=4)]
    active: _Sentences
    inactive: _Sentences
    grades: (
        Annotated[tuple[_Sentences, ...], Field(min_length=GRADES, max_length=GRADES)] | None
    ) = None


class Nouns(Record):
    """The words for a person, by what is known of them."""

    man: _Phrase
    woman: _Phrase
    person: _Phrase


class FaceTexts(Record):
    """How the sentence about the face is made.

    Attributes:
        nouns: the words for a person.
        active: the sentence with {phrases}, those of the active units, and {noun} or not.
        inactive: the sentence where no unit is active, with {noun} or not.
        separator: between two phrases, spaces included.
        last_separator: before the last of several phrases.
    """

    nouns: Nouns
    active: Annotated[str, Field(max_length=200), AfterValidator(_with_phrases)]
    inactive: Annotated[str, Field(max_length=200), AfterValidator(_with_noun)]
    separator: _Separator
    last_separator: _Separator


class Stated(NamedTuple):
    """What a local description states: a unit's state, and its intensity 1 to 5, or 0 for none."""

    au: int
    active: bool
    grade: int = 0


class Descriptions(Record):
    """All texts that a model learns and speaks; its vocabulary is made of their words.

    Attributes:
        format: tells such a file from others.
        spelling: "exact", as they are written; "lower", as our own English is: small letters, a
            space between words and none before punctuation.
        units: the texts of each action unit, by its number.
        face: those about the whole face.
    """

    format: Literal["vlfau_jax.descriptions"] = "vlfau_jax.descriptions"
    spelling: Literal["exact", "lower"] = "exact"
    units: Annotated[
        dict[Annotated[str, AfterValidator(_unit_number)], UnitTexts], Field(min_length=1)
    ]
    face: FaceTexts

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values, as its file, checkpoints and model folders hold it."""
        return self.model_dump(mode="json", exclude_none=True)

    @property
    def aus(self) -> tuple[int, ...]:
        """The units that have texts, ascending."""
        return tuple(sorted(map(int, self.units)))

    @property
    def graded(self) -> bool:
        """Whether any unit has sentences about its intensity."""
        return any(unit.grades is not None for unit in self.units.values())

    @property
    def drawn(self) -> bool:
        """Whether any state has several texts."""
        return any(
            len(unit.phrases) > 1 or any(len(texts) > 1 for texts in _states(unit).values())
            for unit in self.units.values()
        )

    def only(self, aus: Collection[int]) -> Descriptions:
        """The texts of some of the units."""
        return self.model_copy(update={"units": {str(au): self.of(au) for au in aus}})

    def of(self, au: int) -> UnitTexts:
        """The texts of a unit."""
        return self.units[str(au)]

    def sentences(self, au: int, active: bool, grade: int = 0) -> tuple[str, ...]:
        """The sentences that state a unit's state, and its `grade` 1 to 5 where it has such."""
        states = _states(self.of(au))
        return states.get((active, grade), states[active, 0])

    def local(self, au: int, active: bool, grade: int = 0) -> str:
        """The first of `sentences`."""
        return self.sentences(au, active, grade)[0]

    def whole(
        self,
        aus: Sequence[int],
        active: Sequence[bool],
        noun: str,
        choices: Sequence[int] | None = None,
    ) -> str:
        """The sentence about the face, such as "a man raises outer brow, raises cheek and dimples".

        Args:
            aus: units, in the order in which they are named.
            active: whether each is on.
            noun: one of `NOUNS`.
            choices: which of each unit's phrases to say; None for the first ones.
        """
        choices = choices if choices is not None else [0] * len(aus)
        phrases = [
            self.of(au).phrases[choice]
            for au, on, choice in zip(aus, active, choices, strict=True)
            if on
        ]
        text = self.face.active if phrases else self.face.inactive
        *firsts, last = phrases or [""]
        listed = self.face.separator.join(firsts)
        listed = f"{listed}{self.face.last_separator}{last}" if firsts else last
        # In this order: a noun cannot hold {phrases}, but a phrase might hold {noun}.
        return text.replace(NOUN, getattr(self.face.nouns, noun)).replace(PHRASES, listed)

    def wordings(self, aus: Sequence[int], active: Sequence[bool], noun: str) -> tuple[str, ...]:
        """`whole` with the first phrase of each unit, with the second ones, and so on.

        Every phrase of an active unit occurs; of a unit with fewer than others they begin again.
        """
        counts = [len(self.of(au).phrases) for au in aus]
        most = max((count for count, on in zip(counts, active, strict=True) if on), default=1)
        return tuple(
            self.whole(aus, active, noun, [k % count for count in counts]) for k in range(most)
        )

    def facts(self) -> Iterator[tuple[str, str, Stated]]:
        """Yields (its place in the file, text, what it states) of all local descriptions."""
        for au in self.aus:
            for (active, grade), texts in _states(self.of(au)).items():
                key = f"grades.{grade - 1}" if grade else ("active" if active else "inactive")
                for k, text in enumerate(texts):
                    yield f"units.{au}.{key}.{k}", text, Stated(au, active, grade)

    def texts(self) -> Iterator[str]:
        """Yields texts that contain every word of every description, wherever it may stand."""
        yield from (text for _, text, _ in self.facts())
        for au in self.aus:
            for k in range(len(self.of(au).phrases)):
                for count in (1, 2, 3):  # alone, first, last and between two others
                    yield self.whole([au] * count, [True] * count, "person", [k] * count)
        for noun in NOUNS:
            yield self.whole(self.aus, [True] * len(self.aus), noun)
            yield self.whole((), (), noun)


def _states(unit: UnitTexts) -> dict[tuple[bool, int], tuple[str, ...]]:
    """The texts of a unit by (active, grade), grade 0 for those that state none."""
    grades = enumerate(unit.grades or (), 1)
    return {(False, 0): unit.inactive, (True, 0): unit.active} | {
        (True, grade): texts for grade, texts in grades
    }


_FACE = FaceTexts(
    nouns=Nouns(man="man", woman="woman", person="person"),
    active=f"a {NOUN} {PHRASES}.",
    inactive=f"a {NOUN} shows no action unit.",
    separator=", ",
    last_separator=" and ",
)


def built_in(kind: BuiltIn = "states", aus: Collection[int] = BENCHMARK_AUS) -> Descriptions:
    """The project's own texts for `aus`, in English.

    "states": two for each unit, those of facs.py. "graded": besides, five for the intensities of an
    active unit, with a word for FACS's trace, slight, marked, severe and maximum. "paraphrased":
    three for each state, and two verb phrases.

    They are those of BP4D's and DISFA's fifteen units, or else of all units, whichever `aus` are
    asked for: so models of the same kind and of any data set have the same numbers of words.
    """
    return _built_in(kind, BENCHMARK_AUS if set(aus) <= {*BENCHMARK_AUS} else tuple(ACTION_UNITS))


@cache
def _built_in(kind: BuiltIn, aus: tuple[int, ...]) -> Descriptions:
    make = {"states": _two_states, "graded": _graded, "paraphrased": _paraphrased}[kind]
    units = {str(au): make(ACTION_UNITS[au]) for au in aus}
    return Descriptions(spelling="lower", units=units, face=_FACE)


def _two_states(unit: ActionUnit) -> UnitTexts:
    return UnitTexts(phrases=(unit.verb_phrase,), active=(unit.active,), inactive=(unit.inactive,))


def _graded(unit: ActionUnit) -> UnitTexts:
    """The first verb of each description of facs.py takes the word: "are slightly raised"."""
    grades = tuple(
        (re.sub(r" (is|are) ", rf" \1 {word} ", unit.active, count=1),) for word in _GRADE_WORDS
    )
    return _two_states(unit).model_copy(update={"grades": grades})


def _paraphrased(unit: ActionUnit) -> UnitTexts:
    more = PARAPHRASES[unit.number]
    return UnitTexts(
        phrases=(unit.verb_phrase, more.verb_phrase),
        active=(unit.active, *more.active),
        inactive=(unit.inactive, *more.inactive),
    )


KINDS: tuple[str, ...] = get_args(BuiltIn)
STATES = built_in("states")


def local_description(au: int, active: bool) -> str:
    """The sentence of "states" that states whether action unit `au` is on."""
    return built_in("states", (au,)).local(au, active)


def global_description(aus: Sequence[int], active: Sequence[bool], noun: str) -> str:
    """The sentence of "states" about the face."""
    return built_in("states", aus).whole(aus, active, noun)
