"""Who may call, by which name, and what every answer says."""

import base64
import hashlib
import json
import re

import pytest

from tests.serve.conftest import served
from tests.serve.known import KnownModel
from tests.serve.pictures import FACE
from vlfau_jax.errors import UserError
from vlfau_jax.serve.guard import HEADERS
from vlfau_jax.serve.options import ServeOptions


@pytest.fixture(scope="module")
def client():
    with served(KnownModel(), allow_host=("box.lan",)) as one:
        yield one


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        *((name, True) for name in ("127.0.0.1", "localhost", "LOCALHOST:80", "box.lan")),
        *((name, True) for name in ("192.168.0.9:8000", "box.lan:8000", "[::1]:8")),
        *((name, False) for name in ("evil.example", "localhost.evil.example", "box.lan.evil")),
        *((name, False) for name in ("127.0.0.1.nip.io", "localhost:x", "localhost:80:80", "")),
        *((name, False) for name in ("localhost:٣", "127.0.0.1@evil", "0x7f.1", "[::1", ":80")),
    ],
)
def test_only_addresses_and_own_names_are_hosts(client, host, allowed):
    """A name of a stranger's that leads here is DNS rebinding."""
    connection = client.raw(b"GET /api/model HTTP/1.1\r\nHost: %b\r\n\r\n" % host.encode())
    status = int(connection.recv(20).split()[1])
    connection.close()
    assert status == (200 if allowed else 421)


def test_a_request_has_one_host(client):
    for lines in (b"", b"Host: 127.0.0.1\r\nHost: evil.example\r\n"):
        connection = client.raw(b"GET / HTTP/1.1\r\n%b\r\n" % lines)
        assert connection.recv(20).split()[1] in (b"400", b"421")
        connection.close()


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Origin": "OWN"}, True),
        ({"Origin": "OWN", "Sec_Fetch_Site": "same-origin"}, True),
        ({"Sec_Fetch_Site": "none"}, True),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({"Origin": "http://127.0.0.1:1"}, False),
        ({"Origin": "http://localhost"}, False),
        ({"Sec_Fetch_Site": "cross-site"}, False),
        ({"Sec_Fetch_Site": "same-site"}, False),
        ({"Origin": "OWN", "Sec_Fetch_Site": "cross-site"}, False),
    ],
)
@pytest.mark.parametrize("path", ["/api/describe", "/card"])
def test_pages_of_other_origins_send_nothing(client, path, headers, allowed):
    given = {name: client.origin if value == "OWN" else value for name, value in headers.items()}
    status, answered, content = client.ask("POST", path, FACE, Content_Type="image/jpeg", **given)
    assert status == (200 if allowed else 403)
    assert allowed or "other origins" in json.loads(content)["error"]
    assert not any(name.lower().startswith("access-control") for name in answered)


def test_every_answer_has_the_headers(client):
    asked = [("GET", "/"), ("GET", "/none"), ("POST", "/"), ("POST", "/card")]
    for method, path in asked:
        status, headers, _ = client.ask(method, path)
        assert {name: headers[name] for name in HEADERS} == dict(HEADERS), (method, path, status)
        assert "Server" not in headers


def test_the_page_may_run_its_own_script_and_talk_to_its_own_server(client):
    status, headers, content = client.ask("GET", "/")
    assert status == 200
    code = re.findall(r"<script>(.*?)</script>", content.decode(), re.DOTALL)
    (digest,) = {base64.b64encode(hashlib.sha256(c.encode()).digest()).decode() for c in code}
    policy = dict(p.strip().split(" ", 1) for p in headers["Content-Security-Policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": f"'sha256-{digest}'",
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 65536}, "port=65536: give 0 to 65535"),
        ({"queue": 0}, "queue=0: give 1 to 4096"),
        ({"most_megabytes": 257}, "most_megabytes=257"),
        ({"timeout": 0.0}, "timeout=0.0"),
        ({"header_timeout": float("nan")}, "header_timeout"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"host": ""}, "--host is empty"),
        ({"allow_host": ("http://box",)}, "--allow_host='http://box': give a name without port"),
    ],
)
def test_options_have_bounds(options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        ServeOptions(**options)


def test_which_hosts_are_this_machine_alone():
    local = {"127.0.0.1", "127.9.9.9", "::1", "localhost"}
    others = {"0.0.0.0", "::", "192.168.0.1", "box.lan"}
    assert {host for host in local | others if ServeOptions(host=host).is_local} == local
