"""The lines of metrics.jsonl: their schema, and how they are read."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import ConfigDict, Field

from vlfau_jax.errors import FileError
from vlfau_jax.files import open_regular
from vlfau_jax.records import Record, parse_record

METRICS_FILE = "metrics.jsonl"
_LARGEST_FILE = 1 << 33  # bytes; it is read line by line
_LONGEST_LINE = 1 << 20
_LARGEST = 1e39  # beyond float32

_Value = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)] | None


class MetricsLine(Record):
    """A line of metrics.jsonl: the step, and numbers by name, null where one is undefined.

    They come from float32: larger ones would overflow where they are summed and drawn.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, _Value] = Field(init=False)

    step: Annotated[int, Field(ge=0, le=2**53)]


class ReadLine(NamedTuple):
    """A line that was read: its bytes, and what it says; None where it is no line of metrics."""

    content: bytes
    metrics: MetricsLine | None


def read_lines(path: Path) -> Iterator[ReadLine]:
    """The lines of metrics.jsonl, if it is there, without the one that a kill has left unfinished.

    A line that is too long comes in parts.

    Raises:
        FileError: it is no regular file, or larger than any.
    """
    if not os.path.lexists(path):
        return
    with open_regular(path, _LARGEST_FILE) as file:
        while line := file.readline(_LONGEST_LINE):
            found = None
            with suppress(FileError):
                found = parse_record(line, MetricsLine, path)
            if found is not None or line.endswith(b"\n") or len(line) == _LONGEST_LINE:
                yield ReadLine(line.removesuffix(b"\n"), found)


@dataclass(frozen=True)
class Metrics:
    """The records of a run, in order, and how many lines are none."""

    records: tuple[dict[str, Any], ...] = ()
    left_out: int = 0


def read_metrics(path: Path) -> Metrics:
    """All records of a metrics.jsonl; lines that are none are counted, and told on stderr.

    Nothing is raised where the file is missing or no file: whoever asks can do without.
    """
    try:
        lines = list(read_lines(path))
    except FileError as error:
        print(f"{error}; no training metrics are drawn", file=sys.stderr)
        return Metrics()
    bad = [number for number, line in enumerate(lines, 1) if line.metrics is None]
    if bad:
        print(f"{path}:{bad[0]}: no line of metrics; {len(bad)} are left out", file=sys.stderr)
    return Metrics(tuple(line.metrics.model_dump() for line in lines if line.metrics), len(bad))
