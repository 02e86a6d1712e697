"""Counts labels: how often each action unit is coded, active, and at which level."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

LEVELS = 6  # intensity 0, and A to E as 1 to 5


@dataclass
class LabelCounts:
    """Counts over frames, per action unit: occurrence codes, and intensity levels 0 to 5.

    Attributes:
        positives: frames in which the unit is coded as active.
        known: frames in which it is coded at all.
        levels: frames of each intensity level, n lists of six.
        frames: all frames.
    """

    positives: list[int]
    known: list[int]
    levels: list[list[int]]
    frames: int = 0

    @classmethod
    def zero(cls, units: int) -> LabelCounts:
        """Counts of no frames, for a number of units."""
        return cls([0] * units, [0] * units, [[0] * LEVELS for _ in range(units)])

    def count(self, occurrence: np.ndarray, intensity: np.ndarray) -> None:
        """Adds the codes int8 [f, n] of f frames; -1 is unknown and is not counted."""
        self.frames += len(occurrence)
        for i in range(len(self.known)):
            self.positives[i] += int((occurrence[:, i] == 1).sum())
            self.known[i] += int((occurrence[:, i] >= 0).sum())
            for level in range(LEVELS):
                self.levels[i][level] += int((intensity[:, i] == level).sum())

    @classmethod
    def total(cls, counts: Iterable[LabelCounts], units: int) -> LabelCounts:
        """The sum of several counts."""
        total = cls.zero(units)
        for one in counts:
            total.frames += one.frames
            total.positives = _sum(total.positives, one.positives)
            total.known = _sum(total.known, one.known)
            total.levels = [_sum(a, b) for a, b in zip(total.levels, one.levels, strict=True)]
        return total

    def active(self, i: int, threshold: int) -> tuple[int, int]:
        """Frames in which unit i is active, and in which its state is known.

        By its occurrence, or by an intensity of `threshold` and more where none is coded.
        """
        if self.known[i]:
            return self.positives[i], self.known[i]
        return sum(self.levels[i][threshold:]), sum(self.levels[i])


def _sum(one: Sequence[int], other: Sequence[int]) -> list[int]:
    return [a + b for a, b in zip(one, other, strict=True)]
