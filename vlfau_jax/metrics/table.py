"""The metrics that scores.json holds, with what the screen and the page call them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One metric: its key in scores.json, a short heading, and a sentence on what it measures."""

    name: str
    heading: str
    description: str


AU_METRICS = (
    Metric("f1", "F1", "harmonic mean of precision and recall"),
    Metric("precision", "precision", "share of the frames scored active that are active"),
    Metric("recall", "recall", "share of the active frames that are scored active"),
    Metric("accuracy", "accuracy", "share of the frames scored as labelled"),
    Metric("auc", "AUC", "area under the ROC curve"),
    Metric("positives", "active", "frames labelled active"),
    Metric("frames", "frames", "frames with a known label"),
)

EXPLANATION_METRICS = (
    Metric(
        "polarity_accuracy",
        "true local sentences",
        "share of the local sentences that state the right unit in the right state",
    ),
    Metric(
        "polarity_constant",
        "floor of true local sentences",
        "the same for sentences that always state the more frequent state",
    ),
    Metric(
        "agreement",
        "agreement",
        "share of the local sentences that state what the score beside them says",
    ),
    Metric(
        "global_f1",
        "F1 of global sentences",
        "F1 of the units that the sentences about the whole face name",
    ),
    Metric(
        "noun_accuracy", "right noun", "share of the global sentences that begin with the right noun"
    ),
)
