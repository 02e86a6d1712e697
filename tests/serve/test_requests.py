"""What clients send: pictures of every kind of wrong, paths, slow bytes. Nothing is read of the
disk, and every request ends."""

import json
import socket
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serve.conftest import served
from tests.serve.known import KnownModel
from tests.serve.pictures import FACE, malformed, png
from tests.serve.test_describer import until
from vlfau_jax.inference.explained import WordMaps
from vlfau_jax.serve.connection import MOST_CONNECTIONS


@pytest.fixture(scope="module")
def client():
    with served(KnownModel(), most_megabytes=1) as one:
        yield one


@pytest.mark.parametrize("path", ["/api/describe", "/card"])
@pytest.mark.parametrize("name", malformed())
def test_what_is_no_picture_is_refused_in_a_line(client, path, name):
    status, headers, content = client.ask("POST", path, malformed()[name], Content_Type="image/png")
    assert (status, headers["Content-Type"]) == (400, "application/json")
    text = json.loads(content)["error"]
    assert text.startswith("not read: ") and "\n" not in text and "passwd" not in text


def test_a_bomb_is_refused_by_its_declared_size(client, monkeypatch):
    """100 megapixels in a hundred kilobytes: nothing of it is decoded."""
    from vlfau_jax.data.raw import decoding

    monkeypatch.setattr(decoding, "_decode_by_opencv", None)
    monkeypatch.setattr(decoding.Image.Image, "load", None)
    bomb = png(10_000, 10_000)
    assert len(bomb) < 200_000
    status, answer = client.describe(bomb, kind="image/png")
    assert status == 413
    assert answer["error"] == "not read: 10000 by 10000 pixels; at most 64000000 are read"


def test_large_files_are_refused_declared_or_not(client):
    data = FACE + bytes(1 << 20)
    status, answer = client.describe(data)
    assert (status, answer["error"]) == (413, "more than 1 MB; give a smaller picture")
    chunks = (data[at : at + 65536] for at in range(0, len(data), 65536))
    assert client.describe(chunks)[0] == 413, "sent in chunks, whose sum nobody declared"
    assert client.describe(FACE + bytes((1 << 20) - len(FACE)))[0] == 200


@pytest.mark.parametrize("kind", ["", "text/plain", "multipart/form-data", "image/svg+xml", "x"])
def test_other_content_types_are_refused(client, kind):
    """Those that a page may send without being allowed to are among them."""
    status, answer = client.describe(FACE, kind=kind)
    assert status == 415 and "image/jpeg" in answer["error"]
    assert client.describe(FACE, kind="IMAGE/JPEG; q=1")[0] == 200


@pytest.mark.parametrize("query", ["?maps=yes", "?maps=", "?maps=1", "?maps=true&maps=true"])
def test_a_wrong_query_is_refused(client, query):
    assert client.describe(FACE, query)[0] == 400


TRICKS = (
    "/../../../../etc/passwd",
    "/..%2f..%2fetc%2fpasswd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "//etc/passwd",
    "/file:///etc/passwd",
    "/etc/passwd%00.jpg",
    "/card/../../etc/passwd",
    "/static/../config.json",
    "/api/describe/",
    "/openapi.json/..",
    "/.git/config",
    "/%ff%fe",
    "/\\..\\..\\etc",
    "http://evil.example/",
    "*",
)


@pytest.mark.parametrize("path", TRICKS)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "TRACE", "CONNECT", "OPTIONS"])
def test_no_path_leads_to_a_file(client, method, path):
    connection = client.raw(
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
    )
    with connection:
        answer = connection.makefile("rb").read()
    status = int(answer.split()[1])
    assert status in (400, 404), answer[:200]
    assert b"root:" not in answer and b"[core]" not in answer


def test_other_methods_are_named(client):
    for path, wanted in (("/", "GET, HEAD"), ("/card", "POST")):
        status, headers, content = client.ask("DELETE", path)
        assert (status, sorted(headers["Allow"].split(", "))) == (405, wanted.split(", "))
        assert "error" in json.loads(content)


@settings(max_examples=60)
@given(data=st.data())
def test_whatever_bytes_come_the_server_answers_or_hangs_up(client, data):
    start = st.sampled_from((b"", b"GET ", b"POST /card HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: "))
    sent = data.draw(start) + data.draw(st.binary(max_size=200))
    with client.raw(sent) as connection:
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").read()
    assert not answer or answer.startswith(b"HTTP/1.1 4") or b" / " in sent, answer
    assert client.ask("GET", "/api/model")[0] == 200


@settings(max_examples=60)
@given(st.binary(max_size=300), st.sampled_from((b"", *malformed().values(), FACE, png(9, 9))))
def test_whatever_picture_comes_the_answer_is_the_documented(client, tail, head):
    status, answer = client.describe(head + tail, kind="application/octet-stream")
    assert status in (200, 400, 413)
    assert ("error" in answer) == (status != 200)


def test_headers_that_do_not_end_are_not_waited_for():
    with served(KnownModel(), header_timeout=0.2) as client:
        slow = [client.raw(b"GET / HTTP/1.1\r\nHost: 127") for _ in range(30)]
        idle = [client.raw() for _ in range(30)]
        dripping = client.raw(b"GET / HTTP/1.1\r\n")
        gone = threading.Event()

        def drip():
            try:
                while not gone.wait(0.05):
                    dripping.sendall(b"X: y\r\n")
            except OSError:
                gone.set()

        thread = threading.Thread(target=drip)
        thread.start()
        assert client.describe(FACE)[0] == 200, "others are answered meanwhile"
        for connection in (*slow, *idle):
            assert ended(connection)
        gone.wait()
        thread.join()
        dripping.close()
        until(lambda: not client.server.server_state.connections)


def ended(connection):
    """Whether the server hung up; what it said before is in the way."""
    with connection:
        try:
            while connection.recv(65536):
                pass
        except ConnectionError:
            pass
    return True


def test_a_body_that_does_not_end_is_not_waited_for():
    with served(KnownModel(), timeout=0.3, queue=1) as client:
        head = b"POST /card HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\n"
        with client.raw(head + b"Content-Length: 1000\r\n\r\nabc") as connection:
            answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 408 ") and b"longer than 0.3 seconds" in answer
        assert client.describe(FACE)[0] == 200, "its place is free"


def test_an_answer_that_is_not_taken_is_thrown_away():
    model = KnownModel()
    words = tuple(f" w{k}" for k in range(40))
    large = WordMaps(words, np.full((40, 64, 64), 1 / 4096, np.float32))
    object.__setattr__(model.explanation, "global_words", large)
    with served(model, header_timeout=0.3) as client:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", client.port))
        head = b"POST /api/describe?maps=true HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        head += b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(FACE)
        for _ in range(8):
            connection.sendall(head + FACE)
        until(lambda: client.describer.runs)
        until(lambda: not client.server.server_state.connections)
        connection.close()


def test_too_many_connections_are_told_so():
    with served(KnownModel()) as client:
        many = [client.raw() for _ in range(MOST_CONNECTIONS)]
        until(lambda: len(client.server.server_state.connections) == MOST_CONNECTIONS)
        with client.raw() as connection:
            answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 503 ") and b"Retry-After: " in answer
        for connection in many:
            connection.close()
        until(lambda: not client.server.server_state.connections)
        assert client.ask("GET", "/api/model")[0] == 200
