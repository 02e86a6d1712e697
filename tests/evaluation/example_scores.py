"""Scores of two units and one set of a mixture, as a small example."""

import numpy as np

from vlfau_jax.evaluation.groups import score_groups
from vlfau_jax.evaluation.json_values import to_json
from vlfau_jax.evaluation.scores import DatasetScores, Scores
from vlfau_jax.evaluation.scoring import cooccurrence
from vlfau_jax.metrics.scored import ScoredFrames
from vlfau_jax.metrics.statements import ExplainedFaces
from vlfau_jax.metrics.table import (
    AU_FLOORS,
    constant_scores,
    explain,
    mean_f1,
    mean_map_scores,
    write_scores,
)

AUS = (1, 12)
WORDS = dict.fromkeys(write_scores(None), 0.125)


def example() -> Scores:
    """Three frames of AU 1 and 12; no frame shows AU 12, which has no F1 then."""
    probabilities = np.array([[0.9, 0.1], [0.2, 0.7], [0.8, 0.3]], np.float32)
    labels, known = np.array([[1, 0], [1, 0], [0, 0]]), np.ones((3, 2), bool)
    active = probabilities > 0.5
    frequent = np.array([True, False])
    scored = ScoredFrames(AUS, probabilities, active, labels, known)
    per_au = scored.per_au
    floors = {
        floor.name: constant_scores(AUS, floor.states(frequent), labels, known)
        for floor in AU_FLOORS
    }
    means = {name: mean_f1(units) for name, units in floors.items()}
    faces = ExplainedFaces(
        AUS,
        None,
        ["a man raises inner brow."] * 3,
        labels,
        known,
        active,
        ["man"] * 3,
        frequent,
    )
    return Scores(
        mean_f1=mean_f1(per_au),
        per_dataset={"bp4d": DatasetScores(mean_f1(per_au), means, AUS, 1, per_au, 3)},
        aus=AUS,
        per_au=per_au,
        floors=means,
        floors_per_au={
            name: {au: unit["f1"] for au, unit in units.items()} for name, units in floors.items()
        },
        explanations=explain(faces) | mean_map_scores({}),
        explanations_note="polarity_accuracy and agreement are null",
        captions=("global",),
        beams=2,
        dataset="bp4d+disfa",
        fold=1,
        test_subjects=("F001",),
        train_subjects=("F002", "SN001"),
        validation_subjects=(),
        frames=3,
        thresholds=(0.5, 0.5),
        folds={"bp4d": "published", "disfa": "published"},
        layout={"bp4d": "raw", "disfa": "raw"},
        camera={"bp4d": None, "disfa": "left"},
        frame_offset={"bp4d": 0, "disfa": 0},
        label_rule="active where the occurrence code is 1",
        label_threshold=None,
        excluded_stretches="none",
        crop_rule={"name": "none", "digest": "0" * 16},
        data={"fold": 1, "aus": []},
        average="pooled",
        checkpoint="step 7",
        step=7,
        image_size=32,
        warm_start=None,
        ema_decay=0.0,
        beginning="random parameters",
        synthetic=True,
        note="SYNTHETIC",
        config_digest="ab" * 32,
        untaught={},
        units_scored=1,
        averages=to_json(scored.averages()),
        choices={
            "validation_thresholds": None,
            "test_thresholds": {
                "mean_f1": 1.0,
                "per_au": {"1": 0.8, "12": None},
                "thresholds": {"1": 0.1, "12": 0.5},
            },
            "best_test_step": {"mean_f1": 0.75, "step": 5},
        },
        intervals=to_json(scored.intervals(np.array([0, 1, 2]))),
        calibration=to_json(scored.reliability()),
        language=to_json({"tokenizer": "words", "local": write_scores(None), "global": WORDS}),
        groups=to_json(
            score_groups(
                {"sex": {"F001": "female", "M001": "male"}},
                scored,
                np.array([0, 0, 1]),
                ("F001", "M001"),
            )
        ),
        cooccurrence=to_json(cooccurrence(scored)),
    )
