"""The options of `serve`: where it listens, and what it takes of whom."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from vlfau_jax.errors import UserError
from vlfau_jax.inference.predict_options import MOST_FACES, Faces
from vlfau_jax.options import Name, Options

Port = Annotated[int, Field(ge=0, le=65535)]
Queue = Annotated[int, Field(ge=1, le=4096)]
BatchSize = Annotated[int, Field(ge=1, le=MOST_FACES)]
Megabytes = Annotated[int, Field(ge=1, le=256)]
Seconds = Annotated[float, Field(ge=0.1, le=3600)]


@dataclass(frozen=True)
class ServeOptions(Options):
    """Where the server listens, and what it takes.

    Attributes:
        host: the address or name to listen on. A loopback one is this machine's own.
        port: 0 takes any that is free.
        allow_host: names besides IP addresses and localhost by which browsers may call the server.
        queue: requests that are read, waiting or described at a time; others are refused.
        most_megabytes: of a picture's file.
        timeout: seconds for a request, from its headers to the last byte of its answer.
        header_timeout: seconds for the headers of a request, and for what is left of an answer.
        batch_size: the most faces in a run of the program.
        faces: "all" of a picture, at most `answers.MOST_DESCRIBED`, or the "largest" alone.
        finder: finds the faces, see `registry.finder_for`.
    """

    host: Name = "127.0.0.1"
    port: Port = 8000
    allow_host: tuple[Name, ...] = ()
    queue: Queue = 64
    most_megabytes: Megabytes = 16
    timeout: Seconds = 60.0
    header_timeout: Seconds = 10.0
    batch_size: BatchSize = 8
    faces: Faces = "all"
    finder: Name = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.host:
            raise UserError("--host is empty; give an address, 127.0.0.1 for this machine alone")
        for name in self.allow_host:
            if not name or not set(name) <= _NAME:
                raise UserError(f"--allow_host={name!r}: give a name without port, such as box.lan")

    @property
    def most_bytes(self) -> int:
        """Of a picture's file."""
        return self.most_megabytes << 20

    @property
    def is_local(self) -> bool:
        """Whether nobody but this machine can call."""
        if self.host == "localhost":
            return True
        address = ip_address(self.host)
        return address is not None and address.is_loopback


_NAME = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")


def ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An IP address, None where the text is none; IPv6 with or without brackets."""
    try:
        return ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
