"""Where the time of a run goes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

PARTS = ("train", "eval", "checkpoint", "compile", "data_wait")


class Clock:
    """Wall-clock seconds by part; parts do not nest. A resumed run goes on counting."""

    def __init__(self, seconds: Mapping[str, float] | None = None) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0) | dict(seconds or {})
        self._running: str | None = None

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Counts what happens inside towards `part`."""
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
        """Seconds that buy progress: the steps, and the wait for their batches."""
        return self.seconds["train"] + self.seconds["data_wait"]
