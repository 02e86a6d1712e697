"""SIGTERM and Ctrl-C while a run goes on: heard at once, answered where nothing is lost."""

from __future__ import annotations

import os
import signal
from contextlib import AbstractContextManager

import jax

from vlfau_jax.errors import Interrupted


class StopSignals(AbstractContextManager):
    """A context in which SIGTERM and Ctrl-C are questions: which of them came first, or 0.

    A second Ctrl-C ends at once. Among several processes SIGTERM is left to `stop_requested`, whose
    answer is the same in all of them, and Ctrl-C becomes a SIGTERM; `heard` is then always 0.

    Attributes:
        answer: what the first Ctrl-C leads to at this moment, for its line.
    """

    def __init__(self) -> None:
        self.answer = "ending before the first step"
        self._received: list[int] = []
        self._several = jax.process_count() > 1

    def __enter__(self) -> StopSignals:
        heard = (signal.SIGINT,) if self._several else (signal.SIGTERM, signal.SIGINT)
        self._before = {number: signal.signal(number, self._hear) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, _: object) -> None:
        if number == signal.SIGINT:
            if self._received:
                raise KeyboardInterrupt
            # Not by print: the signal may have come in the middle of one.
            os.write(2, f"\n{self.answer}; Ctrl-C again ends at once\n".encode())
        self._received.append(number)
        if self._several:
            os.kill(os.getpid(), signal.SIGTERM)

    def heard(self) -> int:
        """The first signal that came, or 0."""
        return self._received[0] if self._received and not self._several else 0

    def end_before_steps(self) -> None:
        """Where a signal came before any step, ends as `end` does."""
        if number := self.heard():
            self.end(number, "before its first step; nothing is lost, start again with --resume")

    def end(self, number: int, kept: str) -> None:
        """Raises Interrupted for SIGTERM, KeyboardInterrupt for Ctrl-C; `kept` is told by both."""
        if number == signal.SIGINT:
            raise KeyboardInterrupt(kept)
        raise Interrupted(f"ended by SIGTERM {kept}")
