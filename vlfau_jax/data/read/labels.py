"""The labels of a data set, as an experiment reads them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Labels:
    """Subject, task, frame and labels of m examples, for n action units.

    Attributes:
        subject: int32 [m], index into the sorted subjects.
        task: int32 [m], the sequence's number.
        frame: int32 [m], the frame's number in the label files.
        au: bool [m, n], active; False where unknown.
        known: bool [m, n].
        level: int8 [m, n], the coded intensity, 0 to 5 (FACS's A to E are 1 to 5); -1 where none
            is.
        part: int32 [m], the index of the set, in a mixture, that the example is from.
    """

    subject: np.ndarray
    task: np.ndarray
    frame: np.ndarray
    au: np.ndarray
    known: np.ndarray
    level: np.ndarray
    part: np.ndarray

    def __len__(self) -> int:
        return len(self.subject)
