"""The document against the server: schemathesis asks what it allows, and what it does not."""

import json

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

schemathesis = pytest.importorskip(
    "schemathesis", reason="no schemathesis: pip install -r requirements-test.txt"
)

from tests.serve.conftest import KnownModel, served
from tests.serve.pictures import FACE, NO_FACE, png
from vlfau_jax.serve.openapi import PICTURE_TYPES, document
from vlfau_jax.serve.options import ServeOptions

for kind in PICTURE_TYPES:
    schemathesis.openapi.media_type(kind, st.sampled_from([FACE, NO_FACE, png(30, 40)]))


@pytest.fixture(scope="module")
def client():
    with served(KnownModel()) as one:
        yield one


@pytest.fixture(scope="module")
def api(client):
    return schemathesis.openapi.from_url(f"{client.origin}/openapi.json")


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
def test_the_server_does_what_its_document_says(case):
    case.call_and_validate()


def test_the_document_is_served_and_names_every_route(client):
    status, headers, content = client.ask("GET", "/openapi.json")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(content) == document(ServeOptions())
    routes = {route.path for route in client.server.config.app.routes}
    assert {*document(ServeOptions())["paths"], "/openapi.json"} == routes
