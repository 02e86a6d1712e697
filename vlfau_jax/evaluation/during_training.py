"""The scores of a model while it is trained."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np

from vlfau_jax.data.read.pipeline import eval_iterator
from vlfau_jax.inference.prediction import check_finite
from vlfau_jax.inference.trained import THRESHOLD
from vlfau_jax.metrics.au import is_active
from vlfau_jax.metrics.table import mean_f1, score
from vlfau_jax.model.vlfau import VLFAU, normalise
from vlfau_jax.sharding.arrays import fetch, local_rows, shard_batch
from vlfau_jax.train.experiment import Experiment


def score_during_training(experiment: Experiment, params: Any) -> dict[str, float]:
    """Mean F1 of the experiment's scored subjects (an `Evaluator` of train/loop.py).

    `train.keep_best` and --checkpoint=best choose by it: choose nothing by people whom you test.
    """
    size = experiment.settings.train.batch_size
    batches = eval_iterator(
        experiment.dataset,
        experiment.dataset.rows(getattr(experiment.split, experiment.scored)),
        experiment.captions,
        experiment.settings.data,
        batch_size=size,
        own=local_rows(experiment.mesh, size),
    )
    rows = []
    for batch in batches:
        split = shard_batch(batch, experiment.mesh, size)
        probabilities = _probabilities(experiment.model, params, split["image"])
        *arrays, valid = fetch((probabilities, split["au"], split["au_known"], split["valid"]))
        rows.append([values[valid] for values in arrays])
    batches.close()
    probabilities, labels, known = (np.concatenate(values) for values in zip(*rows, strict=True))
    check_finite({"au_probabilities": probabilities})
    aus = experiment.captions.aus
    active = is_active(probabilities, (THRESHOLD,) * len(aus))
    scores = score(aus, probabilities, active, labels, known, experiment.untaught)
    return {"mean_f1": mean_f1(scores)}


@partial(jax.jit, static_argnames="model")
def _probabilities(model: VLFAU, params: Any, image: jax.Array) -> jax.Array:
    logits = model.apply({"params": params}, normalise(image), method=VLFAU.score)
    return jax.nn.sigmoid(logits)
