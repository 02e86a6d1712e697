"""Whether probabilities are what they say: reliability curves and expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NAN = float("nan")
BINS = 15  # of equal width, as in Guo et al., "On Calibration of Modern Neural Networks" (2017)


@dataclass(frozen=True, eq=False)
class Reliability:
    """What a reliability curve is drawn from; those of shards add.

    Attributes:
        frames: int64 [bins], frames whose probability is in each bin.
        probability: float64 [bins], the sum of their probabilities.
        positives: int64 [bins], how many of them are on.
    """

    frames: np.ndarray
    probability: np.ndarray
    positives: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, positive: np.ndarray, bins: int = BINS) -> Reliability:
        """From probabilities float [m] and labels bool [m]; a bin holds its upper edge."""
        scores = np.asarray(scores, np.float64)
        inner = np.linspace(0.0, 1.0, bins + 1)[1:-1]
        place = np.searchsorted(inner, scores)
        return cls(
            np.bincount(place, minlength=bins),
            np.bincount(place, scores, minlength=bins),
            np.bincount(place[positive], minlength=bins),
        )

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(
            self.frames + other.frames,
            self.probability + other.probability,
            self.positives + other.positives,
        )

    @property
    def points(self) -> list[tuple[float, float, int]]:
        """Mean probability, share of frames that are on, and frames of each bin that holds any."""
        rows = zip(self.probability, self.positives, self.frames, strict=True)
        return [(float(p / m), float(k / m), int(m)) for p, k, m in rows if m]

    @property
    def error(self) -> float:
        """Expected calibration error: the mean over frames of |share on - mean probability|.

        Each frame has the difference of its bin. NaN without frames.
        """
        frames = int(self.frames.sum())
        return float(np.abs(self.positives - self.probability).sum() / frames) if frames else NAN


def expected_calibration_error(scores: np.ndarray, positive: np.ndarray) -> float:
    """`Reliability.error` of probabilities float [m] and labels bool [m]."""
    return Reliability.of(scores, positive).error
