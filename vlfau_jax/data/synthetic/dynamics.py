"""Draws the levels of action units over a sequence, at a data set's rates and correlations.

A Gaussian copula: one latent process per AU, correlated across AUs and smooth in time. An AU is
active while its latent is above the quantile of its occurrence rate; the further above, the higher
its level.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import exp, pi, sqrt
from statistics import NormalDist

import numpy as np

from vlfau_jax.data.synthetic.renderer import MAX_LEVEL, RENDERED_AUS
from vlfau_jax.facs import BP4D_AUS

LATENT_SIGMA = 6.5  # frames; gives apexes of about 5 to 20 frames
# Muscles relax more slowly than they contract: weights of the levels from 1 frame ahead to 3 ago.
LAG_WEIGHTS = (0.15, 0.30, 0.27, 0.18, 0.10)
WEAK_LEVEL = 0.6
RATE_FACTOR = 2.0  # a small tree at a data set's own rates has almost no positives
EDGE = 0.10  # latent units over which an AU below its threshold fades out


@dataclass(frozen=True)
class Behaviour:
    """How often the AUs are active, and how they are correlated.

    rates: share of active frames by AU. phi: correlation of two AUs' occurrences. on_level: FACS
    level from which an AU counts as active. coded: the AUs that the set's coders annotate; of two
    AUs that exclude each other, an uncoded one is suppressed.
    """

    rates: Mapping[int, float]
    phi: Mapping[tuple[int, int], float]
    on_level: float
    coded: tuple[int, ...]


# Rates and phi of the benchmark AUs were counted in BP4D and DISFA; those of other AUs are chosen.
BP4D_BEHAVIOUR = Behaviour(
    rates={
        1: 0.2114, 2: 0.1710, 4: 0.2026, 6: 0.4609, 7: 0.5490, 10: 0.5943, 12: 0.5620,
        14: 0.4656, 15: 0.1694, 17: 0.3433, 23: 0.1654, 24: 0.1514, 9: 0.04, 25: 0.16, 26: 0.06,
    },
    phi={
        (6, 12): 0.54, (6, 7): 0.54, (10, 12): 0.53, (6, 10): 0.50, (1, 2): 0.46, (17, 24): 0.42,
        (7, 10): 0.39, (7, 12): 0.35, (15, 17): 0.29, (17, 23): 0.27, (23, 24): 0.26,
        (4, 12): -0.26, (4, 9): 0.20, (12, 25): 0.20, (25, 26): 0.30,
    },
    on_level=1.0,
    coded=BP4D_AUS,
)  # fmt: skip
DISFA_BEHAVIOUR = Behaviour(
    rates={
        1: 0.0497, 2: 0.0431, 4: 0.1524, 6: 0.0789, 9: 0.0418, 12: 0.1288, 25: 0.2771,
        26: 0.0882, 15: 0.05, 17: 0.08, 7: 0.08, 10: 0.05, 14: 0.06, 23: 0.03, 24: 0.03,
    },
    phi={
        (1, 2): 0.63, (6, 12): 0.50, (12, 25): 0.46, (6, 25): 0.36, (4, 9): 0.34, (25, 26): 0.31,
        (4, 12): -0.13, (6, 7): 0.30, (15, 17): 0.30,
    },
    on_level=1.5,
    coded=(1, 2, 4, 6, 9, 12, 15, 17, 25, 26),
)  # fmt: skip
# Parted lips cannot be pressed or tightened, nor the chin be raised while the jaw is dropped.
CONTRADICTIONS = (((25, 26), (23, 24)), ((26,), (17,)))


def raised(behaviour: Behaviour, factor: float) -> Behaviour:
    """The behaviour with every rate multiplied by `factor`, but to at most one half."""
    rates = {au: max(rate, min(0.5, rate * factor)) for au, rate in behaviour.rates.items()}
    return replace(behaviour, rates=rates)


def _both_above(a: float, b: float, rho: float) -> float:
    """P(x > a, y > b) of a bivariate normal, by dP/d rho = density at (a, b) (Plackett 1954)."""
    steps = 64
    total = 0.0
    for k in range(steps + 1):
        r = rho * k / steps
        density = exp(-(a * a - 2 * r * a * b + b * b) / (2 * (1 - r * r))) / (
            2 * pi * sqrt(1 - r * r)
        )
        total += density * (1 if k in (0, steps) else 4 if k % 2 else 2)
    normal = NormalDist()
    return normal.cdf(-a) * normal.cdf(-b) + rho / steps / 3 * total


def _latent_correlation(p: float, q: float, phi: float) -> float:
    """Latent (tetrachoric) correlation for which occurrences at rates p, q correlate by phi."""
    normal = NormalDist()
    a, b = normal.inv_cdf(1 - p), normal.inv_cdf(1 - q)
    wanted = p * q + phi * sqrt(p * (1 - p) * q * (1 - q))
    low, high = -0.98, 0.98
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _both_above(a, b, middle) < wanted else (low, middle)
    return (low + high) / 2


@lru_cache(maxsize=8)
def _mixing(
    key: tuple[tuple[tuple[int, float], ...], tuple[tuple[tuple[int, int], float], ...]],
) -> np.ndarray:
    """Matrix [15, 15] that maps white noise to latents with the wanted correlations."""
    rates, phi = dict(key[0]), dict(key[1])
    n = len(RENDERED_AUS)
    wanted = np.eye(n)
    for (one, other), value in phi.items():
        i, j = RENDERED_AUS.index(one), RENDERED_AUS.index(other)
        wanted[i, j] = wanted[j, i] = _latent_correlation(rates[one], rates[other], value)
    # Published pairs alone need not form a correlation matrix: project alternately onto the PSD
    # matrices and those of unit diagonal (Higham 2002).
    matrix, correction = wanted, np.zeros_like(wanted)
    for _ in range(100):
        shifted = matrix - correction
        values, vectors = np.linalg.eigh(shifted)
        psd = (vectors * np.maximum(values, 1e-6)) @ vectors.T
        correction = psd - shifted
        matrix = psd.copy()
        np.fill_diagonal(matrix, 1.0)
    values, vectors = np.linalg.eigh(matrix)
    # The symmetric root, because the signs of eigenvectors differ between LAPACK builds.
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return root / np.linalg.norm(root, axis=1, keepdims=True)


def smooth_noise(rng: np.random.Generator, frames: int, channels: int, sigma: float) -> np.ndarray:
    """Draws unit-variance Gaussian processes, float64 [frames, channels].

    They are smooth over `sigma` frames. A longer run extends a shorter one.
    """
    reach = int(3 * sigma)
    kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / sigma))
    kernel /= np.linalg.norm(kernel)
    white = rng.standard_normal((frames + 2 * reach, channels))
    return np.stack(
        [np.convolve(white[:, c], kernel, mode="valid") for c in range(channels)], axis=1
    )


def draw_tracks(behaviour: Behaviour, rng: np.random.Generator, frames: int) -> np.ndarray:
    """Draws FACS levels float32 [frames, 15] in the order of RENDERED_AUS, 0 to 5, smooth in time.

    Below `on_level` are onsets, offsets and weak movements up to 0.6, which coders do not mark.
    """
    normal = NormalDist()
    root = _mixing((tuple(behaviour.rates.items()), tuple(behaviour.phi.items())))
    streams = rng.spawn(2)
    run = frames + len(LAG_WEIGHTS) - 1
    latent = smooth_noise(streams[0], run, len(RENDERED_AUS), LATENT_SIGMA) @ root.T
    weak = WEAK_LEVEL * np.clip(
        smooth_noise(streams[1], frames, len(RENDERED_AUS), 6.0) - 0.5, 0, 1
    )
    levels = np.empty((frames, len(RENDERED_AUS)))
    on = behaviour.on_level
    for i, au in enumerate(RENDERED_AUS):
        rate = behaviour.rates[au]
        excess = latent[:, i] - normal.inv_cdf(1 - rate)
        depth = np.clip(1 - np.array([normal.cdf(-z) for z in latent[:, i]]) / rate, 0, 1)
        raw = np.where(
            excess > 0,
            on + (MAX_LEVEL - on) * np.sqrt(depth),
            np.clip(on * (1 + excess / EDGE), 0, on),
        )
        levels[:, i] = np.maximum(np.convolve(raw, LAG_WEIGHTS[::-1], mode="valid"), weak[:, i])
    _suppress_contradictions(levels, behaviour.coded)
    return levels.astype(np.float32)


def _suppress_contradictions(levels: np.ndarray, coded: tuple[int, ...]) -> None:
    """Weakens one of two movements that exclude each other: the uncoded or else the closing one."""
    for openers, closers in CONTRADICTIONS:
        weakened, dominant = (
            (openers, closers)
            if closers[0] in coded and openers[0] not in coded
            else (closers, openers)
        )
        weak = [RENDERED_AUS.index(au) for au in weakened]
        strong = [RENDERED_AUS.index(au) for au in dominant]
        levels[:, weak] *= np.clip(1.2 - levels[:, strong].max(axis=1, keepdims=True) / 2, 0, 1)
