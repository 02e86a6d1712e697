"""Whom parameters have seen: a warm start must not bring test people into training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from vlfau_jax.data.pipeline import Dataset
from vlfau_jax.errors import UserError


def provenance(
    dataset: Dataset, subjects: Sequence[str], aus: Sequence[int], words: Sequence[str]
) -> dict[str, str]:
    """What a later run must know of parameters trained on these people, as safetensors keeps it."""
    return {
        "dataset": dataset.name,
        "trained_on": "rendered faces" if dataset.synthetic else "faces not marked as rendered",
        "aus": " ".join(map(str, aus)),
        "vocabulary_sha256": hashlib.sha256(" ".join(words).encode()).hexdigest(),
        "people": json.dumps(_people(dataset, subjects)),
    }


def check_provenance(
    path: Path, dataset: Dataset, test: Sequence[str], aus: Sequence[int], words: Sequence[str]
) -> dict[str, str]:
    """The note of a warm start, once it is certain that it fits and has seen nobody of `test`.

    Raises UserError for other units, another vocabulary, or people who would be tested.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            note = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"train.warm_start={path} cannot be read as safetensors: {error}"
        ) from error
    here = provenance(dataset, test, aus, words)
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
                f"{here[key]})"
            )
    seen, tested = json.loads(note["people"]), json.loads(here["people"])
    # An id names one person within a real set; rendered sets of another seed reuse the ids.
    same = note["dataset"] == here["dataset"] and note["trained_on"] == here["trained_on"]
    known = [p for p in tested if p in seen and (not dataset.synthetic or seen[p] == tested[p])]
    if same and known:
        raise UserError(
            f"train.warm_start={path} was trained on {', '.join(known)}, who would be tested"
        )
    return {key: note[key] for key in note if key != "people"} | {"people": str(len(seen))}


def _people(dataset: Dataset, subjects: Sequence[str]) -> dict[str, str]:
    """Id -> digest of the person's label totals, which tells rendered people of one id apart."""
    totals = {subject: json.dumps(dataset.counts[subject], sort_keys=True) for subject in subjects}
    return {p: hashlib.sha256(text.encode()).hexdigest()[:12] for p, text in totals.items()}


def file_digest(path: Path) -> str:
    """sha256 hex of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
