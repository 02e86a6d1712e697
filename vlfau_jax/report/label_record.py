"""What labels.json holds: the labels of an experiment's data, counted by set, subject and unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vlfau_jax.data.read.protocol import protocol
from vlfau_jax.data.read.sampling import row_weights
from vlfau_jax.data.read.statistics import LabelCounts, count, phi, ratio, unlearnable
from vlfau_jax.evaluation.json_values import to_json
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.report.formats import unit_name
from vlfau_jax.train.experiment import ExperimentData

WARNING = (
    "SYNTHETIC FACES: rendered, not photographed. Nothing here says anything about BP4D or DISFA."
)
NO_SET = "no set"  # of subjects whom the fold neither trains on nor tests


@dataclass(frozen=True)
class Subject:
    """One subject's labels, and the set that they are in."""

    name: str
    part: str
    counts: LabelCounts


def subject_sets(data: ExperimentData) -> dict[str, tuple[str, ...]]:
    """The sets that there are and their subjects; training always is."""
    split = data.split
    sets = {"training": split.train, "validation": split.validation, "test": split.test}
    return {name: subjects for name, subjects in sets.items() if subjects or name == "training"}


def set_counts(data: ExperimentData) -> dict[str, LabelCounts]:
    """The counted labels of every set."""
    return {name: _count(data, subjects) for name, subjects in subject_sets(data).items()}


def subject_counts(data: ExperimentData) -> list[Subject]:
    """The counted labels of every subject in the data, set by set."""
    sets = subject_sets(data)
    placed = {subject for subjects in sets.values() for subject in subjects}
    rest = tuple(subject for subject in data.dataset.subjects if subject not in placed)
    return [
        Subject(subject, name, _count(data, [subject]))
        for name, subjects in (*sets.items(), (NO_SET, rest))
        for subject in subjects
    ]


def _count(data: ExperimentData, subjects: Sequence[str]) -> LabelCounts:
    labels, rows = data.dataset.labels, data.dataset.rows(subjects)
    return count(labels.au[rows], labels.known[rows])


def label_record(data: ExperimentData) -> dict[str, Any]:
    """The record; undefined numbers are None (null)."""
    dataset, settings = data.dataset, data.settings
    aus, labels, sets = dataset.aus, dataset.labels, subject_sets(data)
    used = dataset.rows([subject for subjects in sets.values() for subject in subjects])
    left_out = np.bincount(labels.subject[~dataset.kept], minlength=len(dataset.subjects))
    counts = set_counts(data)
    record = {
        "dataset": dataset.name,
        "synthetic": dataset.synthetic,
        "note": WARNING if dataset.synthetic else "",
        "warnings": _unlearnable(aus, counts) + _unlabelled(data),
        "aus": list(aus),
        "names": {str(au): ACTION_UNITS[au].name for au in aus},
        "sets": {
            name: {"subjects": list(subjects)} | _counted(aus, counts[name])
            for name, subjects in sets.items()
        },
        "subjects": {
            subject.name: {"set": subject.part} | _counted(aus, subject.counts)
            for subject in subject_counts(data)
        },
        "phi": [row.tolist() for row in phi(labels.au[used], labels.known[used])],
        "phi_frames": len(used),
        "drawn_rates": drawn_rates(data),
        "class_weights": {
            str(au): float(weight) for au, weight in zip(aus, data.class_weights, strict=True)
        },
        "excluded_frames": {
            subject: int(frames)
            for subject, frames in zip(dataset.subjects, left_out, strict=True)
            if frames
        },
        "frames_by_dataset": {
            one.name: int((labels.part[used] == part).sum())
            for part, one in enumerate(dataset.sets)
        },
        "seed": settings.seed,
        "options": asdict(settings.data),
        **protocol(dataset, settings.data),
    }
    return to_json(record)


def drawn_rates(data: ExperimentData) -> dict[str, float | None] | None:
    """Occurrence rates in the training stream where draws are weighted; else None."""
    dataset, rows = data.dataset, data.training_rows
    names = [one.name for one in dataset.sets]
    weights = row_weights(dataset.labels, rows, data.settings.data, names)
    if weights is None:
        return None
    rates = ratio(weights @ dataset.labels.au[rows], weights @ dataset.labels.known[rows])
    return {str(au): float(rate) for au, rate in zip(dataset.aus, rates, strict=True)}


def _unlearnable(aus: Sequence[int], sets: Mapping[str, LabelCounts]) -> list[str]:
    """Units that cannot be learned or scored, one line for each set and reason."""
    found = []
    for name, counts in sets.items():
        reasons = unlearnable(aus, counts.active, counts.known)
        for reason in sorted(set(reasons.values()), reverse=True):
            units = ", ".join(unit_name(au) for au, why in reasons.items() if why == reason)
            found.append(f"{reason} in {name}: {units}")
    return found


def _unlabelled(data: ExperimentData) -> list[str]:
    """Training faces that lack labels or a global sentence, one line for each reason."""
    found = []
    faces = len(data.training_rows)
    unlabelled = len(data.dataset.rows(data.split.train)) - faces
    if unlabelled:
        found.append(f"no known label of these units in {unlabelled:,} training faces: left out")
    if data.global_sentences < faces / 2:
        found.append(
            f"a sentence about the face in {data.global_sentences:,} of {faces:,} training faces "
            "alone: some unit is unknown in the others; choose data.aus that are known together"
        )
    return found


def _counted(aus: tuple[int, ...], counts: LabelCounts) -> dict[str, Any]:
    """Counts as JSON can hold them."""
    return {
        "frames": counts.frames,
        "mean_active": counts.mean_active,
        "active_units": {str(k): int(frames) for k, frames in enumerate(counts.together)},
        "per_au": {
            str(au): {
                "rate": float(rate),
                "active": int(active),
                "inactive": int(known - active),
                "unknown": int(counts.frames - known),
            }
            for au, rate, active, known in zip(
                aus, counts.rates, counts.active, counts.known, strict=True
            )
        },
    }
