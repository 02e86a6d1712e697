"""The table of metrics, from which scores.json, the screen and the report are made.

A new metric is one function and one entry here: it then has a key in scores.json, a column on the
screen and on the page, and its description in their legends.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from vlfau_jax.metrics import au, intensity, maps, overlap, statements
from vlfau_jax.metrics.calibration import expected_calibration_error
from vlfau_jax.metrics.kinds import (
    Choice,
    CountMetric,
    ExplanationMetric,
    Floor,
    Frames,
    IntensityMetric,
    LanguageMetric,
    MapMetric,
    Metric,
    NumberOfFrames,
    Written,
)
from vlfau_jax.metrics.maps import MappedFaces
from vlfau_jax.metrics.statements import ExplainedFaces
from vlfau_jax.regions import COMPACT

NAN = float("nan")

AU_METRICS = (
    CountMetric(
        "f1",
        "F1",
        "Harmonic mean of precision and recall, 0 to 1; undefined without positives.",
        au.f1,
    ),
    CountMetric(
        "precision",
        "precision",
        "Share of the frames predicted on that are on, 0 to 1; undefined without positives or "
        "predictions.",
        au.precision,
    ),
    CountMetric(
        "recall",
        "recall",
        "Share of the frames that are on that are predicted on, 0 to 1; undefined without "
        "positives.",
        au.recall,
    ),
    CountMetric(
        "accuracy", "accuracy", "Share of the frames predicted right, 0 to 1.", au.accuracy
    ),
    CountMetric(
        "balanced_accuracy",
        "balanced",
        "Balanced accuracy: mean of the shares of positives and of negatives predicted right, 0 to "
        "1, 0.5 by chance; undefined unless both occur.",
        au.balanced_accuracy,
    ),
    CountMetric(
        "mcc",
        "MCC",
        "Matthews' correlation coefficient of labels and predictions, -1 to 1, 0 by chance; "
        "undefined where either is constant.",
        au.mcc,
    ),
    Metric(
        "auc",
        "AUC",
        "Area under the ROC curve, 0 to 1, 0.5 by chance: how often a positive frame has a higher "
        "score than a negative one; undefined unless both occur.",
        au.roc_auc,
    ),
    Metric(
        "average_precision",
        "AP",
        "Average precision: area under the steps of precision over recall, 0 to 1, by chance the "
        "share of positives; undefined without positives.",
        au.average_precision,
    ),
    Metric(
        "ece",
        "ECE",
        "Expected calibration error: mean difference of probability and share on over 15 bins, 0 "
        "to 1, 0 is best.",
        expected_calibration_error,
    ),
    IntensityMetric(
        "icc",
        "ICC",
        "ICC(3,1) of five times the probability and the coded intensity, -1 to 1; undefined where "
        "none is coded. The model is taught occurrence, not intensity.",
        intensity.icc,
    ),
    IntensityMetric(
        "pcc",
        "PCC",
        "Pearson's correlation of the probability and the coded intensity, -1 to 1; undefined "
        "where none is coded, or all alike.",
        intensity.pcc,
    ),
    IntensityMetric(
        "mae",
        "MAE",
        "Mean absolute difference of five times the probability and the coded intensity, 0 to 5; "
        "undefined where none is coded.",
        intensity.mae,
    ),
    NumberOfFrames(
        "positives", "positives", "Number of frames whose label is on.", lambda c: c.positives
    ),
    NumberOfFrames(
        "frames", "frames", "Number of frames whose label is known.", lambda c: c.frames
    ),
    NumberOfFrames(
        "true_positives",
        "TP",
        "Number of frames predicted on that are on.",
        lambda c: c.tp,
        group="cells",
    ),
    NumberOfFrames(
        "false_positives",
        "FP",
        "Number of frames predicted on that are off.",
        lambda c: c.fp,
        group="cells",
    ),
)

AU_CHOICES = (
    Choice(
        "validation_thresholds",
        "F1 val. thr.",
        "F1 with each unit's threshold tuned on the validation subjects, 0 to 1; a unit without "
        "positives there keeps its own. Undefined without validation subjects.",
    ),
    Choice(
        "test_thresholds",
        "F1 oracle",
        "F1 with each unit's threshold tuned on the tested subjects themselves, 0 to 1: what no "
        "threshold can exceed, and no result.",
    ),
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

LANGUAGE_METRICS = (
    *(
        LanguageMetric(
            f"bleu_{n}",
            f"BLEU-{n}",
            f"Precision of n-grams up to {n} words, with a brevity penalty, 0 to 1.",
            lambda written, n=n: written.bleu[n - 1],
        )
        for n in range(1, overlap.LONGEST + 1)
    ),
    LanguageMetric(
        "rouge_l",
        "ROUGE-L",
        "F of the longest common subsequence with the true sentence, 0 to 1.",
        lambda written: overlap.rouge_l(written.corpus),
    ),
    LanguageMetric(
        "cider_d",
        "CIDEr-D",
        "Similarity of n-grams with the true sentence, rare ones weighing more, 0 to 10.",
        lambda written: overlap.cider_d(written.corpus),
    ),
    LanguageMetric(
        "perplexity",
        "perplexity",
        "Of the true sentences under teacher forcing: exp of the mean negative log-probability of "
        "a token, <end> counted, at least 1, 1 is best.",
        lambda written: written.perplexity,
    ),
    LanguageMetric(
        "distinct",
        "distinct",
        "Number of different sentences generated.",
        lambda written: overlap.distinct(written.corpus),
    ),
    LanguageMetric(
        "distinct_true",
        "distinct true",
        "Number of different true sentences.",
        lambda written: len({true for _, references in written.corpus for true in references}),
    ),
    LanguageMetric(
        "sentences",
        "sentences",
        "Number of sentences compared: those whose true one is known.",
        lambda written: sum(written.corpus.values()),
    ),
)

# Of each unit's maps on the frames on which it is on; `compute` takes maps, share and hit, see
# `metrics.maps`.
MAP_METRICS = (
    MapMetric(
        "pointing_game",
        "pointing game",
        "Share of the frames with the unit on whose map is highest in the unit's region, 0 to 1, "
        "within a tolerance of 15 pixels of 224.",
        maps.pointing_game,
        floor=Metric(
            "pointing_game_even",
            "even",
            "Pointing game of attention that is even over the picture, 0 to 1.",
            maps.even(maps.pointing_game),
        ),
    ),
    MapMetric(
        "mass_in_region",
        "mass in region",
        "Mean share of the map that lies in the unit's region, 0 to 1, with the same tolerance.",
        maps.mass_in_region,
        floor=Metric(
            "mass_in_region_even",
            "even",
            "Mass in region of attention that is even over the picture, 0 to 1: the region's share "
            "of the picture.",
            maps.even(maps.mass_in_region),
        ),
    ),
)
# Whose maps they are -> what their keys begin with.
MAPS = {"branch": "", "words": "words_"}
OF_MAPS = {"branch": "Of DAIR's spatial maps.", "words": "Of the local sentences' attention."}

# What studies compare besides F1, all keys of scores.json's `explanations`.
COMPARED = (
    *EXPLANATION_METRICS,
    *(
        replace(
            MAP_METRICS[0],
            name=prefix + MAP_METRICS[0].name,
            heading=MAP_METRICS[0].heading + {"branch": "", "words": " of words"}[whose],
            description=f"{MAP_METRICS[0].description} {OF_MAPS[whose]}",
        )
        for whose, prefix in MAPS.items()
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
    intensities: np.ndarray | None = None,
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
        intensities: int8 [m, n], 0 to 5, -1 where unknown; None where none is coded.
    """
    arrays = {
        "probabilities": probabilities,
        "active": active,
        "labels": labels,
        "known": known,
        "intensities": np.full(known.shape, -1, np.int8) if intensities is None else intensities,
    }
    if {array.shape for array in arrays.values()} != {(len(labels), len(aus))}:
        found = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"{len(aus)} units, but {found}")
    scores = {}
    for column, unit in enumerate(aus):
        frames = Frames.of(*(values[:, column] for values in arrays.values()))
        scores[unit] = {metric.name: metric.of(frames) for metric in AU_METRICS}
        if unit in untaught:
            labels_alone = {name: scores[unit][name] for name in ("positives", "frames")}
            scores[unit] = dict.fromkeys(scores[unit], NAN) | labels_alone
    return scores


def macro(scores: Mapping[int, UnitScores], name: str) -> float:
    """The mean of a metric over the units that have it; NaN when none has."""
    defined = [unit[name] for unit in scores.values() if not np.isnan(unit[name])]
    return float(np.mean(defined)) if defined else NAN


def units_scored(scores: Mapping[int, UnitScores]) -> int:
    """How many units have an F1, over which the mean is taken."""
    return sum(not np.isnan(unit["f1"]) for unit in scores.values())


def mean_f1(scores: Mapping[int, UnitScores]) -> float:
    """Mean F1 over the units that have one; NaN when none has."""
    return macro(scores, "f1")


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


def write_scores(written: Written | None) -> dict[str, float]:
    """Compute `LANGUAGE_METRICS`, by name; NaN where a model writes no such sentences."""
    return {
        metric.name: NAN if written is None else metric.compute(written)
        for metric in LANGUAGE_METRICS
    }


def map_score_names() -> tuple[str, ...]:
    """The keys of `MAP_METRICS` in scores.json, floors last."""
    names = [prefix + metric.name for prefix in MAPS.values() for metric in MAP_METRICS]
    return (*names, *(metric.floor.name for metric in MAP_METRICS))


def score_maps(aus: Sequence[int], faces: MappedFaces) -> dict[int, UnitScores]:
    """Compute `MAP_METRICS` of every unit, by its number, then by `map_score_names`.

    Beside them "region_area", the region's mean share of the picture, and "map_frames", the frames
    that count. NaN where a unit has none, or the model no such map.
    """
    scores = {}
    for column, (unit, area) in enumerate(zip(aus, faces.area.tolist(), strict=True)):
        rows = faces.judged[:, column]
        share, hit = faces.share[rows, column], faces.hit[rows, column]
        found = dict.fromkeys(map_score_names(), NAN)
        for metric in MAP_METRICS:
            for whose, values in faces.maps.items():
                value = metric.compute(values[rows, column], share, hit)
                found[MAPS[whose] + metric.name] = value
            found[metric.floor.name] = metric.floor.compute(share, share, hit)
        scores[unit] = found | {"region_area": area, "map_frames": int(rows.sum())}
    return scores


def mean_map_scores(scores: Mapping[int, UnitScores]) -> dict[str, float]:
    """Means of `score_maps` over the units with a compact region, by `map_score_names`."""
    compact = {au: unit for au, unit in scores.items() if unit["region_area"] <= COMPACT}
    return {name: macro(compact, name) for name in map_score_names()}
