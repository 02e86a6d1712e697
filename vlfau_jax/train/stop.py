"""SIGTERM and Ctrl-C during a run: recorded at once, acted on where nothing is lost."""

from __future__ import annotations

import os
import signal
from contextlib import AbstractContextManager, suppress

import jax

from vlfau_jax.errors import Interrupted


class StopSignals(AbstractContextManager):
    """A context in which SIGTERM and Ctrl-C are only recorded, for `received`.

    A second Ctrl-C ends at once. Among several processes SIGTERM is left to `stop_requested`, whose
    result is the same in all of them, and Ctrl-C is sent on as SIGTERM; `received` is then always
    0.

    Attributes:
        response: what the first Ctrl-C leads to at this moment, for its line.
    """

    def __init__(self) -> None:
        self.response = "ending before the first step"
        self._received: list[int] = []
        self._several = jax.process_count() > 1

    def __enter__(self) -> StopSignals:
        handled = (signal.SIGINT,) if self._several else (signal.SIGTERM, signal.SIGINT)
        self._before = {number: signal.signal(number, self._handle) for number in handled}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: object) -> None:
        if number == signal.SIGINT:
            if self._received:
                raise KeyboardInterrupt
            # Not by print: the signal may have come in the middle of one.
            with suppress(OSError):  # stderr may be closed
                os.write(2, f"\n{self.response}; Ctrl-C again ends at once\n".encode())
        self._received.append(number)
        if self._several:
            os.kill(os.getpid(), signal.SIGTERM)

    def received(self) -> int:
        """The first signal received, or 0."""
        return self._received[0] if self._received and not self._several else 0

    def raise_before_steps(self) -> None:
        """Raises as `raise_for` does where a signal came before any step."""
        if number := self.received():
            kept = "before its first step; nothing is lost, start again with --resume"
            self.raise_for(number, kept)

    def raise_for(self, number: int, kept: str) -> None:
        """Raises Interrupted for SIGTERM, KeyboardInterrupt for Ctrl-C, with `kept` as text."""
        if number == signal.SIGINT:
            raise KeyboardInterrupt(kept)
        raise Interrupted(f"ended by SIGTERM {kept}")
