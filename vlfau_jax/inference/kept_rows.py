"""The rows of a `predict` under way: written as they come, and found again by the next one.

They lie in the hidden folder of `files.written_together`, beside a record of what was asked. The
JSON lines are what counts: the table is made from them.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import jax
from pydantic import ConfigDict, Field

from vlfau_jax import __version__
from vlfau_jax.data.crop.rule import CropRule
from vlfau_jax.data.raw import frames
from vlfau_jax.errors import FileError
from vlfau_jax.files import clear, open_regular
from vlfau_jax.inference.pictures import Picture
from vlfau_jax.inference.prediction_files import (
    CSV,
    JSONL,
    csv_header,
    csv_row,
    json_line,
    written_path,
)
from vlfau_jax.inference.shots import Place
from vlfau_jax.records import Probability, Record, Sha256, Text, parse_record, read_record

REQUEST, PROGRESS = "request.json", "progress.json"
_LONGEST_LINE = 1 << 20  # bytes of a line that is read back
_LARGEST = 1 << 40  # bytes of all lines, of which memory holds one


class Request(Record):
    """What decides the rows of a `predict`.

    Attributes:
        version: of this package, of JAX, and the kind of device, with their number if several.
        model: SHA-256 of the model folder.
        inputs: SHA-256 over the paths, sizes and times of the pictures, and of the tables that the
            crop rule reads.
        options: the flags that have an effect on rows, by name.
    """

    version: Text
    model: Sha256
    inputs: Sha256
    options: dict[Text, Text | int | float | bool]

    def difference(self, other: Request) -> str:
        """What `other` asks otherwise; "" for nothing."""
        found = [name for name in ("version", "model", "inputs") if self._differs(other, name)]
        names = self.options.keys() | other.options.keys()
        found += [f"--{n}" for n in sorted(names) if self.options.get(n) != other.options.get(n)]
        return ", ".join(found)

    def _differs(self, other: Request, name: str) -> bool:
        return getattr(self, name) != getattr(other, name)


class _Unit(Record):
    probability: Probability | None
    active: bool | None
    sentence: Text | None
    sentence_probability: Probability | None


class Row(Record):
    """A line of predictions.jsonl, read back."""

    model_config = ConfigDict(extra="allow")

    frame: int
    face_id: int
    timestamp: float
    confidence: Probability | None
    success: Literal[0, 1]
    source: str
    per_au: dict[str, _Unit] | None
    faces: int


def request(
    model: str,
    pictures: Sequence[Picture],
    rule: CropRule,
    options: Mapping[str, Any],
    devices: Sequence[jax.Device],
) -> Request:
    """The record of a `predict` of pictures by the model of a digest, a crop rule and devices."""
    digest = hashlib.sha256()
    tables = rule.tables(frames.Place(str(picture.path)) for picture in pictures)
    paths = [(one.path, f"{one.frame} {written_path(one.root)}") for one in pictures]
    for path, place in paths + [(Path(table), "") for table in tables]:
        try:
            status = os.stat(path)
            state = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:
            state = "absent"
        digest.update(os.fsencode(path) + f"\0{place} {state}\0".encode())
    device = (
        devices[0].device_kind if len(devices) == 1 else f"{len(devices)} {devices[0].device_kind}"
    )
    return Request(
        version=f"{__version__}, jax {jax.__version__}, {device}",
        model=model,
        inputs=digest.hexdigest(),
        options=dict(options),
    )


def interrupted(folder: Path) -> Request | None:
    """What an interrupted `predict` was asked whose rows are in `folder`; None for no rows.

    None, too, where its record cannot be read: its rows are then of no use.
    """
    try:
        found = read_record(folder / REQUEST, Request)
        return found if next(_lines(folder / JSONL), None) else None
    except FileError:
        return None


def _lines(path: Path) -> Iterator[bytes]:
    """The whole lines of a file; a killed process may have left the last one unfinished."""
    with open_regular(path, _LARGEST) as file:
        while (line := file.readline(_LONGEST_LINE)).endswith(b"\n"):
            yield line


class Progress(Record):
    """How far an interrupted `predict` came: the rows before a batch, and what those after need.

    Attributes:
        rows: how many there are.
        sha256: over their lines.
        place: behind the last face that has a row.
        said: see `describing.Describer`.
        damaged: see `predict.Summary`, of the videos that were read.
    """

    rows: int = 0
    sha256: Sha256 = hashlib.sha256().hexdigest()
    place: Place = Place()
    said: dict[int, tuple[int, ...]] = Field(default_factory=dict)
    damaged: dict[str, list[str]] = Field(default_factory=dict)


class Rows(AbstractContextManager):
    """The files of rows in a folder, open to be added to; `count` is how many rows they have.

    Rows are kept by batches: faces that one run of the program describes are described together
    again, or their last digits could differ. Without a row at the end all is removed again, and so
    are rows that could not be made again where the run ends early.

    Attributes:
        count: of rows.
        progress: of the rows that were kept.
    """

    def __init__(
        self,
        folder: Path,
        asked: Request,
        aus: Sequence[int],
        others: Sequence[str] = (),
        lasting: bool = True,
    ) -> None:
        """Opens them; rows in the folder must be of the same request, see `interrupted`.

        Args:
            folder: where they are.
            asked: the request.
            aus: the units' numbers, in order.
            others: names of files that are kept, too.
            lasting: whether a later run can go on after them.
        """
        self._lasting = lasting
        clear(folder, but=(JSONL, REQUEST, PROGRESS, *others))
        if not (folder / REQUEST).exists():
            (folder / REQUEST).write_text(asked.model_dump_json(), encoding="utf-8")
        self.count = 0
        self._folder, self._aus, self._digest = folder, tuple(aus), hashlib.sha256()
        self.progress, size = self._usable()
        # Buffered by lines: whatever ends the process, a row that is written is kept.
        text: dict[str, Any] = {"encoding": "utf-8", "buffering": 1}
        self._records = (folder / JSONL).open("a", **text)
        self._records.truncate(size)
        self._table = (folder / CSV).open("x", newline="", **text)
        self._cells = csv.writer(self._table)
        self._cells.writerow(csv_header(aus))

    def kept(self) -> Iterator[dict[str, Any]]:
        """The rows of an interrupted `predict`, to be read before any is added."""
        for line in islice(_lines(self._folder / JSONL), self.progress.rows):
            record = parse_record(line, Row, self._folder / JSONL).model_dump()
            self._digest.update(line)
            self._cells.writerow(csv_row(record, self._aus))
            self.count += 1
            yield record

    def _usable(self) -> tuple[Progress, int]:
        """How far the rows reach that are whole, and their bytes; nothing if any is damaged."""
        try:
            progress = read_record(self._folder / PROGRESS, Progress)
            digest, size = hashlib.sha256(), 0
            for line in islice(_lines(self._folder / JSONL), progress.rows):
                parse_record(line, Row, self._folder / JSONL)
                digest.update(line)
                size += len(line)
        except FileError:
            return Progress(), 0
        return (progress, size) if digest.hexdigest() == progress.sha256 else (Progress(), 0)

    def mark(
        self,
        place: Place,
        said: Mapping[int, tuple[int, ...]],
        damaged: Mapping[str, list[str]],
    ) -> None:
        """Notes that the rows so far are all before `place`: an interrupted run goes on there."""
        progress = Progress(
            rows=self.count,
            sha256=self._digest.hexdigest(),
            place=place,
            said=dict(said),
            damaged=dict(damaged),
        )
        written = self._folder / f"{PROGRESS}.new"
        written.write_text(progress.model_dump_json(), encoding="utf-8")
        os.replace(written, self._folder / PROGRESS)

    def add(self, record: Mapping[str, Any]) -> None:
        """Adds a row, see `prediction_record`."""
        line = json_line(record)
        self._records.write(line)
        self._digest.update(line.encode())
        self.count += 1
        self._cells.writerow(csv_row(record, self._aus))

    def close(self) -> None:
        """Closes the files; a full disk may be noticed now."""
        self._records.close()
        self._table.close()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for file in (self._records, self._table):
            with suppress(OSError):  # of a full disk, which has been raised before
                file.close()
        if not self.count or (kind is not None and not self._lasting):
            clear(self._folder)
