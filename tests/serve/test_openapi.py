"""The document against the server: schemathesis asks what it allows, and what it does not."""

import json
import os
import subprocess
import sys

import pytest

from tests.processes import ROOT
from tests.serve.conftest import served
from tests.serve.known import KnownModel
from vlfau_jax.serve.openapi import document
from vlfau_jax.serve.options import ServeOptions


@pytest.fixture(scope="module")
def client():
    with served(KnownModel()) as one:
        yield one


def test_schemathesis_finds_nothing(client, tmp_path):
    pytest.importorskip(
        "schemathesis", reason="no schemathesis: pip install -r requirements-test.txt"
    )
    command = ("run", f"{client.origin}/openapi.json", "--checks=all", "--max-examples=40")
    run = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", *command, "--seed=0", "--no-color"],
        cwd=tmp_path,
        env=os.environ
        | {"SCHEMATHESIS_HOOKS": "tests.serve.picture_types", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "No issues found" in run.stdout


def test_the_document_is_served_and_names_every_route(client):
    status, headers, content = client.ask("GET", "/openapi.json")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(content) == document(ServeOptions())
    routes = {route.path for route in client.server.config.app.routes}
    assert {*document(ServeOptions())["paths"], "/openapi.json"} == routes
