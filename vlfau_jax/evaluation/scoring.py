"""Compute `Scores` from the answers of a test fold."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from vlfau_jax.data.read.dataset import Dataset
from vlfau_jax.data.read.protocol import protocol
from vlfau_jax.evaluation.answers import Answers
from vlfau_jax.evaluation.scores import DatasetScores, Scores
from vlfau_jax.inference.trained import Trained
from vlfau_jax.metrics.au import more_frequent_state
from vlfau_jax.metrics.statements import ExplainedFaces
from vlfau_jax.metrics.table import (
    AU_FLOORS,
    UnitScores,
    constant_scores,
    explain,
    mean_f1,
    score,
    units_scored,
)

SYNTHETIC_WARNING = (
    "SYNTHETIC FACES: rendered, not photographed. These scores say nothing about BP4D or DISFA."
)


def score_answers(
    trained: Trained, dataset: Dataset, subjects: Sequence[str], answers: Answers
) -> Scores:
    """All scores of the test `subjects`, and what decides what they mean."""
    aus, labels, known = trained.aus, answers.labels, answers.known
    train_rows = dataset.rows(trained.train_subjects)
    frequent = more_frequent_state(*dataset.label_counts(train_rows))
    untaught = trained.untaught
    per_au = score(aus, answers.probabilities, answers.active, labels, known, untaught)
    floors = _floors(aus, frequent, labels, known, untaught)
    faces = ExplainedFaces(
        aus=aus,
        local=[p.sentences for p in answers.predictions] if "local" in trained.captions else None,
        global_=[p.sentence for p in answers.predictions] if "global" in trained.captions else None,
        labels=labels,
        known=known,
        active=answers.active,
        nouns=[dataset.nouns[subject] for subject in answers.keys[:, 0]],
        constant=frequent,
        taught=~np.isin(aus, list(untaught)),
        margin=answers.probabilities - np.array(trained.thresholds),
        descriptions=trained.descriptions,
    )
    synthetic = dataset.synthetic or trained.synthetic
    return Scores(
        mean_f1=mean_f1(per_au),
        per_dataset=_per_dataset(dataset, answers, train_rows, untaught),
        aus=aus,
        per_au=per_au,
        floors={name: mean_f1(units) for name, units in floors.items()},
        floors_per_au={
            name: {au: unit["f1"] for au, unit in units.items()} for name, units in floors.items()
        },
        explanations=explain(faces),
        explanations_note=_explain_nulls(trained.captions),
        captions=trained.captions,
        beams=trained.beams,
        dataset=dataset.name,
        fold=trained.data.fold,
        test_subjects=tuple(subjects),
        train_subjects=trained.train_subjects,
        validation_subjects=trained.validation_subjects,
        frames=len(labels),
        thresholds=trained.thresholds,
        **protocol(dataset, trained.data),
        data=_training_options(trained),
        average="counts pooled over all test frames, then the mean of F1 over the units",
        checkpoint=trained.checkpoint,
        step=trained.step,
        image_size=trained.data.image_size,
        warm_start=trained.warm_start,
        ema_decay=trained.ema_decay,
        beginning=trained.initialisation,
        synthetic=synthetic,
        note=SYNTHETIC_WARNING if synthetic else "",
        config_digest=trained.config_digest,
        untaught=untaught,
        units_scored=units_scored(per_au),
    )


def _floors(
    aus: Sequence[int],
    frequent: np.ndarray,
    labels: np.ndarray,
    known: np.ndarray,
    untaught: Collection[int],
) -> dict[str, Mapping[int, UnitScores]]:
    """Scores of each of `AU_FLOORS`; `frequent` bool [n], the more frequent states in training."""
    return {
        floor.name: constant_scores(aus, floor.states(frequent), labels, known, untaught)
        for floor in AU_FLOORS
    }


def _per_dataset(
    dataset: Dataset, answers: Answers, train_rows: np.ndarray, untaught: Collection[int]
) -> dict[str, DatasetScores]:
    """Scores of each set of a mixture on its own, with means over its benchmark's units; else {}.

    The floor "best_constant" gives each unit its state in most of the set's own training rows.
    """
    if len(dataset.sets) == 1:
        return {}
    found = {}
    for part, one in enumerate(dataset.sets):
        rows = dataset.parts[answers.keys[:, 0]] == part
        units = dataset.coded[part]
        aus = [au for au, coded in zip(dataset.aus, units, strict=True) if coded]
        arrays = (answers.probabilities, answers.active, answers.labels, answers.known)
        probabilities, active, labels, known = (values[rows][:, units] for values in arrays)
        own_rows = train_rows[dataset.labels.part[train_rows] == part]
        frequent = more_frequent_state(*dataset.label_counts(own_rows))[units]
        per_au = score(aus, probabilities, active, labels, known, untaught)
        floors = _floors(aus, frequent, labels, known, untaught)
        benchmark = {au: per_au[au] for au in aus if au in one.benchmark}
        found[one.name] = DatasetScores(
            mean_f1=mean_f1(benchmark),
            floors={
                name: mean_f1({au: units[au] for au in benchmark}) for name, units in floors.items()
            },
            aus=tuple(benchmark),
            units_scored=units_scored(benchmark),
            per_au=per_au,
            frames=int(rows.sum()),
        )
    return found


def _training_options(trained: Trained) -> dict[str, Any]:
    """The options of `data` that decide which faces training used, and how they were changed."""
    places = {"name", "data_dir", "variant", "threads", "workers"}
    options = dataclasses.asdict(trained.data)
    return {key: value for key, value in options.items() if key not in places}


def _explain_nulls(captions: Sequence[str]) -> str:
    """Why scores of explanations are null where the model writes no such sentence; else ""."""
    return "; ".join(
        f"all scores of {kind} sentences are null: model.{kind}_captions=False"
        for kind in ("local", "global")
        if kind not in captions
    )
