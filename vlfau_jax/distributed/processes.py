"""Several processes that train as one: how they meet, who writes, and how a lost one is noticed.

JAX's runtime connects the processes and moves the arrays; nothing here schedules anything. What
JAX leaves open is settled through its key-value store, which the first process keeps: what that
process decides alone, that all see the same files, and the end, where one for all is needed. All
processes need the same workdir, data set and warm starts on a file system that they share.

A process that dies leaves the others waiting in a collective inside C++, which Python cannot
interrupt. So each gives a sign of life in the store from a thread of its own, another thread looks
for those of the others, and ends this process with one line where they stop coming. The death of
the first process ends the store, too: then JAX aborts every other process at once, after a long
log, and the line is written from the handler of that abort. It aborts all, too, where a process
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
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import jax
from jax.experimental import multihost_utils

from vlfau_jax.distributed.coordinator import answers, check_flags, reach, several
from vlfau_jax.distributed.differences import differences
from vlfau_jax.errors import Interrupted, RunError, UserError, outcome

AGAIN = "start all processes again with --resume"
_SUSPICIOUS = 10.0  # seconds of silence that explain a collective which failed
_ANSWER = 2.0  # seconds in which the store answers where it does at all
_STORE = "vlfau_jax"
FOREVER = 7 * 24 * 3600 * 1000  # milliseconds; the watch ends what waits for a lost process
# By these JAX recognizes who started the processes.
_TELLING = (
    "OMPI_MCA_orte_hnp_uri",
    "SLURM_JOB_ID",
    "KUBERNETES_SERVICE_HOST",
    "TPU_WORKER_HOSTNAMES",
)
_NO_KUBERNETES = (
    "JOB_COMPLETION_INDEX: going on alone, for JAX asks the Python package kubernetes for other "
    "pods, which is not installed; to join them, give --coordinator, --processes and --process"
)


@contextmanager
def process_group(
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    *,
    lost_after: float,
    preemptible: bool,
) -> Iterator[None]:
    """Makes this process one of several while a verb runs; does nothing for one alone.

    It must come before JAX computes anything. At the end all wait for each other. An exception of
    one ends all with its line and exit code, without unwinding further.

    Args:
        coordinator: HOST:PORT where process 0 can be reached by all.
        processes: how many there are.
        process: which one this is, from 0.
        lost_after: seconds to wait for the others at the start, and later without a sign of life.
        preemptible: whether SIGTERM becomes a question, `stop_requested`.

    Where the first three are all None, JAX is asked for what it knows of Slurm, Open MPI, Cloud TPU
    and Kubernetes. Raises UserError for flags that cannot be, and a coordinator out of reach;
    RunError where a process's devices cannot be started, in all processes.
    """
    global _company
    check_flags(coordinator, processes, process, lost_after)
    if not several(processes):
        yield
        return
    _company = _meet(coordinator, processes, process, lost_after, preemptible)
    try:
        if _company is not None:
            _start_devices()
        yield
        if _company is not None:
            _company.part()
    except BaseException as error:
        if _company is not None:
            _company.fail(error)  # does not return
        raise
    finally:
        _company = None


def _meet(
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    lost_after: float,
    preemptible: bool,
) -> _Company | None:
    """Starts JAX's distributed runtime; None where this process turns out to be alone."""
    jax.config.update("jax_enable_preemption_service", preemptible)
    explicit = {}
    if coordinator is not None:
        reach(coordinator, process, lost_after)
        explicit = {
            "coordinator_address": coordinator,
            "num_processes": processes,
            "process_id": process,
            "cluster_detection_method": "deactivate",  # it would hide all GPUs but one
        }
    company = _Company(lost_after)
    company.catch_aborts()
    seconds = max(int(lost_after), 1)
    try:
        with _interruptible(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "(?s)Kubernetes environment detected")  # told below
            jax.distributed.initialize(
                **explicit,
                initialization_timeout=seconds,
                shutdown_timeout_seconds=seconds,
                # Its own reaction is an abort after a page of log: the watch is to be first.
                heartbeat_timeout_seconds=4 * seconds + 60,
            )
    except (KeyError, OSError, RuntimeError, ValueError) as error:
        company.let_aborts()
        # Its ways to say that no cluster was found, or that JAX is in use already, as by a test.
        alone = ("should be defined", "must be called before")
        if not explicit and any(said in str(error) for said in alone):
            if "JOB_COMPLETION_INDEX" in os.environ and alone[0] in str(error):
                print(_NO_KUBERNETES, file=sys.stderr)
            return None
        tried = [f"{name}={os.environ[name]}" for name in _TELLING if name in os.environ]
        source = coordinator or ", ".join(tried) or "the environment"
        raise UserError(
            f"JAX cannot join the processes as told by {source}: {_one_line(error)}; without "
            "--coordinator, --processes and --process it asks the environment"
        ) from error
    if not company.start():
        company.let_aborts()
        return None
    return company


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends this process at once: Python would hear of it only after a long wait in C++."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # one ignored stays so
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _start_devices() -> None:
    """The processes tell each other of their devices: RunError where this one's do not start."""
    try:
        jax.devices()
    except Exception as error:  # the platform's plugin may raise anything
        raise RunError(
            f"the devices of {socket.gethostname()} cannot be started "
            f"(JAX_PLATFORMS={jax.config.jax_platforms or ''}): {_one_line(error)}"
        ) from error


def is_first_process() -> bool:
    """Whether this process writes reports, metrics and progress; true for one alone."""
    return jax.process_index() == 0


def run_on_first(name: str, action: Callable[[], None]) -> None:
    """The first process runs `action`; none goes on before it is done.

    What it raises ends all processes, with the same line. `name` is used once in a run.
    """
    if _company is None:
        action()
    elif is_first_process():
        action()
        _company.client.key_value_set(f"{_STORE}/done/{name}", "")
    else:
        _company.client.blocking_key_value_get(f"{_STORE}/done/{name}", FOREVER)


def check_same(name: str, value: Any) -> None:
    """Raises UserError unless every process has the value (JSON) of the first.

    It names the first key that differs. `name` is used once in a run.
    """
    if _company is None:
        return
    key, mine = f"{_STORE}/same/{name}", json.dumps(value)
    if is_first_process():
        _company.client.key_value_set(key, mine)
        return
    firsts = json.loads(_company.client.blocking_key_value_get(key, FOREVER))
    for differing, first, own in differences({name: firsts}, {name: json.loads(mine)}):
        raise UserError(
            f"{differing}: process {jax.process_index()} on {socket.gethostname()} has "
            f"{json.dumps(own)}, process 0 has {json.dumps(first)}; give all processes the same "
            "flags, and the same workdir and data on a shared file system"
        )


def key_value_store() -> Any:
    """The client of JAX's key-value store, which the processes share; None for one alone."""
    return None if _company is None else _company.client


def set_status(kept: Callable[[], str]) -> None:
    """What a lost process's message shall say of how far the run came; asked for when it is due."""
    if _company is not None:
        _company.kept = kept


def stop_requested(step: int) -> bool:
    """Whether all processes shall save after `step` and end, because one heard SIGTERM.

    Ctrl-C counts as SIGTERM, which the loop makes of it: JAX's service hears no other signal.
    Every process must ask after every step; False for one alone. The steps agree by
    `multihost_utils.reached_preemption_sync_point`.
    """
    return _company is not None and multihost_utils.reached_preemption_sync_point(step)


class _Company:
    """This process among the others: its signs of life, and its eye on theirs."""

    def __init__(self, lost_after: float) -> None:
        self.kept: Callable[[], str] = lambda: f"nothing was computed yet; {AGAIN}"
        self._limit = lost_after
        self._interval = min(lost_after / 10, 1.0)
        self._over = threading.Event()
        self._ending = threading.Lock()
        self._me = -1  # until all have met
        self._heard: dict[int, tuple[str, float]] = {}
        self._verdict: tuple[str, int] | None = None
        self._stderr = sys.stderr.fileno() if _has_descriptor(sys.stderr) else 2

    def start(self) -> bool:
        """Begins to beat and to watch; False where there are no others."""
        # jax has no public way to its key-value store; orbax takes the same one.
        from jax._src.distributed import global_state

        # Not by jax.process_count(), which starts the devices: that may fail, and is watched.
        self._me, count = global_state.process_id, global_state.num_processes
        self.client, self._address = global_state.client, global_state.coordinator_address
        if count == 1:
            return False
        # The first watches all, and all watch the first: others' deaths are heard of from it.
        watched = range(count) if self._me == 0 else (0,)
        self._heard = {k: ("", time.monotonic()) for k in watched if k != self._me}
        for work in (self._beat, self._watch):
            threading.Thread(target=work, daemon=True, name=work.__name__).start()
        return True

    def _beat(self) -> None:
        count = 0
        while not self._over.wait(self._interval):
            count += 1
            sign = f"{count} {socket.gethostname()}"
            try:
                self.client.key_value_set(f"{_STORE}/alive/{self._me}", sign, allow_overwrite=True)
                if end := self._posted():
                    self._verdict = end
                if self._me == 0:
                    signs = self.client.key_value_dir_get(f"{_STORE}/alive/")
                else:
                    signs = [("0", self.client.key_value_try_get(f"{_STORE}/alive/0"))]
            except jax.errors.JaxRuntimeError:  # not there yet, or the first process is gone
                continue
            for key, sign in signs:
                other = int(key.rpartition("/")[2])
                if other in self._heard and self._heard[other][0] != sign:
                    self._heard[other] = sign, time.monotonic()

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._over.wait(self._interval / 2):
            now = time.monotonic()
            if now - before > 2 * self._interval:  # this one was stopped, and could not hear them
                self._heard = {k: (sign, now) for k, (sign, _) in self._heard.items()}
            before = now
            lost = [k for k, (_, heard) in self._heard.items() if now - heard > self._limit]
            if self._verdict is None and lost:
                self._post(self._lost(lost), Interrupted.exit_code)
            if self._verdict is not None:
                self._end()

    def _lost(self, lost: list[int]) -> str:
        named = (f"{k} ({self._host(k)})" for k in lost)
        return (
            f"failed: process {', '.join(named)} is lost: no sign of life for {self._limit:g} s; "
            f"{self.kept()}"
        )

    def part(self) -> None:
        """The end of a run that went well, once all are there."""
        self.client.wait_at_barrier(f"{_STORE}/end", FOREVER)
        self._over.set()
        jax.distributed.shutdown()
        self.let_aborts()

    def fail(self, error: BaseException) -> None:
        """Ends all processes with what ended this one."""
        told = outcome(error)
        if told is None or told[1] == RunError.exit_code:
            # A collective with a lost process may raise anything: give the watch time to see it.
            self._limit = min(self._limit, _SUSPICIOUS)
            self._over.wait(self._limit + 3 * self._interval)
        if told is None:
            traceback.print_exception(error)
            told = f"failed: process {self._me}: {type(error).__name__}, see its log", 1
        self._over.set()
        self._post(*told)
        self._end()

    def _post(self, line: str, code: int) -> None:
        """Tells the others why all end, unless one did already: the first word is that of all."""

        def tell() -> None:
            with suppress(jax.errors.JaxRuntimeError):  # another was first
                self.client.key_value_set(f"{_STORE}/end/all", json.dumps([line, code]))
            ends.append(self._posted())

        ends = []
        self._verdict = (_in_time(tell) and ends[0]) or (line, code)

    def _posted(self) -> tuple[str, int] | None:
        found = self.client.key_value_dir_get(f"{_STORE}/end/")
        return tuple(json.loads(found[0][1])) if found else None

    def _end(self) -> None:
        """Ends this process with the verdict, whatever its main thread waits for."""
        if not self._ending.acquire(blocking=False):
            time.sleep(60)  # the other thread is at it
        line, code = self._verdict
        os.write(self._stderr, f"\n{line}\n".encode())
        if self._me == 0:  # the store ends with this process: the others need time to read it
            time.sleep(4 * self._interval)
        for child in multiprocessing.active_children():  # grain's, who would outlive this one
            child.terminate()
        sys.stdout.flush()
        os._exit(code)  # exit handlers would wait for the lost process

    def catch_aborts(self) -> None:
        """JAX aborts where it loses a process: makes that one line and an exit code.

        Python's own handlers would run too late: abort() does not return to the interpreter.
        """
        kind = ctypes.CFUNCTYPE(None, ctypes.c_int)
        self._handler = kind(self._aborted)  # kept: C holds no reference
        ctypes.CDLL(None).signal(signal.SIGABRT, self._handler)

    def let_aborts(self) -> None:
        """Gives SIGABRT its own meaning back."""
        signal.signal(signal.SIGABRT, signal.SIG_DFL)

    def _aborted(self, _: int) -> None:
        now, limit = time.monotonic(), self._limit
        self._limit = float("inf")  # the watch hears nobody from here on
        if self._verdict is None and self._me < 0:
            line = (
                f"failed: not all processes came together in {limit:g} s; "
                "start all of them, or give a longer --lost_after"
            )
            self._verdict = line, Interrupted.exit_code
        elif self._verdict is None and not _in_time(self._posted):
            # JAX aborts in the thread that brings the store's answers, so none comes any more.
            self._verdict = self._parted(now), Interrupted.exit_code
        if self._verdict is None:
            ctypes.CDLL(None).signal(signal.SIGABRT, None)  # an abort of its own: let it happen
            return
        self._end()

    def _parted(self, now: float) -> str:
        if self._me and not answers(self._address, 1.0):
            lost = f"process 0 ({self._host(0)}) is lost: {self._address} is gone"
        else:
            silent = [k for k, (_, at) in self._heard.items() if now - at > 3 * self._interval]
            named = ", ".join(f"process {k} ({self._host(k)})" for k in silent)
            lost = f"{named or 'another process'} is lost, or was started again by itself"
        return f"failed: {lost}; {self.kept()}"

    def _host(self, process: int) -> str:
        return self._heard[process][0].partition(" ")[2] or "never heard of"


_company: _Company | None = None


def _in_time(ask: Callable[[], Any]) -> bool:
    """Whether the store does it: one that is gone raises, or never answers."""
    done = []

    def work() -> None:
        with suppress(jax.errors.JaxRuntimeError):
            ask()
            done.append(True)

    asking = threading.Thread(target=work, daemon=True)
    asking.start()
    asking.join(_ANSWER)
    return bool(done)


def _one_line(error: Exception) -> str:
    return " ".join([f"{type(error).__name__}:", *str(error).split()])


def _has_descriptor(stream: Any) -> bool:
    try:
        return stream.fileno() >= 0
    except (AttributeError, OSError, ValueError):
        return False
