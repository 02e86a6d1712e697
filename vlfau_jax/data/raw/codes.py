"""From stored codes to labels: which units are active or unknown, and which frames are excluded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def units_with_occurrence(occurrence: np.ndarray, codes_occurrence: bool) -> np.ndarray:
    """The units that occurrence codes decide, bool [n]; intensities decide the others.

    Args:
        occurrence: int8 [m, n] of a whole set, 1, 0 or -1.
        codes_occurrence: see `Published`. BP4D codes the occurrence of every unit, and of some the
            intensity as well: there an unknown occurrence stays unknown even if a unit has no
            other. In any other set a unit has occurrence codes if any of them is known.
    """
    return (occurrence >= 0).any(0) | codes_occurrence


def decide(
    occurrence: np.ndarray, intensity: np.ndarray, by_occurrence: np.ndarray, threshold: int
) -> tuple[np.ndarray, np.ndarray]:
    """Active and known, each bool [m, n], from the stored codes.

    One kind of code decides a unit in all frames of a set: its occurrence (BP4D's 9 stays unknown,
    also where an intensity is written), or an intensity of `threshold` or more (raw DISFA).

    Args:
        occurrence: int8 [m, n], 1, 0 or -1.
        intensity: int8 [m, n], 0 to 5 or -1.
        by_occurrence: bool [n], from `units_with_occurrence`.
        threshold: 1 to 5.
    """
    au = np.where(by_occurrence, occurrence == 1, intensity >= threshold)
    known = np.where(by_occurrence, occurrence, intensity) >= 0
    return au, known


def excluded(
    stretches: Mapping[str, Sequence[tuple[int, int]]],
    subjects: Sequence[str],
    subject: np.ndarray,
    frame: np.ndarray,
) -> np.ndarray:
    """The frames that the field leaves out because tracking failed in them, bool [m].

    Args:
        stretches: subject -> first and last frame, see `Published.excluded`.
        subjects: the names that `subject` indexes.
        subject: int [m].
        frame: int [m].
    """
    left_out = np.zeros(len(subject), bool)
    for name, ranges in stretches.items():
        if name in subjects:
            of_subject = subject == subjects.index(name)
            for first, last in ranges:
                left_out |= of_subject & (frame >= first) & (frame <= last)
    return left_out
