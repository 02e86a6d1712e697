"""Checks whether there are several processes and whether they can connect as the flags say.

Done before JAX is asked, which would warn, wait or abort.
"""

from __future__ import annotations

import errno
import os
import socket
import time

from vlfau_jax.errors import UserError


def check_flags(
    coordinator: str | None, processes: int | None, process: int | None, lost_after: float
) -> None:
    """Raises UserError for impossible flags."""
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


def expects_several_processes(processes: int | None) -> bool:
    """Whether JAX must be asked at all: the environment may state that there is one process."""
    if processes is not None:
        return processes > 1
    e = os.environ
    counts = [e[name] for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE") if name in e]
    if "KUBERNETES_SERVICE_HOST" in e and not counts:
        # In a pod of no Indexed Job, jax's detection warns or fails. TPU pods name their workers.
        return "JOB_COMPLETION_INDEX" in e or "TPU_WORKER_HOSTNAMES" in e
    return not counts or any(count != "1" for count in counts)


def check_reachable(coordinator: str, process: int, seconds: float) -> None:
    """Raises UserError where JAX would abort: a port that is taken, or without a listener."""
    host, _, port = coordinator.rpartition(":")
    if process == 0:
        try:
            _bind(int(port))
        except OSError as error:
            raise UserError(
                f"--coordinator={coordinator}: port {port} of this machine cannot be used "
                f"({error.strerror}); give another"
            ) from None
        return
    until = time.monotonic() + seconds
    while not is_listening(coordinator, 1.0):
        if time.monotonic() > until:
            raise UserError(
                f"--coordinator={coordinator}: no answer from {host} in {seconds:g} s; start "
                "process 0 there, or give a longer --lost_after"
            )
        time.sleep(0.2)


def _bind(port: int) -> None:
    """Raises OSError where the port is taken; like JAX, by IPv6 where the machine has that."""
    for family in (socket.AF_INET6, socket.AF_INET):
        try:
            with socket.socket(family) as free:
                free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                return free.bind(("", port))
        except OSError as error:
            missing = error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
            if family == socket.AF_INET or not missing:
                raise


def is_listening(address: str, seconds: float) -> bool:
    """Whether a connection to HOST:PORT succeeds within `seconds`."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), seconds).close()
    except OSError:
        return False
    return True
