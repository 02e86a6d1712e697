"""The subjects on whom parameters were trained: a warm start must not have seen test subjects."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from vlfau_jax import shipped
from vlfau_jax.data.read.dataset import Dataset
from vlfau_jax.errors import FileError, UserError
from vlfau_jax.files import file_digest
from vlfau_jax.records import parse_record
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


# As a file's metadata lists them: those of an earlier version are ids with their digests.
_MOST_PEOPLE = 1_000_000
_People = (
    Annotated[list[tuple[Name, Name, str]], Field(max_length=_MOST_PEOPLE)]
    | Annotated[dict[Name, str], Field(max_length=_MOST_PEOPLE)]
)


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
        "vocabulary_sha256": hashlib.sha256(" ".join(words).encode()).hexdigest(),
        "people": json.dumps(people),
    }


def check_provenance(
    path: Path, kept_back: Collection[Seen], aus: Sequence[int], words: Sequence[str]
) -> dict[str, Any]:
    """Checks that a warm start fits and was trained on none of `kept_back`; returns its record.

    The record is the file's metadata, with the number of `people` and, as `seen`, who they are.
    Raises UserError for other units, another vocabulary, or people who are kept back.
    """
    metadata = _read_metadata(path)
    here = provenance((), aus, words)
    missing = sorted(here.keys() - metadata.keys())
    if missing:
        raise UserError(
            f"train.warm_start={path} does not say its {', '.join(missing)}, so it may have seen "
            "the people who are tested; make it with `python -m vlfau_jax warm_start`"
        )
    for key, what in (("aus", "action units"), ("vocabulary_sha256", "words")):
        if metadata[key] != here[key]:
            raise UserError(
                f"train.warm_start={path} was trained for other {what} ({metadata[key]}, here "
                f"{here[key]}); start without it: train.warm_start= (for the demo, "
                "configs/demo.py:scratch)"
            )
    seen = _people_of(metadata, path)
    known = [one.id for one in kept_back if one.is_one_of(seen)]
    if known:
        raise UserError(
            f"train.warm_start={path} was trained on {', '.join(known)}, who would be tested"
        )
    return metadata | {"people": str(len(seen)), "seen": seen}


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


def _digest(totals: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(totals, sort_keys=True).encode()).hexdigest()[:12]
