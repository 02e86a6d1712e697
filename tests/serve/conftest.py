"""A served model that is quick and known, and a server of it that listens."""

import http.client
import json
import socket
import threading
from contextlib import contextmanager

import pytest

pytest.importorskip("uvicorn", reason="no uvicorn: pip install -r requirements-test.txt")

import uvicorn

from tests.serve.known import KnownModel
from vlfau_jax.serve.options import ServeOptions
from vlfau_jax.serve.server import uvicorn_config


@pytest.fixture
def model():
    return KnownModel()


class Client:
    """Requests to a server on a port of this machine, each by a connection of its own."""

    def __init__(self, port):
        self.port = port
        self.origin = f"http://127.0.0.1:{port}"

    def ask(self, method, path, body=None, **headers):
        """The status, the headers and the content of an answer."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body, names)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def describe(self, picture, query="", kind="image/jpeg"):
        """The status and the JSON about a picture."""
        status, _, content = self.ask("POST", f"/api/describe{query}", picture, Content_Type=kind)
        return status, json.loads(content)

    def raw(self, data=b""):
        """A connection on which bytes were sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=120)
        connection.sendall(data)
        return connection


@contextmanager
def served(model, **options):
    """A client of a server of `model`; its uvicorn server and its describer are attributes."""
    config = uvicorn_config(model, ServeOptions(**{"port": 0} | options))
    server = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            while not server.started:
                thread.join(0.01)
                assert thread.is_alive()
            client = Client(listening.getsockname()[1])
            client.server, client.describer = server, config.app.state.describer
            yield client
        finally:
            getattr(model, "gate", threading.Event()).set()
            server.should_exit = True
            thread.join()
