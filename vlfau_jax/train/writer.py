"""Metrics as JSON lines and TensorBoard events."""

from __future__ import annotations

import itertools
import json
import math
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import scalar

from vlfau_jax.files import open_in_place, written_whole
from vlfau_jax.train.metrics import METRICS_FILE, read_lines
from vlfau_jax.train.watch import Watchers

DAMAGED_FILE = "metrics.damaged.jsonl"
EVENTS_FOLDER = "tensorboard"


class MetricWriter(AbstractContextManager):
    """Appends one line per step to metrics.jsonl and the same values to TensorBoard.

    A run resumed at `start_step` first cuts the lines beyond it, so that each step appears once.
    Lines that are damaged are moved to metrics.damaged.jsonl, and counted on stderr.
    `watchers` get the same values, last.
    Where `writes` is false, as in all processes but the first, it does nothing.
    """

    def __init__(
        self,
        workdir: Path,
        start_step: int,
        *,
        writes: bool = True,
        watchers: Watchers | None = None,
    ) -> None:
        self.writes, self._watchers = writes, watchers
        if not writes:
            return
        self._path, folder = workdir / METRICS_FILE, workdir / EVENTS_FOLDER
        _cut(self._path, start_step)
        self._lines = os.fdopen(
            open_in_place(self._path, os.O_WRONLY | os.O_APPEND), "a", encoding="utf-8"
        )
        # Not its SummaryWriter: that one writes in a thread, which ends without an error where the
        # disk is full, and then waits for it forever.
        folder.mkdir(exist_ok=True)
        self._events, self._flushed = RecordWriter(str(_new_events(folder))), time.monotonic()
        self._write_event(event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"))
        if start_step:
            restart = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._write_event(event_pb2.Event(step=start_step + 1, session_log=restart))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes plain numbers by name for a step; OSError names the file that cannot take them."""
        if not self.writes:
            return
        # JSON has no NaN: an undefined score (no unit had a positive) is null.
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        with _name_file(self._path):
            self._lines.write(json.dumps({"step": step, **finite}) + "\n")
            self._lines.flush()
        with _name_file(self._path.parent / EVENTS_FOLDER):
            for name, value in finite.items():
                if value is None:  # TensorBoard has no place for it
                    continue
                event = event_pb2.Event(wall_time=time.time(), step=step)
                event.summary.CopyFrom(scalar(name, value))
                self._write_event(event)
            if time.monotonic() - self._flushed > 30:  # it waits for the disk
                self._events.flush()
                self._flushed = time.monotonic()
        if self._watchers is not None:
            self._watchers.write(step, finite)

    def _write_event(self, event: event_pb2.Event) -> None:
        self._events.write(event.SerializeToString())

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if not self.writes:
            return
        ignored = () if kind is None else (OSError,)  # the exception that ended the run is raised
        with suppress(*ignored), _name_file(self._path):
            self._lines.close()
        with suppress(*ignored), _name_file(self._path.parent / EVENTS_FOLDER):
            self._events.close()


@contextmanager
def _name_file(path: Path) -> Iterator[None]:
    """Adds the file's name, which Python's own error of a failed write lacks."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _new_events(folder: Path) -> Path:
    """Creates the file of a run's events: none that is there is opened, be it by a link."""
    name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}"
    for number in itertools.count():
        path = folder / (f"{name}.{number}" if number else name)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            return path


def _cut(path: Path, last_step: int) -> None:
    if not os.path.lexists(path):
        return
    os.close(open_in_place(path, os.O_RDONLY))  # or FileError, such as for a link
    damaged = 0
    with written_whole(path) as partial, partial.open("wb") as kept:
        for content, metrics in read_lines(path):
            if metrics is None:
                damaged += 1
                _append(path.with_name(DAMAGED_FILE), content)
            elif metrics.step <= last_step:
                kept.write(content + b"\n")
    if damaged:
        print(
            f"warning: {path}: {damaged} damaged lines were moved to {DAMAGED_FILE}",
            file=sys.stderr,
        )


def _append(path: Path, line: bytes) -> None:
    with os.fdopen(open_in_place(path, os.O_WRONLY | os.O_APPEND), "ab") as file:
        file.write(line + b"\n")
