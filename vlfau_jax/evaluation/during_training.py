"""The scores of a model while it is trained."""

from __future__ import annotations

from typing import Any

from vlfau_jax.evaluation.answers import score_rows
from vlfau_jax.metrics.table import mean_f1
from vlfau_jax.train.experiment import Experiment


def score_during_training(experiment: Experiment, params: Any) -> dict[str, float]:
    """Mean F1 of the experiment's scored subjects (an `Evaluator` of train/loop.py).

    `train.keep_best` and --checkpoint=best choose by it: choose nothing by people whom you test.
    """
    scored = score_rows(
        experiment.model,
        params,
        experiment.dataset,
        experiment.dataset.rows(getattr(experiment.split, experiment.scored)),
        experiment.captions,
        experiment.settings.data,
        experiment.untaught,
        experiment.settings.train.batch_size,
        experiment.mesh,
    )
    return {"mean_f1": mean_f1(scored.per_au)}
