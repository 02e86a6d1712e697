"""Reads BP4D's label files by the names in their header, and checks every cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vlfau_jax.data.raw.label_rows import is_number, read_code, read_new_frame, read_rows
from vlfau_jax.errors import UserError

OCCURRENCE_CODES = {"0": 0, "1": 1, "9": -1}
INTENSITY_CODES = {"0": 0, "1": 1, "2": 2, "3": 3, "4": 4, "5": 5, "9": -1}


class Occurrence(NamedTuple):
    """The content of one AU_OCC file.

    Attributes:
        columns: all column numbers of the header; 0 is the frame number, k is AU k.
        codes: frame number -> int8 [n] of the requested units: 1, 0, or -1 where unknown.
    """

    columns: tuple[int, ...]
    codes: dict[int, np.ndarray]


def read_occurrence(path: Path, aus: Sequence[int]) -> Occurrence:
    """Reads the codes of `aus` from one AU_OCC file.

    Raises:
        UserError: no header, a missing unit, a row of another length than the header, a code
            other than 0, 1 and 9, a frame that is no number or occurs twice.
    """
    rows = read_rows(path)
    _, header = next(rows, (1, []))
    if not header:
        raise UserError(f"{path}:1: empty; expected a header of column numbers 0,1,2,...")
    if header[0] != "0" or not all(is_number(cell) for cell in header):
        raise UserError(
            f"{path}:1: no header; expected column numbers 0,1,2,... and found "
            f"{','.join(header[:4])[:40]!r}"
        )
    columns = [int(cell) for cell in header]
    if len(set(columns)) != len(columns):
        raise UserError(f"{path}:1: a column number comes twice; expected each once")
    missing = [au for au in aus if au not in columns]
    if missing:
        raise UserError(
            f"{path}:1: no column for AU {missing[0]}; expected {', '.join(map(str, aus))}"
        )
    places = [columns.index(au) for au in aus]
    labels: dict[int, np.ndarray] = {}
    for line, row in rows:
        if len(row) != len(header):
            raise UserError(f"{path}:{line}: {len(row)} cells; the header has {len(header)}")
        frame = read_new_frame(path, line, row[0], labels)
        codes = [
            read_code(path, line, f"AU {au}", row[i], OCCURRENCE_CODES)
            for au, i in zip(aus, places, strict=True)
        ]
        labels[frame] = np.array(codes, np.int8)
    return Occurrence(tuple(columns), labels)


def read_intensity(path: Path) -> dict[int, int]:
    """Reads one AU_INT file, two columns without a header.

    Returns:
        Frame number -> level, 0 to 5, or -1 where unknown.

    Raises:
        UserError: a row without two cells, a code other than 0 to 5 and 9, a frame that is no
            number or occurs twice.
    """
    levels: dict[int, int] = {}
    for line, row in read_rows(path):
        if len(row) != 2:
            raise UserError(f"{path}:{line}: {len(row)} cells; expected frame,intensity")
        frame = read_new_frame(path, line, row[0], levels)
        levels[frame] = read_code(path, line, "intensity", row[1], INTENSITY_CODES)
    return levels
