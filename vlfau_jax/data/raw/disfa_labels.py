"""Reads DISFA's label files: lines `frame,intensity`, frames counted from 1 without a gap."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vlfau_jax.data.raw.label_rows import read_code, read_number, read_rows
from vlfau_jax.errors import UserError

CODED_AUS = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)
INTENSITY_CODES = {"0": 0, "1": 1, "2": 2, "3": 3, "4": 4, "5": 5}


def read_levels(path: Path) -> np.ndarray:
    """Reads one unit's file of one subject: int8 [f], the intensities of frames 1 to f.

    A missing, repeated or displaced line would shift every label after it against the video.

    Raises:
        UserError: a line without two cells, a frame that is not the line's own number, an
            intensity other than 0 to 5.
    """
    levels = []
    for line, row in read_rows(path):
        if len(row) != 2:
            raise UserError(f"{path}:{line}: {len(row)} cells; expected frame,intensity")
        frame = read_number(path, line, "frame", row[0])
        if frame != len(levels) + 1:
            raise UserError(
                f"{path}:{line}: frame {frame}; expected {len(levels) + 1}, because frames count "
                "from 1 without a gap"
            )
        levels.append(read_code(path, line, "intensity", row[1], INTENSITY_CODES))
    return np.array(levels, np.int8)
