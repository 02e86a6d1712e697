"""How the loss or failure of one process ends all of them, each with one line and an exit code.

A process that dies leaves the others waiting in a collective inside C++, which Python cannot
interrupt. So each process writes a heartbeat to JAX's key-value store from a thread of its own.
Another thread checks the heartbeats of the others, and ends this process where they stop. The death
of the first process ends the store, too: then JAX aborts every other process at once, after a long
log, and the line is written by the handler of that abort. JAX also aborts all processes where one
that died is started again by itself.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import jax

from vlfau_jax.distributed.coordinator import is_listening
from vlfau_jax.errors import Interrupted, RunError, outcome

RESTART_ALL = "start all processes again with --resume"
STORE = "vlfau_jax"  # prefix of this package's keys in JAX's key-value store
FOREVER = 7 * 24 * 3600 * 1000  # milliseconds; the heartbeats end what waits for a lost process

_FAILED_COLLECTIVE_TIMEOUT = 10.0  # seconds without a heartbeat that explain a failed collective
_STORE_TIMEOUT = 2.0  # seconds in which the store answers where it does at all


class Heartbeat:
    """This process's heartbeat, its check of the others', and the end of all where one is missing.

    Args:
        lost_after: seconds without a heartbeat after which another process counts as lost.

    Attributes:
        client: of JAX's key-value store, from `start` on.
        status: how far the run came, for the line about a lost process; called when that is due.
        before_exit: is called, in any thread, before this process ends with another's outcome.
    """

    def __init__(self, lost_after: float) -> None:
        self.client: Any = None
        self.before_exit: Callable[[], None] = lambda: None
        self.status: Callable[[], str] = lambda: f"nothing was computed yet; {RESTART_ALL}"
        self._timeout = lost_after
        self._interval = min(lost_after / 10, 1.0)
        self._stopped = threading.Event()
        self._exiting = threading.Lock()
        self._left_nothing = threading.Event()  # `before_exit` has returned
        self._index = -1  # of this process, once all are connected
        self._seen: dict[int, tuple[str, float]] = {}  # process -> newest heartbeat, when it came
        self._outcome: tuple[str, int] | None = None  # the line and exit code that end this process
        self._stderr = sys.stderr.fileno() if _has_descriptor(sys.stderr) else 2

    def start(self) -> bool:
        """Starts both threads; False where there are no other processes."""
        # jax has no public access to its key-value store; orbax uses the same one.
        from jax._src.distributed import global_state

        # Not jax.process_count(), which starts the devices: that may fail, and must be watched.
        self._index, count = global_state.process_id, global_state.num_processes
        self.client, self._address = global_state.client, global_state.coordinator_address
        if count == 1:
            return False
        # The first checks all, and all check the first: it tells them of the loss of any other.
        checked = range(count) if self._index == 0 else (0,)
        self._seen = {k: ("", time.monotonic()) for k in checked if k != self._index}
        for work in (self._exchange, self._check):
            threading.Thread(target=work, daemon=True, name=work.__name__).start()
        return True

    def _exchange(self) -> None:
        """The first thread: writes this process's heartbeat and reads those of the others."""
        count = 0
        while not self._stopped.wait(self._interval):
            count += 1
            beat = f"{count} {socket.gethostname()}"
            try:
                self.client.key_value_set(
                    f"{STORE}/alive/{self._index}", beat, allow_overwrite=True
                )
                if published := self._published():
                    self._outcome = published
                if self._index == 0:
                    beats = self.client.key_value_dir_get(f"{STORE}/alive/")
                else:
                    beats = [("0", self.client.key_value_try_get(f"{STORE}/alive/0"))]
            except jax.errors.JaxRuntimeError:  # not there yet, or the first process is gone
                continue
            for key, beat in beats:
                other = int(key.rpartition("/")[2])
                if other in self._seen and self._seen[other][0] != beat:
                    self._seen[other] = beat, time.monotonic()

    def _check(self) -> None:
        """The second thread: ends this process where another is lost, or has ended all."""
        before = time.monotonic()
        while not self._stopped.wait(self._interval / 2):
            now = time.monotonic()
            if now - before > 2 * self._interval:  # this process was stopped and read no heartbeat
                self._seen = {k: (beat, now) for k, (beat, _) in self._seen.items()}
            before = now
            lost = [k for k, (_, at) in self._seen.items() if now - at > self._timeout]
            if self._outcome is None and lost:
                self._publish(self._describe_lost(lost), Interrupted.exit_code)
            if self._outcome is not None:
                self._exit()

    def _describe_lost(self, lost: list[int]) -> str:
        named = (f"{k} ({self._host(k)})" for k in lost)
        return (
            f"failed: process {', '.join(named)} is lost: no heartbeat for {self._timeout:g} s; "
            f"{self.status()}"
        )

    def finish(self) -> None:
        """Ends a run that went well, once all processes are here."""
        self.client.wait_at_barrier(f"{STORE}/end", FOREVER)
        self._stopped.set()
        jax.distributed.shutdown()
        self.restore_aborts()

    def fail(self, error: BaseException) -> None:
        """Ends all processes with the line and exit code of `error`; does not return."""
        result = outcome(error)
        if result is None or result[1] == RunError.exit_code:
            # A collective with a lost process may raise anything: wait until its heartbeat is due.
            self._timeout = min(self._timeout, _FAILED_COLLECTIVE_TIMEOUT)
            self._stopped.wait(self._timeout + 3 * self._interval)
        if result is None:
            traceback.print_exception(error)
            result = f"failed: process {self._index}: {type(error).__name__}, see its log", 1
        self._stopped.set()
        self._publish(*result)
        self._exit()

    def _publish(self, line: str, code: int) -> None:
        """Gives all processes the outcome by which they end; the first one published is for all."""

        def publish() -> None:
            with suppress(jax.errors.JaxRuntimeError):  # another process was first
                self.client.key_value_set(f"{STORE}/end/all", json.dumps([line, code]))
            found.append(self._published())

        found = []
        self._outcome = (_answers_in_time(publish) and found[0]) or (line, code)

    def _published(self) -> tuple[str, int] | None:
        found = self.client.key_value_dir_get(f"{STORE}/end/")
        return tuple(json.loads(found[0][1])) if found else None

    def _exit(self) -> None:
        """Ends this process with its outcome, whatever its main thread waits for."""
        if not self._exiting.acquire(blocking=False):
            self._left_nothing.wait()
            time.sleep(60)  # the other thread is ending it
        line, code = self._outcome
        with suppress(OSError):  # whoever read it may be gone
            os.write(self._stderr, f"\n{line}\n".encode(errors="backslashreplace"))
        try:
            self.before_exit()
        except Exception as error:
            with suppress(OSError):
                os.write(self._stderr, f"warning: {error}\n".encode(errors="backslashreplace"))
        self._left_nothing.set()
        if self._index == 0:  # the store ends with this process: the others need time to read it
            time.sleep(4 * self._interval)
        for child in multiprocessing.active_children():  # grain's, who would outlive this one
            child.terminate()
        with suppress(OSError, ValueError, AttributeError):  # closed, or None
            sys.stdout.flush()
        os._exit(code)  # exit handlers would wait for the lost process

    def handle_aborts(self) -> None:
        """Turns the abort by which JAX answers a lost process into one line and an exit code.

        Python's own handlers would run too late: abort() does not return to the interpreter.
        """
        kind = ctypes.CFUNCTYPE(None, ctypes.c_int)
        self._handler = kind(self._on_abort)  # kept: C holds no reference
        ctypes.CDLL(None).signal(signal.SIGABRT, self._handler)

    def restore_aborts(self) -> None:
        """Undoes `handle_aborts`."""
        signal.signal(signal.SIGABRT, signal.SIG_DFL)

    def _on_abort(self, _: int) -> None:
        now, timeout = time.monotonic(), self._timeout
        self._timeout = float("inf")  # no heartbeat comes from here on
        if self._outcome is None and self._index < 0:
            line = (
                f"failed: not all processes were started within {timeout:g} s; "
                "start all of them, or give a longer --lost_after"
            )
            self._outcome = line, Interrupted.exit_code
        elif self._outcome is None and not _answers_in_time(self._published):
            # JAX aborts in the thread that brings the store's answers, so none comes any more.
            self._outcome = self._describe_disconnected(now), Interrupted.exit_code
        if self._outcome is None:
            ctypes.CDLL(None).signal(signal.SIGABRT, None)  # an abort of its own: let it happen
            return
        self._exit()

    def _describe_disconnected(self, now: float) -> str:
        if self._index and not is_listening(self._address, 1.0):
            lost = f"process 0 ({self._host(0)}) is lost: {self._address} is gone"
        else:
            silent = [k for k, (_, at) in self._seen.items() if now - at > 3 * self._interval]
            named = ", ".join(f"process {k} ({self._host(k)})" for k in silent)
            lost = f"{named or 'another process'} is lost, or was started again by itself"
        return f"failed: {lost}; {self.status()}"

    def _host(self, process: int) -> str:
        return self._seen[process][0].partition(" ")[2] or "no heartbeat yet"


def _answers_in_time(request: Callable[[], Any]) -> bool:
    """Whether the store answers a request: one that is gone raises, or never answers."""
    done = []

    def work() -> None:
        with suppress(jax.errors.JaxRuntimeError):
            request()
            done.append(True)

    requesting = threading.Thread(target=work, daemon=True)
    requesting.start()
    requesting.join(_STORE_TIMEOUT)
    return bool(done)


def _has_descriptor(stream: Any) -> bool:
    try:
        return stream.fileno() >= 0
    except (AttributeError, OSError, ValueError):
        return False
