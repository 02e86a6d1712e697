"""The subjects on whom parameters were trained: a warm start must not have seen test subjects."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, cast

from pydantic import Field

from vlfau_jax import shipped
from vlfau_jax.data.read.dataset import Dataset
from vlfau_jax.data.text.descriptions import KINDS, BuiltIn, built_in
from vlfau_jax.data.text.vocabulary import Vocabulary
from vlfau_jax.errors import FileError, UserError
from vlfau_jax.facs import ACTION_UNITS, BENCHMARK_AUS
from vlfau_jax.files import file_digest
from vlfau_jax.records import Text, parse_record
from vlfau_jax.train.checkpoint_record import Name
from vlfau_jax.train.tensor_files import opened

_KEY = "train.warm_start"  # of the config, for messages


class Seen(NamedTuple):
    """A subject on whom parameters were trained.

    Attributes:
        dataset: the set's name; "bp4d+disfa" where an earlier version's metadata leaves open which.
        id: the subject's name in the set.
        rendered: digest of a rendered subject's label totals, which distinguishes subjects of one
            id; "" in a real set, where the id names one person.
    """

    dataset: str
    id: str
    rendered: str

    def is_one_of(self, others: Collection[Seen]) -> bool:
        """Whether this subject, of one set, is among `others`."""
        return any(
            self.dataset in other.dataset.split("+") and self[1:] == other[1:] for other in others
        )


class Learned(NamedTuple):
    """What the branches and the words of parameters stand for.

    Attributes:
        aus: the units' numbers, in order.
        words: the vocabulary, in order.
    """

    aus: tuple[int, ...]
    words: tuple[str, ...]


# As a file's metadata lists them: those of an earlier version are ids with their digests.
_MOST_PEOPLE = 1_000_000
_People = (
    Annotated[list[tuple[Name, Name, str]], Field(max_length=_MOST_PEOPLE)]
    | Annotated[dict[Name, str], Field(max_length=_MOST_PEOPLE)]
)
_Words = Annotated[list[Text], Field(max_length=2**16)]


def seen_people(dataset: Dataset, subjects: Sequence[str]) -> tuple[Seen, ...]:
    """Subjects of the sets that `dataset` combines, rendered or real as each set is."""
    found = []
    for person in subjects:
        one = dataset.set_of(person)
        digest = _digest(one.totals(person)) if one.synthetic else ""
        found.append(Seen(one.name, person, digest))
    return tuple(found)


def provenance(
    people: Collection[Seen], aus: Sequence[int], words: Sequence[str]
) -> dict[str, str]:
    """Metadata for a later run about parameters trained on `people`, as strings for safetensors.

    The people are those of the whole chain: of the run, and of its own warm start.
    """
    people = sorted(set(people))
    kinds = {"rendered faces" if one.rendered else "faces not marked as rendered" for one in people}
    return {
        "dataset": "+".join(sorted({name for one in people for name in one.dataset.split("+")})),
        "trained_on": " and ".join(sorted(kinds)) or "nobody",
        "aus": " ".join(map(str, aus)),
        "vocabulary_sha256": _words_digest(words),
        "words": json.dumps(list(words)),
        "people": json.dumps(people),
    }


def check_provenance(
    path: Path, kept_back: Collection[Seen], words: Sequence[str]
) -> tuple[dict[str, Any], Learned]:
    """Checks that a warm start was trained on none of `kept_back`, and reads what it learned.

    Args:
        path: the file.
        kept_back: people whom it must not have seen.
        words: the vocabulary of the network that is to start from it. A file of an earlier version
            does not list its own, which must then be this one or a built-in one.

    Returns:
        The record of it, which is the file's metadata with the number of `people` and, as `seen`,
        who they are; and its units and words.

    Raises:
        UserError: its units or words are not known, or it has seen people who are kept back.
    """
    metadata = _read_metadata(path)
    missing = sorted(provenance((), (), ()).keys() - metadata.keys() - {"words"})
    if missing:
        raise UserError(
            f"train.warm_start={path} does not say its {', '.join(missing)}, so it may have seen "
            "the people who are tested; make it with `python -m vlfau_jax warm_start`"
        )
    learned = Learned(_units_of(metadata, path), _words_of(metadata, path, words))
    seen = _people_of(metadata, path)
    known = [one.id for one in kept_back if one.is_one_of(seen)]
    if known:
        raise UserError(
            f"train.warm_start={path} was trained on {', '.join(known)}, who would be tested"
        )
    record = {key: value for key, value in metadata.items() if key != "words"}  # its digest stays
    return record | {"people": str(len(seen)), "seen": seen}, learned


def seen_before(record: Mapping[str, Any] | None) -> tuple[Seen, ...]:
    """The subjects on whom a run's initial parameters were trained, by its record of them.

    An earlier version recorded only their number: then the file must still be there.
    Raises UserError where it is not, or has changed.
    """
    if record is None or "people" not in record:  # random, or a backbone's weights
        return ()
    if "seen" in record:
        return tuple(Seen(*one) for one in record["seen"])
    path = shipped.find(record["file"])
    metadata = _read_metadata(path) if path.is_file() else {}
    if not metadata or file_digest(path) != record["sha256"]:
        raise UserError(
            f"{path}: the run began from this file and recorded only how many people it had seen; "
            f"put it back (sha256 {record['sha256'][:12]}), or train the run again"
        )
    return _people_of(metadata, path)


def _read_metadata(path: Path) -> dict[str, str]:
    with opened(path, key=_KEY) as file:
        return file.metadata() or {}


def _people_of(metadata: Mapping[str, str], path: Path) -> tuple[Seen, ...]:
    """All subjects named by a file's metadata."""
    try:
        people = parse_record(metadata.get("people", ""), _People, path)
    except FileError as error:
        raise UserError(
            f"{_KEY}={path}: its list of people is damaged ({error.reason}); make it again with "
            "`python -m vlfau_jax warm_start`"
        ) from error
    if isinstance(people, list):
        return tuple(Seen(*one) for one in people)
    # Of an earlier version: id -> digest, and for all of them together which sets, and whether
    # any face was rendered. Of a mixture both may hold, so both are forbidden.
    dataset = metadata.get("dataset", "")
    real = [Seen(dataset, one, "") for one in people]
    rendered = [Seen(dataset, one, digest) for one, digest in people.items()]
    if metadata.get("trained_on") != "rendered faces":
        return tuple(real)
    return tuple(rendered + real * ("+" in dataset))


def _units_of(metadata: Mapping[str, str], path: Path) -> tuple[int, ...]:
    """The units named by a file's metadata, in order."""
    numbers = {str(au): au for au in ACTION_UNITS}
    found = metadata["aus"].split(" ")
    if not set(found) <= numbers.keys() or len(set(found)) < len(found):
        raise UserError(
            f"{_KEY}={path}: its action units are damaged ({metadata['aus'][:60]!r}); make it "
            "again with `python -m vlfau_jax warm_start`"
        )
    return tuple(numbers[name] for name in found)


def _words_of(metadata: Mapping[str, str], path: Path, words: Sequence[str]) -> tuple[str, ...]:
    """The vocabulary named by a file's metadata, or found by its digest: `words` or built in."""
    digest = metadata["vocabulary_sha256"]
    if "words" not in metadata:
        if digest == _words_digest(words):
            return tuple(words)
        for kind in KINDS:
            for aus in (BENCHMARK_AUS, tuple(ACTION_UNITS)):
                found = Vocabulary.build(built_in(cast(BuiltIn, kind), aus)).words
                if digest == _words_digest(found):
                    return found
        raise UserError(
            f"{_KEY}={path} was trained for other words ({digest[:12]}, here "
            f"{_words_digest(words)[:12]}) and does not list them; make it again with "
            "`python -m vlfau_jax warm_start`, or start without it: train.warm_start="
        )
    try:
        found = tuple(parse_record(metadata["words"], _Words, path))
    except FileError as error:
        raise UserError(f"{_KEY}={path}: its list of words is damaged ({error.reason})") from error
    if _words_digest(found) != digest or len(set(found)) < len(found):
        raise UserError(f"{_KEY}={path}: its list of words is damaged (not those of its digest)")
    return found


def _words_digest(words: Sequence[str]) -> str:
    return hashlib.sha256(" ".join(words).encode()).hexdigest()


def _digest(totals: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(totals, sort_keys=True).encode()).hexdigest()[:12]
