"""How long steps take, by when their metrics arrive: nothing waits for it."""

from __future__ import annotations

import time
from collections import deque

import numpy as np

_KEPT = 10_000  # newest steps


class StepTimes:
    """Seconds between the ends of consecutive steps, of the newest 10,000.

    A step that follows a checkpoint or scores is not counted: the devices had paused before it.
    """

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=_KEPT)
        self._ended: float | None = None

    def ended(self) -> None:
        """A step's metrics have arrived."""
        now = time.perf_counter()
        if self._ended is not None:
            self._seconds.append(now - self._ended)
        self._ended = now

    def paused(self) -> None:
        """The step that ends next is not counted."""
        self._ended = None

    def summary(self) -> dict[str, float] | None:
        """Median and 95th percentile in milliseconds; None where no step was counted."""
        if not self._seconds:
            return None
        median, p95 = 1e3 * np.percentile(np.array(self._seconds), (50, 95))
        return {"median": float(median), "p95": float(p95)}
