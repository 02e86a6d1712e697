"""The one error that a user sees."""


class UserError(Exception):
    """A user's mistake, in one line: what, where, and what would be right.

    The command line prints the line without a traceback and exits with code 2.
    """


class RunError(Exception):
    """A run that was set up well and cannot go on, in one line: what happened, where, what is left.

    The command line prints the line without a traceback and exits with code 1.
    """
