"""The command line: `python -m vlfau_jax VERB --flag=value ...`, or the command `vlfau_jax`.

Only the standard library is imported above: signals are handled before the imports, which take
seconds.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def command() -> int:
    """Runs the command line of this process; returns the exit code."""
    _handle_signals()
    from vlfau_jax.cli.terminal import protect

    out, err = protect()
    from vlfau_jax.cli.main import main

    try:
        code = main(sys.argv[1:], on_start=_restore_ctrl_c)
    except SystemExit as stop:  # --help
        code = stop.code
    out.flush()
    if out.failure is not None and code == 0:
        code = 1
        if not isinstance(out.failure, BrokenPipeError):  # `train --help | head` has read enough
            print(f"failed: standard output: {out.failure.strerror}", file=err)
    err.flush()
    return code


def installed_command() -> int:
    """Runs the command `vlfau_jax` that pip installs.

    It imports from the current folder, as `python -m` does, because an experiment may import
    another. The folder comes last, so that
    worker processes, which get this path too, import the same vlfau_jax as this process.
    """
    if not sys.flags.safe_path:
        sys.path.append(os.getcwd())
    return command()


def _handle_signals() -> None:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # one ignored stays so
        signal.signal(signal.SIGINT, _end_at_once)
    if sys.argv[1:2] == ["train"]:  # the other verbs do not go on where they were stopped
        signal.signal(signal.SIGTERM, _end_at_once)


def _end_at_once(number: int, _: FrameType | None) -> None:
    """Ends the process. An exception might be swallowed by the module that is being imported."""
    if number == signal.SIGINT:
        os.write(2, b"\ninterrupted\n")
        os._exit(130)
    os.write(2, b"\nfailed: ended by SIGTERM before anything was begun; start it again\n")
    os._exit(75)


def _restore_ctrl_c() -> None:
    """Ctrl-C raises KeyboardInterrupt from here on, for the verb to handle."""
    if signal.getsignal(signal.SIGINT) is _end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    sys.exit(command())
