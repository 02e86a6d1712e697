"""Worker processes and threads: ordered results, bounded look-ahead, no orphans."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from contextvars import ContextVar
from ctypes import c_byte
from itertools import starmap
from multiprocessing import connection, resource_tracker
from multiprocessing.sharedctypes import Synchronized
from typing import Any, Self, TypeVar

from vlfau_jax.errors import RunError

T = TypeVar("T")
R = TypeVar("R")
Listener = Callable[[int], object]

_LISTENER: ContextVar[Listener] = ContextVar("listener", default=lambda steps: None)


def advance(steps: int = 1) -> None:
    """Reports progress of the running call by `steps`, to the `Workers` that runs it.

    A video takes minutes, in which a progress bar over whole results would not move.
    """
    _LISTENER.get()(steps)


class Workers:
    """A context of `count` spawned processes; 0 computes in this process.

    Ctrl-C reaches this process alone, which then stops the others at once.
    """

    def __init__(self, count: int, on_advance: Listener = lambda steps: None) -> None:
        """Stores the arguments; entering the context starts the processes.

        Args:
            count: processes.
            on_advance: called in this process with the steps that the calls report by `advance`.
        """
        self.count = count
        self._on_advance = on_advance
        self._executor: ProcessPoolExecutor | None = None
        self._reported = 0

    def __enter__(self) -> Self:
        if self.count:
            context = multiprocessing.get_context("spawn")  # safe beside a threaded jax
            self._steps = context.Value("q", 0)
            self._stop = context.Value("b", 0, lock=False)
            self._executor = ProcessPoolExecutor(
                self.count,
                mp_context=context,
                initializer=_start,
                initargs=(self._steps, self._stop),
            )
        else:
            self._token = _LISTENER.set(self._on_advance)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._executor is not None:
            self._stop.value = kind is KeyboardInterrupt
            self._executor.shutdown(cancel_futures=True)
        else:
            _LISTENER.reset(self._token)

    def starmap(
        self, function: Callable[..., R], arguments: Iterable[tuple[Any, ...]]
    ) -> Iterator[R]:
        """Yields `function(*these)` in the order of `arguments`, up to two calls ahead per process.

        Raises:
            RunError: a process was killed.
        """
        if self._executor is None:
            yield from starmap(function, arguments)
            return
        pending: deque[Future[R]] = deque()
        try:
            for these in arguments:
                with ctrl_c_blocked():
                    pending.append(self._executor.submit(function, *these))
                if len(pending) > 2 * self.count:
                    yield self._result(pending.popleft())
            while pending:
                yield self._result(pending.popleft())
        except BrokenProcessPool as error:
            raise RunError(
                f"one of {self.count} worker processes was killed, perhaps because memory ran out; "
                "try again with fewer --workers"
            ) from error

    def _result(self, future: Future[R]) -> R:
        done = False
        while not done:
            done = bool(wait([future], timeout=0.2).done)
            steps = self._steps.get_obj().value  # without the lock: its holder may be killed
            self._on_advance(steps - self._reported)
            self._reported = steps
        return future.result()


def in_threads(
    function: Callable[[T], R], items: Iterable[T], *, ahead: int
) -> Generator[R, None, None]:
    """Yields `function(item)` in the order of `items`, computed by a thread for each core.

    For functions that leave Python's lock, as OpenCV's do. Close it after use: what has not begun
    is then dropped, what has begun is waited for.

    Args:
        function: what it raises is raised when its item is due.
        items: read by the caller's thread. What that raises is raised after the results before.
        ahead: how many results may wait while the caller is busy.
    """
    pool = ThreadPoolExecutor(os.cpu_count())
    waiting: deque[Future[R]] = deque()
    try:
        iterator, failure = iter(items), None
        while True:
            try:
                item = next(iterator)
            except StopIteration:
                break
            except BaseException as error:
                failure = error
                break
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        if failure is not None:
            raise failure
    finally:
        pool.shutdown(cancel_futures=True)


def prefetched(items: Iterable[T], *, ahead: int) -> Generator[T, None, None]:
    """Yields `items`, which a thread of their own reads, at most `ahead` before they are due.

    For items whose making leaves Python's lock, as decoding does. Close it after use.
    """
    pool = ThreadPoolExecutor(1)
    iterator, end = iter(items), object()
    waiting: deque[Future[T]] = deque()
    try:
        while True:
            while len(waiting) < ahead:
                waiting.append(pool.submit(next, iterator, end))
            item = waiting.popleft().result()
            if item is end:
                return
            yield item
    finally:
        pool.shutdown(cancel_futures=True)
        if isinstance(iterator, Generator):
            iterator.close()


@contextmanager
def ctrl_c_blocked() -> Iterator[None]:
    """A context whose child processes ignore Ctrl-C; their parent receives it and ends them."""
    resource_tracker.ensure_running()  # starting it together with them would undo the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(steps: Synchronized, stop: c_byte) -> None:
    """Initialises a worker: it counts steps in shared memory, and ends when `stop` is set."""

    def count(more: int) -> None:
        with steps.get_lock():
            steps.value += more

    _LISTENER.set(count)
    end_with_parent(lambda: bool(stop.value))


def end_with_parent(or_when: Callable[[], bool] = lambda: False) -> None:
    """Ends this process when its parent ends, or when `or_when()` is true.

    A killed parent closes no pipe that its workers read, so each of them watches it.
    """
    # Not `is_alive` and `join`, which import: tfds replaces Python's import while it is imported,
    # and what another thread then gets ends that thread.
    parent = multiprocessing.parent_process().sentinel

    def watch() -> None:
        while not connection.wait([parent], 0.2) and not or_when():
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
