"""The lines of metrics.jsonl: their schema, and how they are read."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from vlfau_jax.errors import FileError
from vlfau_jax.files import open_regular
from vlfau_jax.records import Record, parse_record

METRICS_FILE = "metrics.jsonl"
_LARGEST = 1e39  # beyond float32
_LARGEST_FILE = 1 << 33  # bytes; it is read line by line
_LONGEST_LINE = 1 << 20


class MetricLine(Record):
    """A line: a step, and numbers by name; null where one was not finite.

    They come from float32: larger ones would overflow where they are summed and drawn.
    """

    model_config = ConfigDict(extra="allow")

    step: Annotated[int, Field(ge=0, lt=1 << 53)]
    __pydantic_extra__: dict[str, Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)] | None]

    @property
    def values(self) -> dict[str, Any]:
        """The step and the numbers, by name."""
        return self.model_dump()


def parse_line(line: str | bytes, source: object) -> MetricLine:
    """A line of metrics. Raises FileError where it is none; `source` is for its message."""
    return parse_record(line, MetricLine, source)


@dataclass(frozen=True)
class Metrics:
    """The records of a run, in order, and how many lines are none."""

    records: tuple[dict[str, Any], ...] = ()
    left_out: int = 0


def read_metrics(path: Path) -> Metrics:
    """All records of a metrics.jsonl; a line that is none is counted, and told on stderr.

    The last line of a killed run may be unfinished, which is no fault. Nothing is raised where the
    file is missing or no file: whoever asks can do without.
    """
    records, left_out, first = [], 0, ""
    try:
        with open_regular(path, _LARGEST_FILE) as file:
            number = 0
            while line := file.readline(_LONGEST_LINE):
                number += 1
                if not line.endswith(b"\n") and len(line) < _LONGEST_LINE:
                    break
                try:
                    records.append(parse_line(line, f"{path}:{number}").values)
                except FileError as error:
                    left_out += 1
                    first = first or str(error)
    except FileError as error:
        if path.exists():
            print(f"{error}; no training metrics are drawn", file=sys.stderr)
    if left_out:
        print(f"{first}; {left_out} such lines are left out", file=sys.stderr)
    return Metrics(tuple(records), left_out)
