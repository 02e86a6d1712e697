"""Metrics as JSON lines and TensorBoard events."""

from __future__ import annotations

import json
import math
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import scalar

from vlfau_jax.errors import FileError, UserError
from vlfau_jax.files import written_whole
from vlfau_jax.train.metrics import METRICS_FILE, parse_line

EVENTS_FOLDER = "tensorboard"


class MetricWriter(AbstractContextManager):
    """Appends one line per step to metrics.jsonl and the same values to TensorBoard.

    A run resumed at `start_step` first cuts the lines beyond it, so that each step appears once.
    Where `writes` is false, as in all processes but the first, it does nothing.
    """

    def __init__(self, workdir: Path, start_step: int, *, writes: bool = True) -> None:
        self.writes = writes
        if not writes:
            return
        self._path, folder = workdir / METRICS_FILE, workdir / EVENTS_FOLDER
        _cut(self._path, start_step)
        self._lines = self._path.open("a", encoding="utf-8")
        # Not its SummaryWriter: that one writes in a thread, which ends without an error where the
        # disk is full, and then waits for it forever.
        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}"
        self._events, self._flushed = RecordWriter(str(folder / name)), time.monotonic()
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


def _cut(path: Path, last_step: int) -> None:
    if not path.exists():
        return
    lines = path.read_bytes().split(b"\n")
    # A killed run may have left the last line unfinished: it has no newline and is cut, too.
    kept = [
        line for number, line in enumerate(lines[:-1], 1) if _step(path, number, line) <= last_step
    ]
    with written_whole(path) as partial:
        partial.write_bytes(b"".join(line + b"\n" for line in kept))


def _step(path: Path, number: int, line: bytes) -> int:
    try:
        return parse_line(line, f"{path}:{number}").step
    except FileError as error:
        raise UserError(
            f"{error.path}: not a line of metrics; mend or remove it ({error.reason})"
        ) from None
