"""Whom parameters have seen: a warm start must not bring test people into training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from vlfau_jax.data.read.dataset import Dataset
from vlfau_jax.errors import UserError
from vlfau_jax.files import file_digest


class Seen(NamedTuple):
    """Somebody whom parameters were trained on.

    Attributes:
        dataset: the set's name; "bp4d+disfa" where an earlier version's note leaves open which.
        id: what the set calls them.
        rendered: digest of a rendered person's label totals, which tells people of one id apart;
            "" in a real set, where the id names one person.
    """

    dataset: str
    id: str
    rendered: str

    def is_one_of(self, others: Collection[Seen]) -> bool:
        """Whether this person, of one set, is among `others`."""
        return any(
            self.dataset in other.dataset.split("+") and self[1:] == other[1:] for other in others
        )


def seen_people(dataset: Dataset, subjects: Sequence[str]) -> tuple[Seen, ...]:
    """Subjects of the sets that `dataset` joins, each rendered or real as their own set says."""
    found = []
    for person in subjects:
        one = dataset.set_of(person)
        digest = _digest(one.totals(person)) if one.synthetic else ""
        found.append(Seen(one.name, person, digest))
    return tuple(found)


def provenance(
    people: Collection[Seen], aus: Sequence[int], words: Sequence[str]
) -> dict[str, str]:
    """What a later run must know of parameters trained on `people`, as safetensors keeps it.

    The people are all of a chain: those of the run, and those whom its own warm start had seen.
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
    """A run's record of its warm start, once it is certain that it fits and saw none `kept_back`.

    Returns the file's note, with the number of `people` and, as `seen`, who they are.
    Raises UserError for other units, another vocabulary, or people who are kept back.
    """
    note = _read_note(path)
    here = provenance((), aus, words)
    missing = sorted(here.keys() - note.keys())
    if missing:
        raise UserError(
            f"train.warm_start={path} does not say its {', '.join(missing)}, so it may have seen "
            "the people who are tested; make it with `python -m vlfau_jax warm_start`"
        )
    for key, what in (("aus", "action units"), ("vocabulary_sha256", "words")):
        if note[key] != here[key]:
            raise UserError(
                f"train.warm_start={path} was trained for other {what} ({note[key]}, here "
                f"{here[key]}); begin without it: train.warm_start= (the demo's way is "
                "configs/demo.py:scratch)"
            )
    seen = _people_of(note, path)
    known = [one.id for one in kept_back if one.is_one_of(seen)]
    if known:
        raise UserError(
            f"train.warm_start={path} was trained on {', '.join(known)}, who would be tested"
        )
    return note | {"people": str(len(seen)), "seen": seen}


def seen_before(record: Mapping[str, Any] | None) -> tuple[Seen, ...]:
    """Whom the parameters had seen that a run began from, by its record of them.

    An earlier version recorded their number alone: then the file must still be there.
    Raises UserError where it is not, or has changed.
    """
    if record is None or "people" not in record:  # random, or a backbone's weights
        return ()
    if "seen" in record:
        return tuple(Seen(*one) for one in record["seen"])
    path = Path(record["file"])
    if not path.is_file() or file_digest(path) != record["sha256"]:
        raise UserError(
            f"{path}: the run began from this file and recorded only how many people it had seen; "
            f"put it back (sha256 {record['sha256'][:12]}), or train the run again"
        )
    return _people_of(_read_note(path), path)


def _read_note(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"train.warm_start={path} cannot be read as safetensors: {error}"
        ) from error


def _people_of(note: Mapping[str, str], path: Path) -> tuple[Seen, ...]:
    """Everybody whom a note names."""
    try:
        people = json.loads(note["people"])
        if isinstance(people, list):
            return tuple(Seen(*map(str, one)) for one in people)
        # Of an earlier version: id -> digest, and for all of them together which sets, and whether
        # any face was rendered. Of a mixture both may hold, so both are forbidden.
        mixture = "+" in note["dataset"]
        real = [Seen(note["dataset"], one, "") for one in people]
        rendered = [Seen(note["dataset"], one, digest) for one, digest in people.items()]
        if note["trained_on"] != "rendered faces":
            return tuple(real)
        return tuple(rendered + real * mixture)
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"train.warm_start={path}: its list of people is damaged; make it again with "
            "`python -m vlfau_jax warm_start`"
        ) from error


def _digest(totals: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(totals, sort_keys=True).encode()).hexdigest()[:12]
