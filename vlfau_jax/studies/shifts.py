"""Numbers that are added to a unit's logit: which one would give the highest F1, and what it does.

A model that was trained on other faces may rank a unit's frames well and yet decide badly, because
all its scores lie too high or too low there. AUC tells the first, a shift mends the second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from vlfau_jax.metrics.au import best_threshold
from vlfau_jax.metrics.scored import ScoredFrames


def logit(probabilities: np.ndarray | float) -> np.ndarray:
    """log(p / (1 - p)), float64 of any shape; -inf of 0 and inf of 1."""
    p = np.asarray(probabilities, np.float64)
    with np.errstate(divide="ignore"):
        return np.log(p) - np.log1p(-p)


def best_shifts(scored: ScoredFrames, thresholds: Sequence[float]) -> dict[int, float]:
    """For each unit what, added to its logit, gives the highest F1 on these very frames.

    It moves the best threshold (`metrics.au.best_threshold`: half-way between two scores, of
    several the one nearest to 0.5) to where the unit's own is. 0 for a unit without positives or
    without negatives, of which nothing can be chosen, and for one that was not taught.

    Args:
        scored: m frames of n units.
        thresholds: the probability of each unit, [n], above which it counts as present.
    """
    found = dict.fromkeys(scored.aus, 0.0)
    for column, (au, own) in enumerate(zip(scored.aus, thresholds, strict=True)):
        known = scored.known[:, column]
        positive = scored.labels[known, column] > 0
        if au in scored.untaught or positive.all() or not positive.any():
            continue
        # As float64, between any two float32 scores there is a number.
        scores = scored.probabilities[known, column].astype(np.float64)
        best = best_threshold(scores, positive)
        if not np.isnan(best):
            found[au] = float(logit(np.float32(own)) - logit(best))
    return found


def shifted(
    scored: ScoredFrames, shifts: Mapping[int, float], thresholds: Sequence[float]
) -> ScoredFrames:
    """The same frames, decided after each unit's shift is added to its logits.

    Args:
        scored: m frames of n units.
        shifts: by unit; 0 for those that it lacks.
        thresholds: see `best_shifts`.
    """
    added = np.array([shifts.get(au, 0.0) for au in scored.aus])
    least = logit(np.asarray(thresholds, np.float32))
    active = logit(scored.probabilities) + added[None] > least[None]
    return replace(scored, active=active)
