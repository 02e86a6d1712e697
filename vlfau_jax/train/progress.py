"""Metrics and progress bar of a run, one step late so that the host never waits for a step."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager

import jax
from jax import Array
from tqdm import tqdm

from vlfau_jax.train.clock import Clock
from vlfau_jax.train.nonfinite import NonFiniteError, format_values, nonfinite
from vlfau_jax.train.step import Metrics
from vlfau_jax.train.step_times import StepTimes
from vlfau_jax.train.writer import MetricWriter


class Progress(AbstractContextManager):
    """Keeps the newest step's metrics on the devices until the next step has been started.

    Attributes:
        times: how long steps take.
    """

    def __init__(
        self, writer: MetricWriter, clock: Clock, *, start: int, steps: int, images: int, every: int
    ) -> None:
        self._writer, self._clock = writer, clock
        self._images, self._every, self._last = images, every, steps
        self._written = (start, clock.training)
        self._skipped_last = False
        self.times = StepTimes()
        self._pending: tuple[int, Metrics, Array, dict[str, float]] | None = None
        self._bar = tqdm(
            total=steps,
            initial=start,
            desc="train",
            unit="step",
            dynamic_ncols=True,
            disable=not writer.writes,
        )

    def started(self, step: int, metrics: Metrics, keys: Array) -> None:
        """Registers step `step`, started on the faces of `keys`; reports the one before.

        Raises NonFiniteError where that one was not finite and may not be skipped.
        """
        previous, self._pending = self._pending, (step, metrics, keys, {})
        if previous:
            self._report(*previous)

    def scored(self, side: str, scores: Mapping[str, float]) -> None:
        """Adds scores of the "test" or "validation" subjects to the line of the newest step."""
        self._pending[-1].update({f"{side}_{name}": float(value) for name, value in scores.items()})

    def flush(self) -> None:
        """Waits for the newest step and reports it; raises what `started` does."""
        previous, self._pending = self._pending, None
        if previous:
            self._report(*previous)
        self.times.paused()

    def _report(self, step: int, metrics: Metrics, keys: Array, scores: dict[str, float]) -> None:
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        self.times.ended()
        bad = nonfinite(values)
        if values["skipped"] < 0:
            raise NonFiniteError(step, bad, keys, self._skipped_last)
        self._skipped_last = bool(bad)
        if bad and self._writer.writes:
            count = f"{values['skipped']:.0f} in all"
            self._bar.write(f"step {step} skipped, {count}: {format_values(bad)}", file=sys.stderr)
        self._bar.update()
        if step % self._every and step != self._last and not scores:
            return
        (step_before, seconds_before), self._written = self._written, (step, self._clock.training)
        seconds = self._clock.training - seconds_before
        values["images_per_second"] = (step - step_before) * self._images / max(seconds, 1e-9)
        self._writer.write(step, values | scores)
        self._bar.set_postfix_str(_brief(values), refresh=False)

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def _brief(values: Mapping[str, float]) -> str:
    losses = [
        f"{name} {values[name]:.3f}"
        for name in ("au", "dice", "local", "global", "total")
        if name in values
    ]
    return ", ".join([f"{values['images_per_second']:.0f} images/s", *losses])
