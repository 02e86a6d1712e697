"""Several processes that train together: how they connect, and what the first decides for all.

JAX's runtime connects the processes and moves the arrays; nothing here schedules anything. What
JAX leaves open is settled through its key-value store, which the first process keeps: what that
process decides alone, that all see the same files, and the end, where one for all is needed
(`heartbeat`). All processes need the same workdir, data set and warm starts on a file system that
they share; workdir and data set may also be in a bucket.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax.experimental import multihost_utils

from vlfau_jax.distributed.coordinator import (
    check_address,
    check_flags,
    check_reachable,
    expects_several_processes,
)
from vlfau_jax.distributed.differences import differences
from vlfau_jax.distributed.heartbeat import FOREVER, STORE, Heartbeat
from vlfau_jax.errors import RunError, UserError

# By these JAX recognizes who started the processes.
_CLUSTER_VARIABLES = (
    "OMPI_MCA_orte_hnp_uri",
    "SLURM_JOB_ID",
    "KUBERNETES_SERVICE_HOST",
    "TPU_WORKER_HOSTNAMES",
)
_NO_KUBERNETES = (
    "JOB_COMPLETION_INDEX: continuing as a single process, because JAX asks the Python package "
    "kubernetes for other pods, which is not installed; to connect them, give --coordinator, "
    "--processes and --process"
)

_heartbeat: Heartbeat | None = None  # None where this process is the only one


@contextmanager
def process_group(
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    *,
    lost_after: float,
    preemptible: bool,
) -> Iterator[None]:
    """Makes this process one of several while a verb runs; does nothing for a single process.

    It must come before JAX computes anything. At the end all wait for each other. An exception in
    one process ends all with its line and exit code, without unwinding further.

    Args:
        coordinator: HOST:PORT where process 0 can be reached by all.
        processes: how many there are.
        process: which one this is, from 0.
        lost_after: seconds to wait for the others at the start, and later for their heartbeats.
        preemptible: whether SIGTERM is left to `stop_requested`.

    Where the first three are all None, JAX is asked for what it knows of Slurm, Open MPI, Cloud TPU
    and Kubernetes.

    Raises:
        UserError: the flags are impossible, or the coordinator is out of reach.
        RunError: a process's devices cannot be started (in all processes).
    """
    global _heartbeat
    check_flags(coordinator, processes, process, lost_after)
    if not expects_several_processes(processes):
        yield
        return
    _heartbeat = _connect(coordinator, processes, process, lost_after, preemptible)
    try:
        if _heartbeat is not None:
            _start_devices()
        yield
        if _heartbeat is not None:
            _heartbeat.finish()
    except BaseException as error:
        if _heartbeat is not None:
            _heartbeat.fail(error)  # does not return
        raise
    finally:
        _heartbeat = None


def _connect(
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    lost_after: float,
    preemptible: bool,
) -> Heartbeat | None:
    """Starts JAX's distributed runtime; None where this process turns out to be the only one."""
    jax.config.update("jax_enable_preemption_service", preemptible)
    explicit = {}
    if coordinator is not None:
        check_address(coordinator, process, lost_after)
        check_reachable(coordinator, process, lost_after)
        explicit = {
            "coordinator_address": coordinator,
            "num_processes": processes,
            "process_id": process,
            "cluster_detection_method": "deactivate",  # it would hide all GPUs but one
        }
    heartbeat = Heartbeat(lost_after)
    heartbeat.handle_aborts()
    seconds = max(int(lost_after), 1)
    try:
        with _interruptible(), warnings.catch_warnings():
            # Printed below, in the words of this package's flags.
            warnings.filterwarnings("ignore", "(?s)Kubernetes environment detected")
            jax.distributed.initialize(
                **explicit,
                initialization_timeout=seconds,
                shutdown_timeout_seconds=seconds,
                # Its own reaction is an abort after a page of log: `Heartbeat` is to be first.
                heartbeat_timeout_seconds=4 * seconds + 60,
            )
    except (KeyError, OSError, RuntimeError, ValueError) as error:
        heartbeat.restore_aborts()
        # JAX's messages where it found no cluster, or is in use already, as by a test.
        no_cluster, in_use = "should be defined", "must be called before"
        if not explicit and any(message in str(error) for message in (no_cluster, in_use)):
            if "JOB_COMPLETION_INDEX" in os.environ and no_cluster in str(error):
                print(_NO_KUBERNETES, file=sys.stderr)
            return None
        found = [f"{name}={os.environ[name]}" for name in _CLUSTER_VARIABLES if name in os.environ]
        source = coordinator or ", ".join(found) or "the environment"
        raise UserError(
            f"JAX cannot connect the processes described by {source}: {_one_line(error)}; without "
            "--coordinator, --processes and --process it asks the environment"
        ) from error
    if not heartbeat.start():
        heartbeat.restore_aborts()
        return None
    return heartbeat


@contextmanager
def _interruptible() -> Iterator[None]:
    """Lets Ctrl-C end this process at once: Python would handle it only after a long wait in C++.

    A signal that is ignored stays so.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _start_devices() -> None:
    """Exchanges the processes' devices: RunError where this one's do not start."""
    try:
        jax.devices()
    except Exception as error:  # the platform's plugin may raise anything
        raise RunError(
            f"the devices of {socket.gethostname()} cannot be started "
            f"(JAX_PLATFORMS={jax.config.jax_platforms or ''}): {_one_line(error)}"
        ) from error


def is_first_process() -> bool:
    """Whether this process writes reports, metrics and progress; true for a single one."""
    return jax.process_index() == 0


def run_on_first(name: str, action: Callable[[], None]) -> None:
    """Runs `action` in the first process; the others wait until it is done.

    What it raises ends all processes, with the same line. `name` is used once in a run.
    """
    if _heartbeat is None:
        action()
    elif is_first_process():
        action()
        _heartbeat.client.key_value_set(f"{STORE}/done/{name}", "")
    else:
        _heartbeat.client.blocking_key_value_get(f"{STORE}/done/{name}", FOREVER)


def check_same(name: str, value: Any) -> None:
    """Raises UserError unless every process has the value (JSON) of the first.

    The message names the first key that differs. `name` is used once in a run.
    """
    if _heartbeat is None:
        return
    key, own = f"{STORE}/same/{name}", json.dumps(value)
    if is_first_process():
        _heartbeat.client.key_value_set(key, own)
        return
    first = json.loads(_heartbeat.client.blocking_key_value_get(key, FOREVER))
    for differing, theirs, ours in differences({name: first}, {name: json.loads(own)}):
        raise UserError(
            f"{differing}: process {jax.process_index()} on {socket.gethostname()} has "
            f"{json.dumps(ours)}, process 0 has {json.dumps(theirs)}; give all processes the same "
            "flags, and the same workdir and data on a shared file system"
        )


def key_value_store() -> Any:
    """The client of JAX's key-value store, which the processes share; None for a single one."""
    return None if _heartbeat is None else _heartbeat.client


def set_status(status: Callable[[], str]) -> None:
    """Sets how far the run came, for the line about a lost process; called when that is due."""
    if _heartbeat is not None:
        _heartbeat.status = status


@contextmanager
def before_exit(action: Callable[[], None]) -> Iterator[None]:
    """Calls `action` if the end of another process ends this one meanwhile, from another thread."""
    if _heartbeat is None:
        yield
        return
    _heartbeat.before_exit = action
    try:
        yield
    finally:
        if _heartbeat is not None:
            _heartbeat.before_exit = lambda: None


def stop_requested(step: int) -> bool:
    """Whether all processes must save after `step` and end, because one received SIGTERM.

    Ctrl-C counts as SIGTERM: the training loop sends itself that signal, the only one that JAX's
    service handles. Every process must ask after every step; False for a single one. The processes
    agree on the step by `multihost_utils.reached_preemption_sync_point`.
    """
    return _heartbeat is not None and multihost_utils.reached_preemption_sync_point(step)


def _one_line(error: Exception) -> str:
    return " ".join([f"{type(error).__name__}:", *str(error).split()])
