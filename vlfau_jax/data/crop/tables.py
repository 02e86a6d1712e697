"""CSV tables of faces that another program or a person has found: reading and caching.

No file is opened because a table names it: entries are only compared with the pictures' own names.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, wraps
from typing import NamedTuple, TypeVar

from vlfau_jax.data.raw import label_rows as rows
from vlfau_jax.errors import UserError

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_LARGEST = 1e5  # pixels; no picture is larger
T = TypeVar("T")


class NotInTable(LookupError):
    """The crop rule's table has no row for a picture."""


class Row(NamedTuple):
    """One row of a table.

    Attributes:
        where: file and line, for messages.
        cells: column -> text, of the columns that a header may need, of `success` and of
            `confidence`.
    """

    where: str
    cells: dict[str, str]

    def pixels(self, column: str) -> float:
        """The position in a column. Raises UserError if it is none."""
        text = self.cells[column]
        value = float(text) if _NUMBER.fullmatch(text) else math.nan
        if not abs(value) <= _LARGEST:
            raise UserError(
                f"{self.where}: {column} is {text[:40]!r}; expected a position in pixels"
            )
        return value

    def confidence(self) -> float | None:
        """The value of the column `confidence`, 0-1; None without one. Raises UserError."""
        text = self.cells.get("confidence", "")
        if not text:
            return None
        value = float(text) if _NUMBER.fullmatch(text) else math.nan
        if not 0 <= value <= 1:
            raise UserError(f"{self.where}: confidence is {text!r}; expected 0 to 1, or none")
        return value


def read_rows(path: str, headers: Sequence[Sequence[str]]) -> Iterator[Row]:
    """The rows of a CSV file whose header contains all columns of one of `headers`.

    Raises:
        UserError: a file that is missing, is not text or has no such header; a row of another
            length.
    """
    if not os.path.lexists(path):
        raise UserError(f"{path}: no such file; expected the CSV that the crop rule reads")
    lines = rows.read_rows(path, blank_lines=True)
    _, header = next(lines, (1, []))
    if len(set(header)) < len(header) or not any(set(h) <= set(header) for h in headers):
        wanted = " or ".join(_abbreviated(columns) for columns in headers)
        raise UserError(f"{path}:1: expected a header with each of the columns {wanted}")
    wanted = {name for columns in headers for name in columns} | {"success", "confidence"}
    places = {name: i for i, name in enumerate(header) if name in wanted}
    for number, cells in lines:
        where = f"{path}:{number}"
        if len(cells) != len(header):
            raise UserError(f"{where}: {len(cells)} cells, its header has {len(header)}")
        yield Row(where, {name: cells[i] for name, i in places.items()})


def _abbreviated(columns: Sequence[str]) -> str:
    return ",".join(columns if len(columns) < 8 else (*columns[:3], "...", columns[-1]))


def cached_until_changed(read: Callable[[str], T]) -> Callable[[str], T]:
    """Makes a reader of files read a file again only if its time or size has changed."""

    @lru_cache(maxsize=4)
    def cached(path: str, changed: int, size: int) -> T:
        return read(path)

    @wraps(read)
    def newest(path: str) -> T:
        try:
            state = os.stat(path)
        except OSError:
            return read(path)  # raises the error that says what is wrong
        return cached(path, state.st_mtime_ns, state.st_size)

    return newest
