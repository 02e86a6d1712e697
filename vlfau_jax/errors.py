"""What a user sees of a failure: one line, and the exit code that launchers read."""


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


class Interrupted(RunError):
    """A run that was stopped from outside; what it had saved goes on when it is started again.

    EX_TEMPFAIL of sysexits.h: launchers take the code as a request to start again with --resume.
    """

    exit_code = 75
