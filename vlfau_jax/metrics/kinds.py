"""The kinds of entries of the table of metrics, and what each computes its number from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from vlfau_jax.metrics import intensity, overlap
from vlfau_jax.metrics.au import Counts

NAN = float("nan")

# Columns that stand together: metrics of decisions at a threshold, of the scores without one, of
# intensities, and numbers of frames; "cells" are numbers that the screen has no room for.
Group = Literal["decisions", "scores", "intensities", "frames", "cells"]


@dataclass(frozen=True, eq=False)
class Frames:
    """The frames of one unit, or of several pooled.

    Attributes:
        scores: float [m], 0-1, of the frames whose label is known.
        active: bool [m], whether each exceeds its threshold.
        positive: bool [m], whether each label is on.
        estimates: float [k], five times the score of the frames whose intensity is known.
        intensities: int [k], those, 0 to 5.
    """

    scores: np.ndarray
    active: np.ndarray
    positive: np.ndarray
    estimates: np.ndarray
    intensities: np.ndarray

    @classmethod
    def of(
        cls,
        scores: np.ndarray,
        active: np.ndarray,
        labels: np.ndarray,
        known: np.ndarray,
        intensities: np.ndarray | None = None,
    ) -> Frames:
        """From arrays of one shape, flattened; see `score`."""
        if intensities is None:
            intensities = np.full(scores.shape, -1, np.int8)
        coded = intensities >= 0
        return cls(
            scores[known],
            active[known],
            labels[known] > 0,
            scores[coded].astype(np.float64) * intensity.MOST,
            intensities[coded],
        )

    @cached_property
    def counts(self) -> Counts:
        """Of the frames whose label is known, int64 []."""
        return Counts.of(self.active, self.positive, np.ones_like(self.positive))


@dataclass(frozen=True)
class Metric:
    """One number that says how good a model is.

    Attributes:
        name: its key in scores.json.
        heading: short, above its column on the screen and the page.
        description: one sentence with the range or unit, for legends and tooltips.
        compute: gives the number; NaN where it is undefined. Each kind of metric says from what.
        group: with which columns it stands.
    """

    name: str
    heading: str
    description: str
    compute: Callable[..., float | np.ndarray]
    group: Group = field(default="scores", kw_only=True)

    def of(self, frames: Frames) -> float:
        """Of a unit's frames: `compute` takes scores float [m] and labels bool [m]."""
        return self.compute(frames.scores, frames.positive)


@dataclass(frozen=True)
class CountMetric(Metric):
    """A metric of decisions: `compute` takes `Counts` of any shape and gives an array of it."""

    group: Group = field(default="decisions", kw_only=True)

    def of(self, frames: Frames) -> float:
        """Of a unit's frames."""
        return float(self.compute(frames.counts))


@dataclass(frozen=True)
class NumberOfFrames(Metric):
    """How many frames of a kind there are: `compute` takes `Counts`."""

    group: Group = field(default="frames", kw_only=True)

    def of(self, frames: Frames) -> int:
        """Of a unit's frames."""
        return int(self.compute(frames.counts))


@dataclass(frozen=True)
class IntensityMetric(Metric):
    """A metric of intensities: `compute` takes estimates and intensities, [k] each, 0 to 5."""

    group: Group = field(default="intensities", kw_only=True)

    def of(self, frames: Frames) -> float:
        """Of a unit's frames."""
        return self.compute(frames.estimates, frames.intensities)


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
class MapMetric(Metric):
    """A metric of attention maps: `compute` takes a unit's maps, share and hit (maps.py).

    Attributes:
        floor: the same metric of attention that is even.
    """

    floor: Metric


@dataclass(frozen=True)
class Choice:
    """The F1 of other thresholds than the protocol's, in a column of its own name.

    Attributes:
        name: its key in scores.json.
        heading: short, above its column on the screen and the page.
        description: one sentence for legends and tooltips.
    """

    name: str
    heading: str
    description: str


@dataclass(frozen=True)
class LanguageMetric(Metric):
    """A metric of the words of sentences of one kind: `compute` takes a `Written`."""


@dataclass(frozen=True, eq=False)
class Written:
    """The sentences of one kind, and what is known of the true ones; those of shards add.

    Attributes:
        corpus: (generated sentence, true ones) -> how often; see overlap.py.
        surprise: sum of the negative log-probabilities of the true sentences' tokens, natural
            logarithm, teacher forcing; NaN where it was not computed.
        tokens: how many tokens that sum is over, <end> counted.
    """

    corpus: overlap.Corpus
    surprise: float = NAN
    tokens: float = 0.0

    @cached_property
    def bleu(self) -> tuple[float, ...]:
        """BLEU-1 to BLEU-4."""
        return overlap.bleu(self.corpus)

    @property
    def perplexity(self) -> float:
        """Perplexity of the true sentences; NaN without any, or beyond what a float holds."""
        mean = self.surprise / self.tokens if self.tokens else NAN
        return math.exp(mean) if mean < 700 else NAN


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
