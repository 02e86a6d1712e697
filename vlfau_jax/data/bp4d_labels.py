"""BP4D's label files, read by header name, checked cell by cell.

Anything doubtful stops with the file and the line: a wrong label would train a model, a stopped
preparation trains none.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vlfau_jax.errors import UserError

OCCURRENCE_CODES = {"0": 0, "1": 1, "9": -1}
INTENSITY_CODES = {"0": 0, "1": 1, "2": 2, "3": 3, "4": 4, "5": 5, "9": -1}


def read_occurrence(path: Path, aus: Sequence[int]) -> dict[int, np.ndarray]:
    """Reads one AU_OCC file: frame number -> int8 [n] codes of `aus`, 1, 0 or -1 for unknown.

    Raises:
        UserError: no header, a missing unit, a ragged row, a code besides 0, 1 and 9, a frame that
            is no number or comes twice.
    """
    rows = _read_rows(path)
    if not rows:
        raise UserError(f"{path}:1: empty; expected a header of column numbers 0,1,2,...")
    _, header = rows[0]
    if header[0] != "0" or not all(_is_number(cell) for cell in header):
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
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise UserError(f"{path}:{line}: {len(row)} cells; the header has {len(header)}")
        frame = _new_frame(path, line, row[0], labels)
        codes = [
            _code(path, line, f"AU {au}", row[i], OCCURRENCE_CODES)
            for au, i in zip(aus, places, strict=True)
        ]
        labels[frame] = np.array(codes, np.int8)
    return labels


def read_intensity(path: Path) -> dict[int, int]:
    """Reads one AU_INT file, two columns without a header: frame number -> 0 to 5, or -1 unknown.

    Raises:
        UserError: a row without two cells, a code besides 0-5 and 9, a frame as above.
    """
    levels: dict[int, int] = {}
    for line, row in _read_rows(path):
        if len(row) != 2:
            raise UserError(f"{path}:{line}: {len(row)} cells; expected frame,intensity")
        frame = _new_frame(path, line, row[0], levels)
        levels[frame] = _code(path, line, "intensity", row[1], INTENSITY_CODES)
    return levels


def _read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """All rows with their line numbers, cells stripped; blank lines at the end are left out."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a readable CSV file ({error})") from error
    while rows and not any(rows[-1][1]):
        rows.pop()
    for line, row in rows:
        if not row:
            raise UserError(f"{path}:{line}: an empty line between rows; expected labels")
    return rows


def _is_number(cell: str) -> bool:
    return cell.isascii() and cell.isdigit() and len(cell) <= 9


def _new_frame(path: Path, line: int, cell: str, seen: dict) -> int:
    if not _is_number(cell):
        raise UserError(f"{path}:{line}: frame {cell[:40]!r} is not a number")
    if int(cell) in seen:
        raise UserError(f"{path}:{line}: frame {int(cell)} comes twice; expected each once")
    return int(cell)


def _code(path: Path, line: int, what: str, cell: str, codes: dict[str, int]) -> int:
    if cell not in codes:
        raise UserError(
            f"{path}:{line}: {what} is {cell[:40]!r}; expected one of {', '.join(codes)}"
        )
    return codes[cell]
