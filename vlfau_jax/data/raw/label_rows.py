"""Rows and cells of label files, whatever the layout: checked one by one, named by file and line.

Anything doubtful stops with the file and the line: a wrong label would train a model, a stopped
preparation trains none.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Container
from pathlib import Path

from vlfau_jax.errors import UserError


def read_rows(path: Path, separators: str = ",") -> list[tuple[int, list[str]]]:
    """All rows with their line numbers, cells stripped; blank lines at the end are left out.

    Args:
        path: the file.
        separators: what may stand between cells; the first line tells which, by having most of it.

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
    """Whether a cell is a whole number that fits any integer type here."""
    return cell.isascii() and cell.isdigit() and len(cell) <= 9


def read_number(path: Path, line: int, what: str, cell: str) -> int:
    """A cell that must be a whole number from 0 to 999,999,999. Raises UserError otherwise."""
    if not is_number(cell):
        raise UserError(f"{path}:{line}: {what} {cell[:40]!r} is not a number")
    return int(cell)


def read_new_frame(path: Path, line: int, cell: str, seen: Container[int]) -> int:
    """A frame number that has not been `seen`. Raises UserError otherwise."""
    frame = read_number(path, line, "frame", cell)
    if frame in seen:
        raise UserError(f"{path}:{line}: frame {frame} comes twice; expected each once")
    return frame


def read_code(path: Path, line: int, what: str, cell: str, codes: dict[str, int]) -> int:
    """The label that a cell stands for. Raises UserError for a cell that is not in `codes`."""
    if cell not in codes:
        expected = ", ".join(code or "an empty cell" for code in codes)
        raise UserError(f"{path}:{line}: {what} is {cell[:40]!r}; expected one of {expected}")
    return codes[cell]
