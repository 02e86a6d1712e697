"""Several processes that train as one: how they meet, who writes, and how a lost one is noticed.

JAX's runtime connects the processes and moves the arrays; nothing here schedules anything. What
JAX leaves open is settled through its key-value store, which the first process keeps: what that
process decides alone, that all see the same files, and the end, where one for all is needed. All
processes need the same workdir, data set and warm starts on a file system that they share.

A process that dies leaves the others waiting in a collective inside C++, which Python cannot
interrupt. So each gives a sign of life in the store from a thread of its own, another thread looks
for those of the others, and ends this process with one line where they stop coming. The death of
the first process ends the store, too: then JAX aborts every other process at once, after a long
log, and the line is written from the handler of that abort.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import jax
from jax.experimental import multihost_utils

from vlfau_jax.errors import Interrupted, RunError, UserError, outcome
from vlfau_jax.sharding.differences import differences

AGAIN = "start all processes again with --resume"
_SUSPICIOUS = 10.0  # seconds of silence that explain a collective which failed
_STORE = "vlfau_jax"
FOREVER = 7 * 24 * 3600 * 1000  # milliseconds; the watch ends what waits for a lost process


@contextmanager
def joined(
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
        preemptible: whether SIGTERM becomes a question, `asked_to_end`.

    Where the first three are all None, JAX is asked for what it knows of Slurm, Open MPI, Cloud TPU
    and Kubernetes. Raises UserError for flags that cannot be, and a coordinator out of reach.
    """
    global _company
    _check(coordinator, processes, process, lost_after)
    if not _several(processes):
        yield
        return
    _company = _meet(coordinator, processes, process, lost_after, preemptible)
    try:
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
        _reach(coordinator, process, lost_after)
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
        jax.distributed.initialize(
            **explicit,
            initialization_timeout=seconds,
            shutdown_timeout_seconds=seconds,
            # Its own reaction is an abort after a page of log: the watch is to be first.
            heartbeat_timeout_seconds=4 * seconds + 60,
        )
    except (ValueError, RuntimeError) as error:
        company.let_aborts()
        # Its ways to say that no cluster was found, or that JAX is in use already, as by a test.
        alone = ("should be defined", "must be called before")
        if not explicit and any(said in str(error) for said in alone):
            return None
        raise UserError(f"JAX cannot join the processes: {' '.join(str(error).split())}") from error
    if jax.process_count() == 1:
        company.let_aborts()
        return None
    company.start()
    return company


def is_first() -> bool:
    """Whether this process writes reports, metrics and progress; true for one alone."""
    return jax.process_index() == 0


def first_does(name: str, action: Callable[[], None]) -> None:
    """The first process runs `action`; none goes on before it is done.

    What it raises ends all processes, with the same line. `name` is used once in a run.
    """
    if _company is None:
        action()
    elif is_first():
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
    if is_first():
        _company.client.key_value_set(key, mine)
        return
    firsts = json.loads(_company.client.blocking_key_value_get(key, FOREVER))
    for differing, first, own in differences({name: firsts}, {name: json.loads(mine)}):
        raise UserError(
            f"{differing}: process {jax.process_index()} on {socket.gethostname()} has "
            f"{json.dumps(own)}, process 0 has {json.dumps(first)}; give all processes the same "
            "flags, and the same workdir and data on a shared file system"
        )


def store() -> Any:
    """The client of JAX's key-value store, which the processes share; None for one alone."""
    return None if _company is None else _company.client


def note(kept: Callable[[], str]) -> None:
    """What a lost process's message shall say of how far the run came; asked for when it is due."""
    if _company is not None:
        _company.kept = kept


def asked_to_end(step: int) -> bool:
    """Whether all processes shall save after `step` and end, because one heard SIGTERM.

    Every process must ask after every step; False for one alone. The steps agree by
    `multihost_utils.reached_preemption_sync_point`.
    """
    return _company is not None and multihost_utils.reached_preemption_sync_point(step)


class _Company:
    """This process among the others: its signs of life, and its eye on theirs."""

    def __init__(self, lost_after: float) -> None:
        self.kept: Callable[[], str] = lambda: f"nothing was computed yet; {AGAIN}"
        self._limit = lost_after
        self._interval = min(lost_after / 10, 2.0)
        self._over = threading.Event()
        self._ending = threading.Lock()
        self._me = -1  # until all have met
        self._heard: dict[int, tuple[str, float]] = {}
        self._verdict: tuple[str, int] | None = None
        self._stderr = sys.stderr.fileno() if _has_descriptor(sys.stderr) else 2

    def start(self) -> None:
        """Begins to beat and to watch."""
        # jax has no public way to its key-value store; orbax takes the same one.
        from jax._src import distributed

        self.client = distributed.global_state.client
        self._me, self._all = jax.process_index(), range(jax.process_count())
        self._address = distributed.global_state.coordinator_address
        # The first watches all, and all watch the first: others' deaths are heard of from it.
        watched = self._all if self._me == 0 else (0,)
        self._heard = {k: ("", time.monotonic()) for k in watched if k != self._me}
        for work in (self._beat, self._watch):
            threading.Thread(target=work, daemon=True, name=work.__name__).start()

    def _beat(self) -> None:
        count = 0
        while not self._over.wait(self._interval):
            count += 1
            sign = f"{count} {socket.gethostname()}"
            try:
                self.client.key_value_set(f"{_STORE}/alive/{self._me}", sign, allow_overwrite=True)
                if end := self.client.key_value_dir_get(f"{_STORE}/end/"):
                    self._verdict = tuple(json.loads(end[0][1]))
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
        while not self._over.wait(self._interval / 2):
            if self._verdict is None and (lost := self._silent()):
                self._post(self._lost(lost), Interrupted.exit_code)
            if self._verdict is not None:
                self._end()

    def _silent(self) -> list[int]:
        now = time.monotonic()
        return [k for k, (_, heard) in self._heard.items() if now - heard > self._limit]

    def _lost(self, lost: list[int]) -> str:
        named = (f"{k} ({self._heard[k][0].partition(' ')[2] or 'never heard of'})" for k in lost)
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
        """Tells the others why all end; a store that is gone cannot hold this up."""
        self._verdict = line, code

        def tell() -> None:
            # It raises where another was first, or the store is gone.
            with suppress(jax.errors.JaxRuntimeError):
                self.client.key_value_set(f"{_STORE}/end/all", json.dumps([line, code]))

        post = threading.Thread(target=tell, daemon=True)
        post.start()
        post.join(self._interval)

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
        """JAX aborts where it loses the first process: makes that one line and an exit code.

        Python's own handlers would run too late: abort() does not return to the interpreter.
        """
        kind = ctypes.CFUNCTYPE(None, ctypes.c_int)
        self._handler = kind(self._aborted)  # kept: C holds no reference
        ctypes.CDLL(None).signal(signal.SIGABRT, self._handler)

    def let_aborts(self) -> None:
        """Gives SIGABRT its own meaning back."""
        signal.signal(signal.SIGABRT, signal.SIG_DFL)

    def _aborted(self, _: int) -> None:
        if self._verdict is None and self._me < 0:
            line = (
                f"failed: not all processes came together in {self._limit:g} s; "
                "start all of them, or give a longer --lost_after"
            )
            self._verdict = line, Interrupted.exit_code
        elif self._verdict is None and self._me and not _answers(self._address, 1.0):
            self._verdict = self._gone(), Interrupted.exit_code
        if self._verdict is None:
            ctypes.CDLL(None).signal(signal.SIGABRT, None)  # an abort of its own: let it happen
            return
        self._end()

    def _gone(self) -> str:
        host = self._heard[0][0].partition(" ")[2]
        return f"failed: process 0 ({host}) is lost: {self._address} is gone; {self.kept()}"


_company: _Company | None = None


def _check(
    coordinator: str | None, processes: int | None, process: int | None, lost_after: float
) -> None:
    """UserError for flags that cannot be."""
    flags = {"coordinator": coordinator, "processes": processes, "process": process}
    missing = [f"--{name}" for name, value in flags.items() if value is None]
    if lost_after < 1:
        raise UserError(f"--lost_after={lost_after:g}: give 1 second or more")
    if len(missing) == 3:
        return
    if missing:
        raise UserError(
            f"{', '.join(missing)} must be given, too: --coordinator, --processes and --process "
            "are all given, or none"
        )
    if processes < 1:
        raise UserError(f"--processes={processes}: give 1 or more")
    if not 0 <= process < processes:
        raise UserError(f"--process={process}: give 0 to {processes - 1} with this --processes")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(f"--coordinator={coordinator}: give HOST:PORT, as in node01:9876")


def _several(processes: int | None) -> bool:
    """Whether JAX need be asked at all: an environment may plainly speak of one process."""
    if processes is not None:
        return processes > 1
    e = os.environ
    counts = [e[name] for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE") if name in e]
    if "KUBERNETES_SERVICE_HOST" in e and not counts:
        # In a pod of no Indexed Job, jax's detection warns or fails. TPU pods name their workers.
        return "JOB_COMPLETION_INDEX" in e or "TPU_WORKER_HOSTNAMES" in e
    return not counts or any(count != "1" for count in counts)


def _reach(coordinator: str, process: int, seconds: float) -> None:
    """UserError, where JAX would abort: a port that is taken, or nobody who answers at it."""
    host, _, port = coordinator.rpartition(":")
    if process == 0:
        with socket.socket(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET) as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                free.bind(("", int(port)))
            except OSError as error:
                raise UserError(
                    f"--coordinator={coordinator}: port {port} of this machine cannot be used "
                    f"({error.strerror}); give another"
                ) from None
        return
    until = time.monotonic() + seconds
    while not _answers(coordinator, 1.0):
        if time.monotonic() > until:
            raise UserError(
                f"--coordinator={coordinator}: no answer from {host} in {seconds:g} s; start "
                "process 0 there, or give a longer --lost_after"
            )
        time.sleep(0.2)


def _answers(address: str, seconds: float) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), seconds).close()
    except OSError:
        return False
    return True


def _has_descriptor(stream: Any) -> bool:
    try:
        return stream.fileno() >= 0
    except (AttributeError, OSError, ValueError):
        return False
