"""What every request must pass, and what every answer says: hosts, origins, time, headers.

A page of a stranger that is open in the user's browser may send requests here. It can do so under
its own name, whose address it changes to this server's (DNS rebinding): then the Host header is a
name that nobody gave the server. Or from its own origin: then Origin and Sec-Fetch-Site say so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlfau_jax.serve.connection import RETRY_SECONDS
from vlfau_jax.serve.options import ServeOptions, ip_address

SAFE = ("GET", "HEAD")
HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def problem(status: int, text: str, **headers: str) -> JSONResponse:
    """An answer that says in one line why a request was refused."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse({"error": text}, status, names)


def busy(text: str) -> JSONResponse:
    """The answer to who should try again."""
    return problem(503, text, Retry_After=str(RETRY_SECONDS))


class Guard:
    """Lets only requests pass that are meant for this server, for a limited time."""

    def __init__(self, app: ASGIApp, options: ServeOptions) -> None:
        self._app = app
        self._timeout = options.timeout
        self._names = {"localhost", options.host.lower(), *map(str.lower, options.allow_host)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, whole = False, False

        async def watched() -> Message:
            nonlocal whole
            message = await receive()
            whole = not message.get("more_body", False)
            return message

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        app = self._refusal(scope) or self._app
        try:
            async with asyncio.timeout(self._timeout):
                await app(scope, watched, guarded)
        except TimeoutError:
            if started:
                raise
            late = f"took longer than {self._timeout:g} seconds"
            answer = busy(f"{late}; try again later") if whole else problem(408, f"sending {late}")
            answer.headers["Connection"] = "close"
            await answer(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return problem(
                421,
                "this is not the server's name; call it by its address, or start it with "
                "--allow_host=NAME",
            )
        if scope["method"] in SAFE:
            return None
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        own = f"{scope['scheme']}://{hosts[0]}".lower()
        if (origin is not None and origin.lower() != own) or site not in ("none", "same-origin"):
            return problem(403, "pages of other origins may send nothing")
        return None

    def _is_own(self, host: str) -> bool:
        """Whether a Host header is an address, or a name of this server; without any port."""
        name, colon, port = host.rpartition(":")
        if not colon or port.endswith("]"):
            name, port = host, ""
        if port and not (port.isascii() and port.isdecimal()):
            return False
        return name.lower() in self._names or ip_address(name) is not None
