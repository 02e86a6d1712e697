"""Times of several programs, measured in turns, and ratios between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from vlfau_jax.errors import UserError

LEAST_TURNS = 3


def check_seconds(seconds: float) -> None:
    """Raises UserError unless one can measure for so long."""
    if not 0 < seconds <= 3600:
        raise UserError(f"--seconds={seconds:g}: give more than 0 and up to 3600")


def in_turns(calls: Mapping[str, Callable[[], None]], seconds: float) -> dict[str, np.ndarray]:
    """Seconds of each call in each turn, float64 [turns] by name.

    In every turn each program runs once, so that whatever else the machine does meets all of them;
    every second turn runs them in the reverse order, because each may leave something to the next:
    warm caches, or threads that still spin.

    Args:
        calls: each runs a program once and waits for its result; the first run, which compiles, is
            the caller's.
        seconds: how long to go on; there are at least `LEAST_TURNS` turns.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    begin, turn = time.perf_counter(), 0
    while turn < LEAST_TURNS or time.perf_counter() - begin < seconds:
        for name in list(calls)[:: -1 if turn % 2 else 1]:
            start = time.perf_counter()
            calls[name]()
            taken[name].append(time.perf_counter() - start)
        turn += 1
    return {name: np.array(values) for name, values in taken.items()}


def spread(values: np.ndarray) -> dict[str, float]:
    """Median and quartiles of a sample, by name."""
    lower, median, upper = np.percentile(values, (25, 50, 75))
    return {"median": float(median), "lower": float(lower), "upper": float(upper)}
