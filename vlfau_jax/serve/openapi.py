"""The OpenAPI document of the server, from the schemas of its answers."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from vlfau_jax import __version__
from vlfau_jax.data.raw.decoding import FORMATS, MOST_PIXELS
from vlfau_jax.serve.answers import Answer, ModelFacts, Problem
from vlfau_jax.serve.options import ServeOptions

# Content types of the pictures that are taken. Their kind is known by their bytes alone.
PICTURE_TYPES = (
    *("image/jpeg", "image/png", "image/webp", "image/gif", "image/avif", "image/heic"),
    *("image/heif", "image/bmp", "image/tiff", "image/x-portable-anymap"),
    "application/octet-stream",
)
_SCHEMAS = "#/components/schemas/{model}"


def document(options: ServeOptions) -> dict[str, Any]:
    """OpenAPI 3.1, as JSON's values."""
    models = [(model, "serialization") for model in (Answer, ModelFacts, Problem)]
    _, schemas = models_json_schema(models, ref_template=_SCHEMAS)
    maps = {
        "name": "maps",
        "in": "query",
        "description": "whether to answer with the attention maps, too",
        "schema": {"type": "boolean", "default": False},
    }
    body = {
        "required": True,
        "description": f"One picture: {FORMATS}; at most {options.most_megabytes} MB and "
        f"{MOST_PIXELS // 10**6} megapixels. Its kind is known by its bytes.",
        "content": {kind: {"schema": {}} for kind in PICTURE_TYPES},
    }
    refused = {
        "400": "no picture that can be read, or a wrong query",
        "403": "sent by a page of another origin",
        "408": "sent too slowly",
        "413": "too many bytes or pixels",
        "415": "another content type",
        "421": "called by a name that is not the server's",
        "503": "too many requests at once, or too slow; Retry-After says when to come again",
    }
    named = {"403": refused["403"], "421": refused["421"]}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "vlfau_jax",
            "version": __version__,
            "description": "Facial action units of a picture, with reasons.",
        },
        "paths": {
            "/api/describe": {
                "post": {
                    "operationId": "describe",
                    "summary": "Describe the faces of a picture",
                    "parameters": [maps],
                    "requestBody": body,
                    "responses": {"200": _json("What was found", Answer), **_problems(refused)},
                }
            },
            "/api/model": {
                "get": {
                    "operationId": "model",
                    "summary": "The model that answers",
                    "responses": {"200": _json("The model", ModelFacts), **_problems(named)},
                }
            },
            "/card": {
                "post": {
                    "operationId": "card",
                    "summary": "The same as HTML, for the server's own page",
                    "requestBody": body,
                    "responses": {
                        "200": _html("A card for each face, or why there is none"),
                        **_problems(refused),
                    },
                }
            },
            "/": {
                "get": {
                    "operationId": "page",
                    "summary": "The page",
                    "responses": {"200": _html("The page"), **_problems(named)},
                }
            },
        },
        "components": {"schemas": schemas["$defs"]},
    }


def _json(text: str, model: type) -> dict[str, Any]:
    schema = {"$ref": _SCHEMAS.format(model=model.__name__)}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _html(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"text/html": {"schema": {"type": "string"}}}}


def _problems(texts: dict[str, str]) -> dict[str, Any]:
    return {status: _json(text, Problem) for status, text in texts.items()}
