"""Worker processes for preparing data: results in order, bounded look-ahead, none left behind."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import starmap
from typing import Any, Self, TypeVar

from vlfau_jax.errors import RunError

R = TypeVar("R")


class Workers:
    """A context of `count` spawned processes; 0 computes in this process."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        if self.count:
            self._executor = ProcessPoolExecutor(
                self.count,
                mp_context=multiprocessing.get_context("spawn"),  # safe beside a threaded jax
                initializer=_exit_with_parent,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def starmap(
        self, function: Callable[..., R], arguments: Iterable[tuple[Any, ...]]
    ) -> Iterator[R]:
        """Yields `function(*these)` in the order of `arguments`, two calls ahead per process.

        Raises:
            RunError: a process was killed.
        """
        if self._executor is None:
            yield from starmap(function, arguments)
            return
        pending: deque[Future[R]] = deque()
        try:
            for these in arguments:
                pending.append(self._executor.submit(function, *these))
                if len(pending) > 2 * self.count:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise RunError(
                f"one of {self.count} worker processes was killed, perhaps for want of memory; "
                "nothing was finished, try again with fewer --workers"
            ) from error


def _exit_with_parent() -> None:
    """A killed parent closes no pipe that its workers read, so each watches it by itself."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
