"""Reads the rows and cells of label files, whatever the layout, and checks each of them.

Anything doubtful is a UserError that names the file and the line: a wrong label would be trained
on, while a preparation that stops does no harm.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Container
from pathlib import Path

from vlfau_jax.errors import UserError


def read_rows(path: Path, separators: str = ",") -> list[tuple[int, list[str]]]:
    """Reads all rows with their line numbers, cells stripped, without blank lines at the end.

    Args:
        path: the file.
        separators: what may separate cells; the one that is most frequent in the first line does.

    Raises:
        UserError: no readable UTF-8, broken quotes, an empty line between rows.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            separator = max(separators, key=file.readline().count)
            file.seek(0)
            reader = csv.reader(file, delimiter=separator, strict=True)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except UnicodeDecodeError as error:
        utf_16 = error.object[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        found = "UTF-16" if utf_16 else "another encoding or no text"
        raise UserError(f"{path}: {found}; expected text, so save it as UTF-8") from error
    except (OSError, csv.Error) as error:
        raise UserError(f"{path}: not a readable text file ({error})") from error
    while rows and not any(rows[-1][1]):
        rows.pop()
    for line, row in rows:
        if not row:
            raise UserError(f"{path}:{line}: an empty line between rows; expected labels")
    return rows


def is_number(cell: str) -> bool:
    """Whether a cell is a whole number of at most nine digits, which fits an int32."""
    return cell.isascii() and cell.isdigit() and len(cell) <= 9


def read_number(path: Path, line: int, what: str, cell: str) -> int:
    """Reads a whole number from 0 to 999,999,999. Raises UserError for anything else."""
    if not is_number(cell):
        raise UserError(f"{path}:{line}: {what} {cell[:40]!r} is not a number")
    return int(cell)


def read_new_frame(path: Path, line: int, cell: str, seen: Container[int]) -> int:
    """Reads a frame number. Raises UserError if it is none or was `seen` before."""
    frame = read_number(path, line, "frame", cell)
    if frame in seen:
        raise UserError(f"{path}:{line}: frame {frame} comes twice; expected each once")
    return frame


def read_code(path: Path, line: int, what: str, cell: str, codes: dict[str, int]) -> int:
    """Translates a cell by `codes`. Raises UserError for a cell that is not among them."""
    if cell not in codes:
        expected = ", ".join(code or "an empty cell" for code in codes)
        raise UserError(f"{path}:{line}: {what} is {cell[:40]!r}; expected one of {expected}")
    return codes[cell]
