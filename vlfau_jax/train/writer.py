"""Metrics as JSON lines and TensorBoard events."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from tensorboardX import SummaryWriter

from vlfau_jax.data.folders import written_whole
from vlfau_jax.errors import UserError

METRICS_FILE = "metrics.jsonl"
EVENTS_FOLDER = "tensorboard"


class MetricWriter(AbstractContextManager):
    """Appends one line per step to metrics.jsonl and the same values to TensorBoard.

    A run resumed at `start_step` first cuts the lines beyond it, so that each step stands once.
    Where `writes` is false, as in all processes but the first, it does nothing.
    """

    def __init__(self, workdir: Path, start_step: int, *, writes: bool = True) -> None:
        self.writes = writes
        if not writes:
            return
        path = workdir / METRICS_FILE
        _cut(path, start_step)
        self._lines = path.open("a", encoding="utf-8")
        self._events = SummaryWriter(
            str(workdir / EVENTS_FOLDER), purge_step=start_step + 1 if start_step else None
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes plain numbers by name for a step."""
        if not self.writes:
            return
        # JSON has no NaN: an undefined score (no unit had a positive) is null.
        told = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._lines.write(json.dumps({"step": step, **told}) + "\n")
        self._lines.flush()
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def __exit__(self, *_: object) -> None:
        if self.writes:
            self._lines.close()
            self._events.close()


def _cut(path: Path, last_step: int) -> None:
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").split("\n")
    # A killed run may have left the last line unfinished; it has no newline and is cut too.
    kept = [
        line for number, line in enumerate(lines[:-1], 1) if _step(path, number, line) <= last_step
    ]
    with written_whole(path) as partial:
        partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _step(path: Path, number: int, line: str) -> int:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}:{number}: not a line of metrics; mend or remove it") from None
