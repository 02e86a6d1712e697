"""Checks whether there are several processes and whether they can connect as the flags say.

Done before JAX is asked, which would warn, wait or abort.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import time
from typing import Any

from vlfau_jax.errors import UserError

_LONGEST = 7 * 24 * 3600  # seconds
_MOST_PROCESSES = 100_000
_OWN_NAME_AFTER = 15.0  # seconds in which a machine may learn its own name
_ANSWERED_AFTER = 2.0  # seconds for a connection to oneself


def check_flags(
    coordinator: str | None, processes: int | None, process: int | None, lost_after: float
) -> None:
    """Raises UserError for impossible flags."""
    flags = {"coordinator": coordinator, "processes": processes, "process": process}
    missing = [f"--{name}" for name, value in flags.items() if value is None]
    if not 1 <= lost_after <= _LONGEST:  # NaN is not
        raise UserError(
            f"--lost_after={lost_after:g}: give 1 second or more, at most {_LONGEST} (a week)"
        )
    if len(missing) == 3:
        return
    if missing:
        raise UserError(
            f"{', '.join(missing)} must be given, too: --coordinator, --processes and --process "
            "are all given, or none"
        )
    if not 1 <= processes <= _MOST_PROCESSES:
        raise UserError(f"--processes={processes}: give 1 or more, at most {_MOST_PROCESSES}")
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
            _listen(int(port)).close()
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


def check_address(coordinator: str, process: int, seconds: float) -> None:
    """Raises UserError for a lasting mistake, with which JAX would wait for others in vain.

    Those are a name that is not resolved within `seconds`, and an address of process 0 that does
    not lead to it.
    """
    host, _, port = coordinator.rpartition(":")
    # Another machine's name may appear only when process 0 has started, as in Kubernetes.
    addresses = _resolve(coordinator, seconds if process else min(seconds, _OWN_NAME_AFTER))
    # What is no address of this machine may still lead here, by way of another one.
    if process == 0 and not any(_is_local(address) for address in addresses):
        with _listen(int(port)) as listener:
            if _leads_to(listener, coordinator):
                return
        raise UserError(
            f"--coordinator={coordinator}: {host} is not this machine ({socket.gethostname()}), "
            "where process 0 is; give its name or address"
        )


def _resolve(coordinator: str, seconds: float) -> list[tuple[Any, ...]]:
    """The addresses of the coordinator; UserError where there is none after `seconds`."""
    host, _, port = coordinator.rpartition(":")
    until = time.monotonic() + seconds
    while True:
        try:
            return socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # a label of more than 63 characters
            if time.monotonic() > until:
                reason = getattr(error, "strerror", None) or error
                raise UserError(
                    f"--coordinator={coordinator}: {host} is no name of a machine here ({reason}); "
                    "give the name or address of the machine of process 0"
                ) from None
        time.sleep(0.2)


def _is_local(address: tuple[Any, ...]) -> bool:
    family, kind, protocol, _, (host, _, *rest) = address
    try:
        with socket.socket(family, kind, protocol) as free:
            free.bind((host, 0, *rest))
    except OSError:
        return False
    return True


def _leads_to(listener: socket.socket, coordinator: str) -> bool:
    """Whether a connection to the address arrives at the listener."""
    host, _, port = coordinator.rpartition(":")
    listener.listen()
    listener.settimeout(_ANSWERED_AFTER)
    token = secrets.token_bytes(16)
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _ANSWERED_AFTER) as calling:
            calling.sendall(token)
            answered, _ = listener.accept()
            with answered:
                answered.settimeout(_ANSWERED_AFTER)
                return answered.recv(len(token), socket.MSG_WAITALL) == token
    except OSError:
        return False


def _listen(port: int) -> socket.socket:
    """A socket bound to the port; like JAX, by IPv6 where the machine has that."""
    for family in (socket.AF_INET6, socket.AF_INET):
        try:
            free = socket.socket(family)
            try:
                free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                free.bind(("", port))
            except OSError:
                free.close()
                raise
            return free
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
