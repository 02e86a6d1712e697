"""What a user sees of a failure: one line, and the exit code that launchers read."""

from __future__ import annotations

import errno
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LONGEST_LINE = 500  # characters of a line on the screen

# A place that the user named cannot be used.
_UNUSABLE = {
    errno.EACCES,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENOENT,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}
# The machine has no more of something, or lost it; whatever else it refuses has a traceback.
_EXHAUSTED = {
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ENOSPC,
    errno.ESTALE,
}


class UserError(Exception):
    """A user's mistake, in one line: what, where, and what would be right.

    The command line prints the line without a traceback and exits with `exit_code`.
    """

    exit_code = 2


class InUse(UserError):
    """Another process works in the folder that is asked for."""


class FileError(UserError):
    """A file that cannot be read as what it should be: `path: reason`.

    Attributes:
        path: the file.
        reason: what is wrong with it, without the path.
    """

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class RunError(Exception):
    """A run that was set up well and cannot go on, in one line: what happened, where, what is left.

    The command line prints the line without a traceback and exits with `exit_code`.
    """

    exit_code = 1


class DataError(RunError):
    """Examples that cannot be read; a training run adds what is left of it."""


class Interrupted(RunError):
    """A run that was stopped from outside; what it had saved goes on when it is started again.

    EX_TEMPFAIL of sysexits.h: launchers take the code as a request to start again with --resume.
    """

    exit_code = 75


def printable(text: str) -> str:
    """`text` without power over a terminal: control and other unprintable characters as escapes.

    Names of files and words of data may hold them. Line feeds and tabs stay.
    """
    return "".join(
        character if character in "\n\t" or _is_harmless(character) else _escaped(character)
        for character in text
    )


def _is_harmless(character: str) -> bool:
    # Cc control, Cf format (such as the change of direction), Cs surrogates: bytes that are no
    # UTF-8; Co, Cn: no character at all; Zl, Zp: line separators.
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8, by Python's surrogateescape
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def line(text: str) -> str:
    """`text` as one line for the screen: printable, at most `LONGEST_LINE` characters."""
    text = printable(" ".join(text.split("\n")))
    return text if len(text) <= LONGEST_LINE else text[: LONGEST_LINE - 4] + " ..."


@contextmanager
def saying(what_is_kept: Callable[[], str], place: object) -> Iterator[None]:
    """Adds to the line of what ends the work inside what is kept of it, and how to go on.

    That is Ctrl-C, a RunError, and a machine that has no more of something; `place` is named where
    the system's error names none.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(what_is_kept()) from None
    except RunError as error:
        error.args = (f"{error}; {what_is_kept()}",)
        raise
    except OSError as error:
        if not is_exhausted(error):
            raise
        reason = f"{error.filename or place}: {error.strerror}"
        raise RunError(f"{reason}; {what_is_kept()}") from error


def is_exhausted(error: OSError) -> bool:
    """Whether a disk, a quota or a limit of the machine ended the work, and no mistake of ours."""
    return error.errno in _EXHAUSTED


def outcome(error: BaseException) -> tuple[str, int] | None:
    """The line and the exit code of what ended a verb; None where only a traceback explains it."""
    match error:
        case UserError():
            return line(f"error: {error}"), error.exit_code
        case RunError():
            return line(f"failed: {error}"), error.exit_code
        case OSError() if is_exhausted(error):
            place = f"{error.filename}: " if error.filename is not None else ""
            return line(f"failed: {place}{error.strerror}"), RunError.exit_code
        case OSError() if error.filename is not None and error.errno in _UNUSABLE:
            return line(f"error: {error.filename}: {error.strerror}"), UserError.exit_code
        case UnicodeEncodeError():  # a name of a file is bytes, which need not be text
            text = f"{error.object[:200]}: this name is no UTF-8 text; rename it"
            return line(f"error: {text}"), UserError.exit_code
        case ValueError() if str(error).startswith("embedded null"):
            return "error: a name of a file holds a NUL character", UserError.exit_code
        case MemoryError():
            return "failed: out of memory", RunError.exit_code
        case RuntimeError() if str(error).startswith("RESOURCE_EXHAUSTED"):  # of JAX
            return line(f"failed: out of the device's memory: {error}"), RunError.exit_code
        case KeyboardInterrupt():  # its text, if any, says what is kept
            return line(": ".join(filter(None, ("interrupted", str(error))))), 130
    return None
