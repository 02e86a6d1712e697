"""The table of metrics, from which scores.json, the screen and the report are made.

A new metric is one function and one entry here: it then has a key in scores.json, a column on the
screen and on the page, and its description in their legends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vlfau_jax.metrics import au, statements
from vlfau_jax.metrics.statements import ExplainedFaces

NAN = float("nan")


@dataclass(frozen=True)
class Metric:
    """One number that says how good a model is.

    Attributes:
        name: its key in scores.json.
        heading: short, above its column on the screen and the page.
        description: one sentence with the range or unit, for legends and tooltips.
        compute: gives the number; NaN where it is undefined. Of `AU_METRICS`, a function of one
            unit's frames with known labels: scores float [m], predicted and positive bool [m]. Of
            `EXPLANATION_METRICS`, a function of `ExplainedFaces`.
    """

    name: str
    heading: str
    description: str
    compute: Callable[..., float]


@dataclass(frozen=True)
class ExplanationMetric(Metric):
    """A metric of generated sentences.

    Attributes:
        sentences: which it needs, "local" or "global"; a model without these has no such number.
        floor: the same metric of sentences that need no picture; it needs no sentences.
    """

    sentences: str
    floor: Metric | None = None


@dataclass(frozen=True)
class Floor:
    """What an answer scores that does not depend on the picture.

    Attributes:
        name: its key in scores.json.
        heading: short, above its column on the screen and the page.
        description: one sentence for legends and tooltips.
        states: from each unit's more frequent state in training, bool [n], to its constant answer,
            bool [n].
    """

    name: str
    heading: str
    description: str
    states: Callable[[np.ndarray], np.ndarray]


AU_METRICS = (
    Metric(
        "f1",
        "F1",
        "Harmonic mean of precision and recall, 0 to 1; undefined without positives.",
        au.f1,
    ),
    Metric(
        "precision",
        "precision",
        "Share of the frames predicted on that are on, 0 to 1; undefined without positives or "
        "predictions.",
        au.precision,
    ),
    Metric(
        "recall",
        "recall",
        "Share of the frames that are on that are predicted on, 0 to 1; undefined without "
        "positives.",
        au.recall,
    ),
    Metric("accuracy", "accuracy", "Share of the frames predicted right, 0 to 1.", au.accuracy),
    Metric(
        "auc",
        "AUC",
        "Area under the ROC curve, 0 to 1, 0.5 by chance: how often a positive frame has a higher "
        "score than a negative one; undefined unless both occur.",
        au.roc_auc,
    ),
    Metric("positives", "positives", "Number of frames whose label is on.", au.positives),
    Metric("frames", "frames", "Number of frames whose label is known.", au.frames),
)

AU_FLOORS = (
    Floor(
        "all_on",
        "all on",
        "F1 of the answer that every unit is always on, 0 to 1.",
        lambda frequent: np.ones_like(frequent),
    ),
    # The best accuracy that a constant can promise; its F1 is 0 for each unit that it leaves off.
    Floor(
        "best_constant",
        "constant",
        "F1 of always giving each unit's more frequent state in training, 0 to 1; 0 where that is "
        "off.",
        lambda frequent: frequent,
    ),
)

EXPLANATION_METRICS = (
    ExplanationMetric(
        "polarity_accuracy",
        "polarity accuracy",
        "Share of the local sentences that state the right unit in the right state, 0 to 1, over "
        "all (face, unit) with a known label.",
        statements.polarity_accuracy,
        sentences="local",
        floor=Metric(
            "polarity_constant",
            "constant",
            "Polarity accuracy of sentences that always state each unit's more frequent state in "
            "training, 0 to 1.",
            statements.polarity_constant,
        ),
    ),
    ExplanationMetric(
        "agreement",
        "agreement with the score",
        "Share of the local sentences that state the state that the score beside them gives, 0 to "
        "1, over all (face, unit), whether that is right or wrong.",
        statements.agreement,
        sentences="local",
    ),
    ExplanationMetric(
        "global_f1",
        "F1 of named units",
        "F1 of the units that the global sentences name, 0 to 1, pooled over the faces and units "
        "with a known label.",
        statements.global_f1,
        sentences="global",
    ),
    ExplanationMetric(
        "noun_accuracy",
        "noun accuracy",
        "Share of the global sentences that begin with the right noun, 0 to 1.",
        statements.noun_accuracy,
        sentences="global",
    ),
    # Faithfulness: what the sentences say of the scores beside them.
    ExplanationMetric(
        "agreement_near",
        "agreement near threshold",
        "Agreement with the score, 0 to 1, where the probability is within "
        f"{statements.NEAR} of its threshold; undefined where none is.",
        statements.agreement_near,
        sentences="local",
    ),
    ExplanationMetric(
        "contradiction",
        "contradiction",
        "Share of the local sentences that state the other state than the score beside them, 0 to "
        "1, over all (face, unit); lower is better.",
        statements.contradiction,
        sentences="local",
    ),
    ExplanationMetric(
        "unsaid",
        "unsaid",
        "Share of the local sentences that state neither state of their unit, 0 to 1, over all "
        "(face, unit); lower is better.",
        statements.unsaid,
        sentences="local",
    ),
    ExplanationMetric(
        "named_untrue",
        "named with label off",
        "Share of the units that the global sentences name whose label is off, 0 to 1, over known "
        "labels; lower is better.",
        statements.named_untrue,
        sentences="global",
    ),
    ExplanationMetric(
        "named_inactive",
        "named with score off",
        "Share of the units that the global sentences name whose score is not active, 0 to 1; "
        "lower is better.",
        statements.named_inactive,
        sentences="global",
    ),
    ExplanationMetric(
        "active_unnamed",
        "score on but not named",
        "Share of the units whose score is active that the global sentence does not name, 0 to 1; "
        "lower is better.",
        statements.active_unnamed,
        sentences="global",
    ),
)

UnitScores = Mapping[str, float]


def score(
    aus: Sequence[int],
    probabilities: np.ndarray,
    active: np.ndarray,
    labels: np.ndarray,
    known: np.ndarray,
    untaught: Collection[int] = (),
) -> dict[int, UnitScores]:
    """Compute `AU_METRICS` of every unit, by its number, then by the metric's name.

    A frame whose label is unknown counts nowhere.

    Args:
        aus: the units' numbers, n of them.
        probabilities: float [m, n] in 0-1.
        active: bool [m, n], whether each probability exceeds its threshold.
        labels: [m, n] in {0, 1}.
        known: bool [m, n].
        untaught: units that have no scores, only counts of their labels (int).
    """
    shapes = {
        "probabilities": probabilities.shape,
        "active": active.shape,
        "labels": labels.shape,
        "known": known.shape,
    }
    if set(shapes.values()) != {(len(labels), len(aus))}:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"{len(aus)} units, but {found}")
    scores = {}
    for column, unit in enumerate(aus):
        rows = known[:, column]
        arrays = (probabilities[rows, column], active[rows, column], labels[rows, column] > 0)
        scores[unit] = {metric.name: metric.compute(*arrays) for metric in AU_METRICS}
        if unit in untaught:
            counts = {name: n for name, n in scores[unit].items() if isinstance(n, int)}
            scores[unit] = dict.fromkeys(scores[unit], NAN) | counts
    return scores


def units_scored(scores: Mapping[int, UnitScores]) -> int:
    """How many units have an F1, over which the mean is taken."""
    return sum(not np.isnan(unit["f1"]) for unit in scores.values())


def mean_f1(scores: Mapping[int, UnitScores]) -> float:
    """Mean F1 over the units that have one; NaN when none has."""
    defined = [unit["f1"] for unit in scores.values() if not np.isnan(unit["f1"])]
    return float(np.mean(defined)) if defined else NAN


def constant_scores(
    aus: Sequence[int],
    states: Sequence[bool] | np.ndarray,
    labels: np.ndarray,
    known: np.ndarray,
    untaught: Collection[int] = (),
) -> dict[int, UnitScores]:
    """`score` of an answer that does not depend on the picture: unit i is always `states[i]`."""
    active = np.broadcast_to(np.asarray(states, bool), labels.shape)
    return score(aus, active.astype(np.float32), active, labels, known, untaught)


def explain(faces: ExplainedFaces) -> dict[str, float]:
    """Compute `EXPLANATION_METRICS` and their floors, by name; NaN without the sentences needed."""
    scores = {}
    for metric in EXPLANATION_METRICS:
        scores[metric.name] = metric.compute(faces) if metric.sentences in faces.kinds else NAN
        if metric.floor is not None:
            scores[metric.floor.name] = metric.floor.compute(faces)
    return scores
