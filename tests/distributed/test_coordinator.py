"""Mistakes that last are told at once; what may pass is waited for."""

import socket

import pytest

from tests.processes import free_port
from vlfau_jax.distributed import coordinator
from vlfau_jax.distributed.coordinator import check_address, check_flags
from vlfau_jax.errors import UserError


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, 0.0, 0.5, 1e30])
@pytest.mark.parametrize("several", [True, False])
def test_seconds_that_cannot_be(seconds, several):
    flags = ("h:1", 2, 0) if several else (None, None, None)
    with pytest.raises(UserError, match=r"--lost_after=.*: give 1 second or more, at most"):
        check_flags(*flags, seconds)


@pytest.mark.parametrize(
    "address", ["h:0", "h:65536", "h:-1", "h:1e3", "h:", ":1", "h", "", "h:٣x"]
)
def test_addresses_that_cannot_be(address):
    with pytest.raises(UserError, match="give HOST:PORT"):
        check_flags(address, 2, 0, 10.0)


@pytest.mark.parametrize("processes", [0, -1, 10**9])
def test_numbers_of_processes_that_cannot_be(processes):
    with pytest.raises(UserError, match=rf"--processes={processes}: give 1 or more"):
        check_flags("h:1", processes, 0, 10.0)


@pytest.fixture
def names(monkeypatch):
    """Makes names resolve as given, each to the answers of its questions in turn."""
    answers, ask = {}, socket.getaddrinfo

    def resolve(host, *rest, **kind):
        if host not in answers:
            return ask(host, *rest, **kind)
        answer = answers[host].pop(0) if len(answers[host]) > 1 else answers[host][0]
        if isinstance(answer, OSError):
            raise answer
        return ask(answer, *rest, **kind)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(coordinator.time, "sleep", lambda _: None)
    return answers


UNKNOWN = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
AGAIN = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


@pytest.mark.parametrize("error", [UNKNOWN, AGAIN])
@pytest.mark.parametrize("process", [0, 1])
def test_a_name_that_is_never_resolved(names, error, process):
    names["nowhere"] = [error]
    with pytest.raises(UserError, match=r"nowhere is no name of a machine here \(.*\); give"):
        check_address("nowhere:1234", process, 0.05)


@pytest.mark.parametrize("process", [0, 1])
def test_a_name_that_appears_late(names, process):
    names["late"] = [UNKNOWN, AGAIN, UNKNOWN, "127.0.0.1"]
    check_address(f"late:{free_port()}", process, 60.0)


@pytest.mark.parametrize("host", ["a" * 300, "a..b", "é" * 70, "a b"])
def test_what_is_no_name(host):
    with pytest.raises(UserError, match="is no name of a machine here"):
        check_address(f"{host}:1234", 0, 0.0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", socket.gethostname(), "[::1]"])
def test_names_of_this_machine(host):
    if host == "[::1]" and not socket.has_ipv6:
        pytest.skip("no IPv6")
    check_address(f"{host}:{free_port()}", 0, 1.0)


def test_another_machine_is_not_process_0(names, monkeypatch):
    names["other"] = ["127.0.0.1"]
    monkeypatch.setattr(coordinator, "_is_local", lambda _: False)
    with socket.socket() as taken:  # what answers there is another program
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(coordinator, "_listen", lambda _: socket.create_server(("", 0)))
        monkeypatch.setattr(coordinator, "_ANSWERED_AFTER", 0.1)
        with pytest.raises(UserError, match=r"other is not this machine \(.*\), where process 0"):
            check_address(f"other:{port}", 0, 1.0)


def test_an_address_that_leads_here_by_way_of_another_machine(monkeypatch):
    monkeypatch.setattr(coordinator, "_is_local", lambda _: False)
    check_address(f"127.0.0.1:{free_port()}", 0, 1.0)
