"""The wall-clock time of a run by activity."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

PARTS = ("train", "eval", "checkpoint", "compile", "data_wait")


class Clock:
    """Wall-clock seconds by part; parts do not nest. A resumed run continues the counts."""

    def __init__(self, seconds: Mapping[str, float] | None = None) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0) | dict(seconds or {})
        self._running: str | None = None

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Adds the time inside the context to `part`."""
        if part not in self.seconds or self._running:
            raise ValueError(f"clock part {part!r} is unknown, or {self._running!r} is running")
        self._running, start = part, time.perf_counter()
        try:
            yield
        finally:
            self._running = None
            self.seconds[part] += time.perf_counter() - start

    @property
    def training(self) -> float:
        """Seconds of the steps and of the waits for their batches."""
        return self.seconds["train"] + self.seconds["data_wait"]
