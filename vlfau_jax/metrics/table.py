"""The table of metrics, from which scores.json, the screen and the report are made.

A new metric is one function and one entry here: it then has a key in scores.json, a column on the
screen and on the page, and its description in their legends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

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
        None,
    ),
    Metric(
        "precision",
        "precision",
        "Share of the frames predicted on that are on, 0 to 1; undefined without positives or "
        "predictions.",
        None,
    ),
    Metric(
        "recall",
        "recall",
        "Share of the frames that are on that are predicted on, 0 to 1; undefined without "
        "positives.",
        None,
    ),
    Metric("accuracy", "accuracy", "Share of the frames predicted right, 0 to 1.", None),
    Metric(
        "auc",
        "AUC",
        "Area under the ROC curve, 0 to 1, 0.5 by chance: how often a positive frame has a higher "
        "score than a negative one; undefined unless both occur.",
        None,
    ),
    Metric("positives", "positives", "Number of frames whose label is on.", None),
    Metric("frames", "frames", "Number of frames whose label is known.", None),
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
        None,
        sentences="local",
        floor=Metric(
            "polarity_constant",
            "constant",
            "Polarity accuracy of sentences that always state each unit's more frequent state in "
            "training, 0 to 1.",
            None,
        ),
    ),
    ExplanationMetric(
        "agreement",
        "agreement with the score",
        "Share of the local sentences that state the state that the score beside them gives, 0 to "
        "1, over all (face, unit), whether that is right or wrong.",
        None,
        sentences="local",
    ),
    ExplanationMetric(
        "global_f1",
        "F1 of named units",
        "F1 of the units that the global sentences name, 0 to 1, pooled over the faces and units "
        "with a known label.",
        None,
        sentences="global",
    ),
    ExplanationMetric(
        "noun_accuracy",
        "noun accuracy",
        "Share of the global sentences that begin with the right noun, 0 to 1.",
        None,
        sentences="global",
    ),
)
