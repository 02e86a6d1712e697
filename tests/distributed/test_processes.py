"""Processes that fail to start, are started again, or are stopped for a while."""

import errno
import signal
import socket
import time
from contextlib import contextmanager

import pytest

from tests.processes import Process, free_port, wait_until
from vlfau_jax.distributed.coordinator import check_reachable, is_listening
from vlfau_jax.errors import UserError

pytestmark = pytest.mark.slow

MEMBER = """
import sys, time
from vlfau_jax.errors import UserError, outcome
from vlfau_jax.distributed.processes import process_group, run_on_first
address, count, lost_after, action, me = sys.argv[1:]
alone = (None, None, None)
several = (address, int(count), int(me))
try:
    flags = several if address else alone
    with process_group(*flags, lost_after=float(lost_after), preemptible=False):
        print("connected", flush=True)
        exec(action)
except (Exception, KeyboardInterrupt) as error:
    if outcome(error) is None:
        raise
    line, code = outcome(error)
    print(line)
    sys.exit(code)
"""


class Members:
    """Processes that connect, then run an action, a line of Python; each has a log."""

    def __init__(self, folder, count, lost_after, action):
        self._address = f"127.0.0.1:{free_port()}" if count > 1 else ""
        self._argv = [self._address, str(count), str(lost_after), action]
        self._folder = folder
        self.all = []

    def start(self, me, **env):
        argv = [*self._argv, str(me)]
        self.all.append(Process(argv, 1, self._folder / "logs", ("-c", MEMBER), **env))
        return self.all[-1]

    def connected(self):
        for process in self.all:
            process.wait_for_log("connected")

    def listening(self):
        wait_until(lambda: is_listening(self._address, 1.0), "nothing listens", self.all[0])


@contextmanager
def members(folder, count, lost_after, action="pass"):
    group = Members(folder, count, lost_after, action)
    try:
        yield group
    finally:
        for process in group.all:
            process.kill()


def end(process):
    """Its exit code and the line with the reason; JAX's log may continue around it."""
    code = process.wait()
    lines = process.log.splitlines()
    return code, "".join(line for line in lines if line.startswith(("error: ", "failed: ")))


def test_a_process_started_again_by_itself_ends_all_with_one_line(tmp_path):
    """JAX aborts all that it finds: among the others, and where its store is."""
    with members(tmp_path, 3, 10, "time.sleep(100)") as group:
        first, second, third = (group.start(k) for k in range(3))
        group.connected()
        second.kill()
        group.start(1)
        for process in first, third:
            code, line = end(process)
            assert code == 75 and "process" in line
            assert "is lost, or was started again by itself; nothing was computed yet" in line


def test_an_abort_of_its_own_is_no_interruption(tmp_path):
    with members(tmp_path, 2, 3, "int(me) or __import__('os').abort(); time.sleep(100)") as group:
        first, second = group.start(0), group.start(1)
        assert first.wait() == -signal.SIGABRT
        assert end(second)[0] == 75


def test_devices_that_do_not_start_end_all_with_their_reason(tmp_path):
    with members(tmp_path, 2, 3) as group:
        both = group.start(0), group.start(1, JAX_PLATFORMS="cuda")
        ends = [end(process) for process in both]
        assert ends[0] == ends[1]
        assert ends[0][0] == 1 and "cannot be started (JAX_PLATFORMS=cuda): " in ends[0][1]
        assert "Traceback" not in group.all[1].log


def test_all_stopped_for_longer_than_the_timeout_go_on(tmp_path):
    with members(tmp_path, 2, 3, "time.sleep(5)") as group:
        both = group.start(0), group.start(1)
        group.connected()
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for process in both:
                process.send(number)
            if number == signal.SIGSTOP:
                time.sleep(4)
        assert [end(process) for process in both] == [(0, "")] * 2


def test_two_that_fail_at_once_end_with_the_same_line(tmp_path):
    action = "run_on_first('it', lambda: None); raise UserError('by ' + me)"
    with members(tmp_path, 2, 5, action) as group:
        both = group.start(0), group.start(1)
        ends = [end(process) for process in both]
        assert ends[0] == ends[1] and ends[0][0] == 2 and "error: by " in ends[0][1]


def test_ctrl_c_ends_a_process_that_waits_for_the_others(tmp_path):
    with members(tmp_path, 2, 60) as group:
        first = group.start(0)
        group.listening()
        first.send(signal.SIGINT)
        assert end(first) == (-signal.SIGINT, "")


@pytest.mark.parametrize(
    ("env", "code", "message"),
    [
        (
            {"OMPI_MCA_orte_hnp_uri": "x;tcp://h:1"},
            2,
            "described by OMPI_MCA_orte_hnp_uri=x;tcp://h:1: ValueError: invalid literal",
        ),
        (
            {"OMPI_MCA_orte_hnp_uri": "4096.0;tcp://h:1", "OMPI_COMM_WORLD_RANK": "0"},
            2,
            "KeyError: 'OMPI_COMM_WORLD_SIZE'",
        ),
        (
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"},
            0,
            "JOB_COMPLETION_INDEX: continuing as a single process",
        ),
    ],
)
def test_an_environment_that_jax_cannot_use_is_one_line(tmp_path, env, code, message):
    with members(tmp_path, 1, 1) as group:
        process = group.start(0, **env)
        assert end(process)[0] == code
        lines = process.log.replace("connected\n", "").splitlines()
        assert len(lines) == 1 and message in lines[0]


@pytest.mark.parametrize("call", ["socket", "bind"])
def test_a_machine_without_ipv6_has_its_ports_all_the_same(monkeypatch, call):
    class Old(socket.socket):
        def __init__(self, family, *rest, **kwargs):
            if family == socket.AF_INET6 and call == "socket":
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, *rest, **kwargs)

        def bind(self, address):
            if self.family == socket.AF_INET6:
                raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
            super().bind(address)

    port = free_port()
    with socket.socket() as taken:
        monkeypatch.setattr(socket, "socket", Old)
        check_reachable(f"h:{port}", 0, 1.0)
        taken.bind(("", port))
        taken.listen()
        with pytest.raises(UserError, match=f"port {port} of this machine cannot"):
            check_reachable(f"h:{port}", 0, 1.0)
