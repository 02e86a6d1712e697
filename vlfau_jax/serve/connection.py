"""Connections that end: uvicorn's HTTP protocol with time limits and a bounded number.

uvicorn limits how long a connection may be idle between requests, but neither how long headers may
take to arrive (Slowloris) nor how long an answer may lie unread.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 256  # below the usual limit of 1024 open files
RETRY_SECONDS = 2


def _refusal() -> bytes:
    body = json.dumps({"error": f"more than {MOST_CONNECTIONS} connections; try again later"})
    return (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nRetry-After: {RETRY_SECONDS}\r\nConnection: close\r\n\r\n"
        f"{body}"
    ).encode()


class TimedProtocol(H11Protocol):
    """A connection that is closed where the client takes too long.

    Whenever no request is being answered it has `seconds` until the headers of the next one are
    complete; as many has the client to take what has gathered of an answer.
    """

    seconds: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._headers_due: asyncio.TimerHandle | None = None
        self._read_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the time for the first request's headers."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.write(_refusal())
            transport.close()
            return
        self._headers_due = self.loop.call_later(self.seconds, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Stops that time where the headers are complete."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """Starts the time for the rest of the answer and the next headers."""
        self._stop_waiting()
        self._headers_due = self.loop.call_later(self.seconds, self.transport.abort)
        super().on_response_complete()
        # A pipelined request may have begun.
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def pause_writing(self) -> None:
        """Starts the time in which the client must read."""
        super().pause_writing()
        self._read_due = self.loop.call_later(self.seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Stops it."""
        if self._read_due is not None:
            self._read_due.cancel()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops all time."""
        self._stop_waiting()
        if self._read_due is not None:
            self._read_due.cancel()
        super().connection_lost(exc)

    def _stop_waiting(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()


def timed_protocol(seconds: float) -> type[TimedProtocol]:
    """`TimedProtocol` of so many seconds, as uvicorn takes it."""
    return type("TimedProtocol", (TimedProtocol,), {"seconds": seconds})
