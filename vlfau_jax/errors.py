"""What a user sees of a failure: one line, and the exit code that launchers read."""

from __future__ import annotations

import errno

# A place that the user named cannot be used; whatever else the system refuses has a traceback.
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


class UserError(Exception):
    """A user's mistake, in one line: what, where, and what would be right.

    The command line prints the line without a traceback and exits with `exit_code`.
    """

    exit_code = 2


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


def outcome(error: BaseException) -> tuple[str, int] | None:
    """The line and the exit code of what ended a verb; None where only a traceback explains it."""
    match error:
        case UserError():
            return f"error: {error}", error.exit_code
        case RunError():
            return f"failed: {error}", error.exit_code
        case OSError() if error.filename is not None and error.errno in _UNUSABLE:
            return f"error: {error.filename}: {error.strerror}", UserError.exit_code
        case KeyboardInterrupt():  # its text, if any, says what is kept
            return ": ".join(filter(None, ("interrupted", str(error)))), 130
    return None
