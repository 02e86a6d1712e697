"""Confidence intervals by bootstrap over subjects.

Frames of one person are alike, so a bootstrap over frames would give intervals that are far too
narrow. Here whole persons are drawn with replacement, as many as there are; their counts add, and a
metric of counts is computed of every draw at once.
"""

from __future__ import annotations

import numpy as np

from vlfau_jax.metrics.au import Counts

RESAMPLES, SEED, LEVEL = 2000, 0, 0.95
# An interval of fewer draws than this share, the others having nothing to divide by, is none.
LEAST_DEFINED = 0.5
_CHUNK = 1 << 22  # numbers of draws times subjects in memory at once


def resample(by_subject: Counts, resamples: int = RESAMPLES, seed: int = SEED) -> Counts:
    """The counts of `resamples` draws of s subjects, float64 [resamples, n], from counts [s, n].

    Draw r takes the same subjects whatever is counted: two models on the same people are compared
    draw by draw.
    """
    subjects = len(by_subject.tp)
    parts = (by_subject.tp, by_subject.fp, by_subject.fn, by_subject.tn)
    columns = np.concatenate(parts, 1).astype(np.float64)
    rng = np.random.default_rng(seed)
    sums = np.empty((resamples, columns.shape[1]))
    step = max(1, _CHUNK // max(subjects, 1))
    for start in range(0, resamples, step):
        draws = len(sums[start : start + step])
        drawn = rng.integers(0, subjects, (draws, subjects))
        drawn += np.arange(draws)[:, None] * subjects
        times = np.bincount(drawn.ravel(), minlength=draws * subjects).reshape(draws, subjects)
        sums[start : start + step] = times.astype(np.float64) @ columns
    return Counts(*np.split(sums, 4, axis=1))


def interval(values: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """The percentile interval of draws [resamples, ...] along the first axis: [2, ...].

    Draws that are NaN are left out; NaN where fewer than `LEAST_DEFINED` are left.
    """
    flat = values.reshape(len(values), -1)
    bounds = np.full((2, flat.shape[1]), np.nan)
    enough = np.mean(~np.isnan(flat), 0) >= LEAST_DEFINED
    quantiles = (1 - level) / 2, (1 + level) / 2
    if enough.any():
        bounds[:, enough] = np.nanquantile(flat[:, enough], quantiles, axis=0)
    return bounds.reshape(2, *values.shape[1:])
