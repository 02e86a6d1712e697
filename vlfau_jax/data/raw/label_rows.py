"""Reads the rows and cells of tables, whatever the layout, and checks each of them.

Anything doubtful is a UserError that names the file and the line: a wrong label would be trained
on, while a preparation that stops does no harm. A row is read at a time and lines are bounded, so
that memory does not depend on what a file holds, but on what its reader keeps.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Container, Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from vlfau_jax.errors import FileError, UserError
from vlfau_jax.files import TABLE_LIMIT, open_regular

LONGEST_LINE = 1 << 20  # characters; OpenFace's longest have 12,000
MOST_ROWS = 10_000_000  # the largest sets have 3 million pictures


def read_rows(
    path: str | Path, separators: str = ",", *, blank_lines: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """Yields all rows with their line numbers, cells stripped, without blank lines at the end.

    Args:
        path: the file.
        separators: what may separate cells; the one that is most frequent in the first line does.
        blank_lines: whether empty lines between rows are passed over; else they are an error.

    Raises:
        FileError: no regular file, too large, no readable UTF-8.
        UserError: a line that is too long, broken quotes, an empty line between rows, too many.
    """
    with open_regular(path, TABLE_LIMIT) as file:
        try:
            beginning = file.read(2)
            file.seek(0)
            if beginning in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                raise FileError(path, "UTF-16; expected text, so save it as UTF-8")
            # Bytes that are no UTF-8 become surrogates, which _lines finds with their line.
            text = TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
            separator = max(separators, key=text.readline(LONGEST_LINE).count)
            text.seek(0)
            yield from _rows(path, text, separator, blank_lines)
        except OSError as error:
            raise FileError(path, f"cannot be read: {error.strerror or error}") from error


def _rows(
    path: str | Path, text: TextIO, separator: str, blank_lines: bool
) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(_lines(path, text), delimiter=separator, strict=True)
    waiting: tuple[int, list[str]] | None = None  # the first line without a cell, perhaps the last
    for number in range(MOST_ROWS + 1):
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise UserError(f"{path}:{reader.line_num}: not a readable table ({error})") from error
        if cells is None:
            return
        if number == MOST_ROWS:
            raise UserError(f"{path}:{reader.line_num}: more than {MOST_ROWS} rows; split the set")
        row = reader.line_num, [cell.strip() for cell in cells]
        if not any(row[1]):
            if blank_lines and not row[1]:
                continue
            waiting = waiting or row
            continue
        if waiting is not None:
            what = "an empty line between rows" if not waiting[1] else "a row without a cell"
            raise UserError(f"{path}:{waiting[0]}: {what}; expected labels")
        yield row


def _lines(path: str | Path, text: TextIO) -> Iterator[str]:
    """Yields the lines of a file that are text and not too long."""
    number = 0
    while line := text.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise UserError(
                f"{path}:{number}: a line of more than {LONGEST_LINE} characters; expected a table"
            )
        if not line.isascii():
            try:
                line.encode()
            except UnicodeEncodeError as error:
                raise UserError(
                    f"{path}:{number}: another encoding or no text; expected text, so save it as "
                    "UTF-8"
                ) from error
        yield line


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
