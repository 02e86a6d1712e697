"""Codes to labels when a set is read: which unit is active, and which frames count at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vlfau_jax.data.raw.published import DISFA_EXCLUDED

# Data set -> subject -> first and last frame (1-based, inclusive) of every stretch that the field
# leaves out.
EXCLUDED: dict[str, Mapping[str, Sequence[tuple[int, int]]]] = {"disfa": DISFA_EXCLUDED}


@dataclass(frozen=True)
class Labels:
    """Who, when and what, for m examples and n action units.

    Attributes:
        subject: int32 [m], index into the sorted subjects.
        task: int32 [m], the sequence's number.
        frame: int32 [m], the frame's number in the label files.
        au: bool [m, n], active; False where unknown.
        known: bool [m, n].
        part: int32 [m], which of the joined data sets the example is from.
    """

    subject: np.ndarray
    task: np.ndarray
    frame: np.ndarray
    au: np.ndarray
    known: np.ndarray
    part: np.ndarray

    def __len__(self) -> int:
        return len(self.subject)


def by_occurrence(dataset: str, occurrence: np.ndarray) -> np.ndarray:
    """Which units the occurrence codes decide, bool [n]: all of BP4D's, others if coded anywhere.

    BP4D codes occurrence, and the intensity of some units besides: an unknown occurrence stays
    unknown there even where nothing else is coded. `occurrence` is int8 [m, n] of a whole set.
    """
    return (occurrence >= 0).any(0) | (dataset == "bp4d")


def decide(
    occurrence: np.ndarray, intensity: np.ndarray, by_occurrence: np.ndarray, threshold: int
) -> tuple[np.ndarray, np.ndarray]:
    """Active and known, each bool [m, n], from the stored codes.

    One code decides a unit, in all frames of a set: its occurrence (BP4D's 9 stays unknown, also
    where an intensity is written), or an intensity of `threshold` or more (raw DISFA).

    Args:
        occurrence: int8 [m, n], 1, 0 or -1.
        intensity: int8 [m, n], 0 to 5 or -1.
        by_occurrence: bool [n], as `by_occurrence` finds.
        threshold: 1 to 5.
    """
    au = np.where(by_occurrence, occurrence == 1, intensity >= threshold)
    known = np.where(by_occurrence, occurrence, intensity) >= 0
    return au, known


def excluded(
    dataset: str, subjects: Sequence[str], subject: np.ndarray, frame: np.ndarray
) -> np.ndarray:
    """Which frames the field leaves out since tracking failed in them, bool [m]."""
    left_out = np.zeros(len(subject), bool)
    for name, stretches in EXCLUDED.get(dataset, {}).items():
        if name in subjects:
            theirs = subject == subjects.index(name)
            for first, last in stretches:
                left_out |= theirs & (frame >= first) & (frame <= last)
    return left_out
