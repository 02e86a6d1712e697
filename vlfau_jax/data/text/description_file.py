"""The descriptions that an experiment asks for: built-in ones, or a JSON file of the user's own.

    {"units": {"12": {"phrases": ["lächelt"],
                      "active": ["die Mundwinkel sind nach oben gezogen."],
                      "inactive": ["die Mundwinkel liegen auf der Höhe der Mundmitte."]}},
     "face": {"nouns": {"man": "ein Mann", "woman": "eine Frau", "person": "eine Person"},
              "active": "{noun} {phrases}.", "inactive": "{noun} zeigt keine Bewegung.",
              "separator": ", ", "last_separator": " und "}}

What a text says must be known from its words alone, or no sentence could be checked.
"""

from __future__ import annotations

import codecs
import json
import os
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

from vlfau_jax.data.text.captions import CaptionTables
from vlfau_jax.data.text.descriptions import KINDS, NOUNS, Descriptions, built_in
from vlfau_jax.data.text.reading import Reader
from vlfau_jax.data.text.splitting import words
from vlfau_jax.data.text.vocabulary import Vocabulary
from vlfau_jax.errors import FileError, UserError
from vlfau_jax.files import read_bytes
from vlfau_jax.records import parse_record

LIMIT = 1 << 20  # bytes of such a file
MOST_LOCAL_WORDS = 128  # of a sentence about a unit, punctuation included
MOST_GLOBAL_WORDS = 250  # of the sentence about the face; model folders hold 255


def descriptions_of(
    option: str, aus: Sequence[int], coded: Collection[int] | None = None
) -> Descriptions:
    """The texts that `data.descriptions` asks for.

    Args:
        option: "states", "graded", "paraphrased" or the path of a file.
        aus: the units that are learned.
        coded: all units that the data sets code; None where that is not known.

    Raises:
        UserError: the file is missing or no such record, texts in it cannot be told apart or
            spelled, one of `aus` is missing, or it has one that is not `coded`.
    """
    if option in KINDS:
        return built_in(option, aus)
    path = Path(option)
    if not os.path.exists(option):
        raise UserError(
            f"data.descriptions={option!r} is no file; give one of {', '.join(KINDS)}, or the path "
            "of a JSON file of your own texts"
        )
    content = read_bytes(path, LIMIT).removeprefix(codecs.BOM_UTF8)  # some editors write one
    found = parse_record(content, Descriptions, path)
    json.loads(content, object_pairs_hook=lambda pairs: _each_once(pairs, path))
    _check_units(found, aus, coded, path)
    _check_told_apart(found, path)
    _check_spelled(found, aus, path)
    return found


def stored_descriptions(value: Any, aus: Sequence[int], source: object) -> Descriptions:
    """The texts that a checkpoint or a model folder holds, `Descriptions.to_json`'s.

    Args:
        value: as JSON holds it; None in those of earlier versions, which had "states" alone.
        aus: the model's units.
        source: the file or folder, for messages.

    Raises:
        UserError: it is no such record, or lacks one of `aus`.
    """
    if value is None:
        return built_in("states", aus)
    found = parse_record(json.dumps(value), Descriptions, source)
    _check_units(found, aus, None, source)
    return found


def _check_units(
    found: Descriptions, aus: Sequence[int], coded: Collection[int] | None, path: object
) -> None:
    for au in aus:
        if au not in found.aus:
            raise FileError(path, f"units.{au} is missing: AU{au} is learned")
    for au in found.aus:
        if coded is not None and au not in coded:
            raise FileError(
                path,
                f"units.{au}: the data code no AU{au}, but only AU "
                f"{', '.join(map(str, sorted(coded)))}; take it out",
            )


def _each_once(pairs: Sequence[tuple[str, Any]], path: Path) -> dict[str, Any]:
    """An object of the file, whose keys should be different: of two JSON would keep the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        key = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise FileError(path, f"has the key {key!r:.40} twice in one object; give each once")
    return found


def _check_told_apart(found: Descriptions, path: Path) -> None:
    """Refuses texts that say the same of two states or units, or that a phrase hides in."""
    places = {}
    for place, text, fact in found.facts():
        other, known = places.setdefault(words(text), (place, fact))
        if known != fact:
            raise FileError(path, f"{place} has the words of {other}; a text should state one fact")
    phrases = [(au, k) for au in found.aus for k in range(len(found.of(au).phrases))]
    owners = {}
    for au, k in phrases:
        other = owners.setdefault(words(found.of(au).phrases[k]), au)
        if other != au:
            raise FileError(
                path,
                f"units.{au}.phrases.{k} has the words of a phrase of AU{other}; a phrase should "
                "name one unit",
            )
    reader = Reader(found)
    for noun in NOUNS:
        if reader.named(found.whole((), (), noun)):
            raise FileError(path, "face.inactive holds the phrase of a unit")
        for one in phrases:
            _check_named(found, reader, noun, (one,), path)
    for pair in permutations(phrases, 2):
        _check_named(found, reader, NOUNS[0], pair, path)


def _check_named(
    found: Descriptions, reader: Reader, noun: str, phrases: Sequence[tuple[int, int]], path: Path
) -> None:
    aus, choices = zip(*phrases, strict=True)
    sentence = found.whole(aus, [True] * len(aus), noun, choices)
    if reader.named(sentence) != set(aus):
        raise FileError(
            path,
            f"units: {sentence!r:.120} does not name AU {', '.join(map(str, aus))} alone; choose "
            "phrases that do not run into each other",
        )


def _check_spelled(found: Descriptions, aus: Sequence[int], path: Path) -> None:
    """Refuses texts that are too long, or that their own vocabulary would write otherwise."""
    vocabulary = Vocabulary.build(found)
    tables = CaptionTables(aus, vocabulary, found)
    if (count := tables.max_global_tokens - 2) > MOST_GLOBAL_WORDS:
        raise FileError(
            path,
            f"units: the sentence about a face with all units has {count} words and marks; give "
            f"shorter phrases, of at most {MOST_GLOBAL_WORDS} in all",
        )
    for place, text, _ in found.facts():
        tokens = vocabulary.encode(text)
        if (count := len(tokens) - 2) > MOST_LOCAL_WORDS:
            raise FileError(
                path, f"{place} has {count} words and marks; give at most {MOST_LOCAL_WORDS}"
            )
        _check_kept(found, vocabulary, place, text, path)
    for text in found.texts():
        _check_kept(found, vocabulary, "a sentence of face and units", text, path)


def _check_kept(
    found: Descriptions, vocabulary: Vocabulary, place: str, text: str, path: Path
) -> None:
    spoken = vocabulary.decode(vocabulary.encode(text))
    if spoken != text:
        remedy = '; "spelling": "exact" keeps texts' if found.spelling == "lower" else ""
        raise FileError(path, f"{place}, {text!r:.80}, would be spoken as {spoken!r:.80}{remedy}")
