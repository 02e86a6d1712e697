"""The application: the page, its card, the JSON endpoint and its document. It reads no file."""

from __future__ import annotations

import sys
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from vlfau_jax.data.crop.registry import finder_for
from vlfau_jax.data.raw.unreadable import Unreadable
from vlfau_jax.errors import RunError, line
from vlfau_jax.inference.exported_model import ExportedModel
from vlfau_jax.inference.faces import Limits
from vlfau_jax.serve.answers import Result, answer, model_facts
from vlfau_jax.serve.describer import Busy, Describer
from vlfau_jax.serve.guard import HEADERS, Guard, busy, problem
from vlfau_jax.serve.openapi import PICTURE_TYPES, document
from vlfau_jax.serve.options import ServeOptions
from vlfau_jax.serve.page import card, page, page_policy

T = TypeVar("T")
_BOOLEANS = {"true": True, "false": False}


def application(
    model: ExportedModel, options: ServeOptions, limits: Limits | None = None
) -> Starlette:
    """The ASGI application of one model.

    Raises:
        UserError: a finder that the model cannot use.
    """
    finder = finder_for(model.crop_rule, options.finder)
    describer = Describer(model, finder, options.faces, options.queue, limits)
    front, described = page(model, finder, options), document(options)
    facts = model_facts(model, finder, options)

    @asynccontextmanager
    async def running(app: Starlette) -> AsyncIterator[None]:
        del app
        async with describer:
            yield

    async def show(request: Request) -> Response:
        return HTMLResponse(front, headers={"Content-Security-Policy": page_policy()})

    async def tell_model(request: Request) -> Response:
        return JSONResponse(facts.model_dump())

    async def tell_document(request: Request) -> Response:
        return JSONResponse(described)

    async def describe(request: Request) -> Response:
        maps = request.query_params.getlist("maps") or ["false"]
        if len(maps) > 1 or maps[0] not in _BOOLEANS:
            return problem(400, "maps: give true or false, once")
        made = partial(_json, model=model, maps=_BOOLEANS[maps[0]])
        return await _answered(request, describer, options, made)

    async def show_card(request: Request) -> Response:
        return await _answered(request, describer, options, partial(_html, model=model))

    app = Starlette(
        routes=[
            Route("/", show),
            Route("/api/model", tell_model),
            Route("/api/describe", describe, methods=["POST"]),
            Route("/card", show_card, methods=["POST"]),
            Route("/openapi.json", tell_document),
        ],
        middleware=[Middleware(Guard, options=options)],
        exception_handlers={HTTPException: _http_problem, Exception: _failure},
        lifespan=running,
    )
    app.state.describer = describer
    app.router.redirect_slashes = False
    return app


def _json(result: Result, model: ExportedModel, maps: bool) -> Response:
    return Response(answer(result, model, maps).model_dump_json(), media_type="application/json")


def _html(result: Result, model: ExportedModel) -> Response:
    return HTMLResponse(card(result, model))


async def _answered(
    request: Request,
    describer: Describer,
    options: ServeOptions,
    made: Callable[[Result], Response],
) -> Response:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in PICTURE_TYPES:
        text = f"Content-Type: give {', '.join(PICTURE_TYPES)}"
        return problem(415, text, Accept=", ".join(PICTURE_TYPES))
    large = f"more than {options.most_megabytes} MB; give a smaller picture"
    if _declared(request) > options.most_bytes:
        return problem(413, large)
    try:
        return await describer.describe(lambda: _body(request, options.most_bytes), made)
    except Busy:
        return busy("too many requests at once; try again later")
    except _TooLarge:
        return problem(413, large)
    except Unreadable as error:
        status = 413 if error.loss == "image_too_large" else 400
        return problem(status, line(f"not read: {error.detail or error.loss}"))
    except ClientDisconnect:
        return Response(status_code=400)  # nobody reads it
    except RunError as error:  # of the model, whose numbers are no answer
        print(line(f"failed: {error}"), file=sys.stderr)
        return problem(500, line(str(error)))


class _TooLarge(Exception):
    """A body that is longer than it may be, or than it said."""


def _declared(request: Request) -> int:
    length = request.headers.get("content-length", "0")
    return int(length) if length.isdecimal() else 0


async def _body(request: Request, most: int) -> bytes:
    """The body; the sizes that are declared are not trusted."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > most:
            raise _TooLarge
    return bytes(data)


async def _http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = {404: "nothing is here; see /openapi.json", 405: "another method is wanted here"}
    answer = problem(error.status_code, text.get(error.status_code, error.detail))
    answer.headers.update(error.headers or {})
    return answer


async def _failure(request: Request, error: Exception) -> Response:
    """A fault of the server itself: whole on its screen, nothing of it in the answer."""
    traceback.print_exception(error)
    answer = problem(500, "the server failed; its screen says why")
    answer.headers.update(HEADERS)
    return answer
