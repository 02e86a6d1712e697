"""Compute `Scores` from the answers of a test fold."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from vlfau_jax.data.read.dataset import Dataset
from vlfau_jax.data.read.protocol import protocol
from vlfau_jax.data.read.regions import FaceRegions
from vlfau_jax.data.read.statistics import phi
from vlfau_jax.data.text.descriptions import GRADES
from vlfau_jax.evaluation.answers import Answers
from vlfau_jax.evaluation.groups import Groups, score_groups
from vlfau_jax.evaluation.json_values import to_json
from vlfau_jax.evaluation.predictions import true_sentences
from vlfau_jax.evaluation.scores import DatasetScores, Scores
from vlfau_jax.inference.trained import Trained
from vlfau_jax.metrics.au import more_frequent_state
from vlfau_jax.metrics.kinds import Written
from vlfau_jax.metrics.maps import MappedFaces, cells
from vlfau_jax.metrics.overlap import TOKENIZER
from vlfau_jax.metrics.scored import ScoredFrames
from vlfau_jax.metrics.statements import ExplainedFaces
from vlfau_jax.metrics.table import (
    AU_FLOORS,
    UnitScores,
    constant_scores,
    explain,
    mean_f1,
    mean_map_scores,
    score,
    score_maps,
    units_scored,
    write_scores,
)

SYNTHETIC_WARNING = (
    "SYNTHETIC FACES: rendered, not photographed. These scores say nothing about BP4D or DISFA."
)


def score_answers(
    trained: Trained,
    dataset: Dataset,
    subjects: Sequence[str],
    answers: Answers,
    *,
    validation: ScoredFrames | None = None,
    groups: Groups | None = None,
    records: Iterable[Mapping[str, Any]] = (),
    counterfactual: Mapping[str, Any] | None = None,
) -> Scores:
    """All scores of the test subjects, and what decides what they mean.

    Args:
        trained: the model.
        dataset: the prepared sets.
        subjects: who was tested.
        answers: the model's answers.
        validation: its scores of the validation subjects, for their thresholds; None for none.
        groups: see `groups_of`; None for none.
        records: the lines of metrics.jsonl, for the step that was best on the test subjects.
        counterfactual: what `evaluation.counterfactual.measure` gave; None for none.
    """
    scored = answers.scored
    aus, labels, known = trained.aus, answers.labels, answers.known
    train_rows = dataset.rows(trained.train_subjects)
    frequent = more_frequent_state(*dataset.label_counts(train_rows))
    untaught = trained.untaught
    per_au = scored.per_au
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
    of_maps = _score_maps(dataset, subjects, answers, faces)
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
        explanations=explain(faces) | mean_map_scores(of_maps),
        maps_per_au=of_maps,
        counterfactual=counterfactual,
        explanations_note="; ".join(
            filter(None, (_explain_nulls(trained.captions), _explain_no_maps(dataset, answers)))
        ),
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
        averages=to_json(scored.averages()),
        choices=to_json(_choices(trained, scored, validation, records)),
        intervals=to_json(scored.intervals(answers.keys[:, 0])),
        calibration=to_json(scored.reliability()),
        language=to_json(_language(trained, dataset, answers)),
        groups=to_json(score_groups(groups or {}, scored, answers.keys[:, 0], dataset.subjects)),
        cooccurrence=to_json(cooccurrence(scored)),
    )


def cooccurrence(scored: ScoredFrames) -> dict[str, list[list[float]]]:
    """Phi of every two units, n by n, of the "labels" and of the "predictions".

    Both over the frames in which the two labels are known, so that they can be compared; NaN where
    a unit never changes in these, or was not taught.
    """
    known = scored.known & ~np.isin(scored.aus, list(scored.untaught))[None]
    return {
        "labels": phi(scored.labels, scored.known).tolist(),
        "predictions": phi(scored.active, known).tolist(),
    }


def _choices(
    trained: Trained,
    scored: ScoredFrames,
    validation: ScoredFrames | None,
    records: Iterable[Mapping[str, Any]],
) -> dict[str, Any]:
    """F1 of other choices than threshold and checkpoint of the protocol, as scores.json holds it.

    `AU_CHOICES` by name, and `best_test_step`: the step with the highest mean F1 that training
    found on the test subjects; None for those that there are none of.
    """

    def tuned(on: ScoredFrames | None) -> dict[str, Any] | None:
        if on is None:
            return None
        thresholds = on.best_thresholds(trained.thresholds)
        per_au = scored.decided_by(thresholds).per_au
        f1s = {au: unit["f1"] for au, unit in per_au.items()}
        return {"mean_f1": mean_f1(per_au), "per_au": f1s, "thresholds": thresholds}

    tested = [r for r in records if r.get("test_mean_f1") is not None]
    best = max(tested, key=lambda record: record["test_mean_f1"], default=None)
    return {
        "validation_thresholds": tuned(validation),
        "test_thresholds": tuned(scored),
        "best_test_step": best and {"mean_f1": best["test_mean_f1"], "step": best["step"]},
    }


def _language(trained: Trained, dataset: Dataset, answers: Answers) -> dict[str, Any]:
    """`LANGUAGE_METRICS` of each kind of sentences, beside the name of the tokenizer.

    Where the model's texts have several for a state, each of them is a true one.
    """
    judged = answers.known & answers.taught[None]
    written: dict[str, Written | None] = {"local": None, "global": None}
    for kind in trained.captions:
        corpus: Counter[tuple[str, tuple[str, ...]]] = Counter()
        if kind == "local":
            states = product(range(len(trained.aus)), (False, True), range(GRADES + 1))
            true = {
                (column, on, level): answers.descriptions.sentences(trained.aus[column], on, level)
                for column, on, level in states
            }
            on, levels = answers.labels > 0, np.maximum(answers.intensities, 0)
            for row, column in np.argwhere(judged).tolist():
                sentence = answers.predictions[row].sentences[column]
                state = column, bool(on[row, column]), int(levels[row, column])
                corpus[sentence, true[state]] += 1
        else:
            for row, prediction in enumerate(answers.predictions):
                if texts := true_sentences(dataset, answers, row):
                    corpus[prediction.sentence, texts] += 1
        written[kind] = Written(corpus, *answers.likelihood.get(kind, ()))
    return {"tokenizer": TOKENIZER} | {kind: write_scores(one) for kind, one in written.items()}


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


def _score_maps(
    dataset: Dataset, subjects: Sequence[str], answers: Answers, faces: ExplainedFaces
) -> dict[int, UnitScores]:
    """`MAP_METRICS` of each unit, where the answers have maps: where exact regions are known."""
    if not answers.maps:
        return {}
    grid = next(iter(answers.maps.values())).shape[-2:]
    regions = FaceRegions(dataset)
    found = [cells(regions.of(row), grid) for row in dataset.rows(subjects).tolist()]
    share, hit = (np.stack(values) for values in zip(*found, strict=True))
    judged = faces.judged & faces.positive & (share > 0).any((-1, -2))
    return score_maps(dataset.aus, MappedFaces(answers.maps, share, hit, judged))


def _explain_no_maps(dataset: Dataset, answers: Answers) -> str:
    """Why scores of maps are null where no unit has any; else ""."""
    if answers.maps:
        return ""
    if FaceRegions(dataset).exact:
        return (
            "scores of maps are null: the model has neither spatial attention nor local sentences"
        )
    return (
        "scores of maps are null: only of rendered faces, in sets that this version prepared, are "
        "the units' regions known exactly"
    )


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
