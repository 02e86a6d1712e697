"""Standard output and error: text without power over a terminal, and ends that are not noticed.

Names and words of data reach the screen through many prints, some of them in libraries. They all
write to `sys.stdout` or `sys.stderr`, which are replaced here, so that none can be forgotten.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import IO, Any

from vlfau_jax.errors import printable


class Printable(io.TextIOBase):
    """A stream that escapes control characters, and that never fails.

    A reader that has read enough (`| head`) or a full disk must not end the work that is reported
    on: what follows goes nowhere, and the first failure is kept.

    Attributes:
        failure: why it could not be written; None while it can.
    """

    def __init__(self, stream: IO[str]) -> None:
        super().__init__()
        self._stream = stream
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        # Progress bars return to the beginning of their line.
        begin = "\r" if text.startswith("\r") else ""
        shown = begin + printable(text.removeprefix(begin))
        try:
            self._stream.write(shown)
        except UnicodeEncodeError:  # not reconfigured, see `protect`
            self._stream.write(shown.encode("ascii", "backslashreplace").decode())
        except OSError as error:
            self._fail(error)
        return len(text)

    def flush(self) -> None:
        if self._stream.closed:  # this one is collected after it
            return
        try:
            self._stream.flush()
        except OSError as error:
            self._fail(error)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:
        return self._stream.encoding

    @property
    def errors(self) -> str | None:
        return self._stream.errors

    @property
    def buffer(self) -> Any:
        return self._stream.buffer

    def _fail(self, error: OSError) -> None:
        self.failure = self.failure or error
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def protect() -> tuple[Printable, Printable]:
    """Replaces the standard streams of this process for good; returns output and error.

    A standard stream that was closed (`>&-`) is opened to nowhere first: the next file to be
    opened would get its number, and with it all that libraries print.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w")  # noqa: SIM115
        stream.reconfigure(errors="backslashreplace")  # terminals of few characters
        setattr(sys, name, Printable(stream))
    return sys.stdout, sys.stderr


@contextmanager
def protected() -> Iterator[None]:
    """Replaces the standard streams inside the block, where they are not replaced already."""
    out = sys.stdout if isinstance(sys.stdout, Printable) else Printable(sys.stdout)
    err = sys.stderr if isinstance(sys.stderr, Printable) else Printable(sys.stderr)
    with redirect_stdout(out), redirect_stderr(err):
        yield
