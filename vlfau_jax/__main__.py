"""The command line: `python -m vlfau_jax VERB --flag=value ...`."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from pathlib import Path
from types import FrameType


def _end_at_once(number: int, _: FrameType | None) -> None:
    """Nothing has been begun; an exception might be swallowed by what is being imported."""
    if number == signal.SIGINT:
        os.write(2, b"\ninterrupted\n")
        os._exit(130)
    os.write(2, b"\nfailed: ended by SIGTERM before anything was begun; start it again\n")
    os._exit(75)


if __name__ == "__main__":  # before the imports, which take seconds
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # one ignored stays so
        signal.signal(signal.SIGINT, _end_at_once)
    if sys.argv[1:2] == ["train"]:  # the other verbs do not go on where they were stopped
        signal.signal(signal.SIGTERM, _end_at_once)

from absl import flags  # noqa: E402

from vlfau_jax.cli.verbs import VERBS, Verb  # noqa: E402
from vlfau_jax.errors import UserError, outcome  # noqa: E402

# It advises to install PyTorch, which nothing here needs.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")


EXIT_CODES = (
    "exit codes: 0 success, 1 failure, 2 a mistake in what was asked, 75 stopped from outside "
    "(SIGTERM, a lost\nprocess) and saved: start it again with --resume, 130 Ctrl-C (75 where "
    "several processes train)"
)


def _overview() -> str:
    lines = [f"  {name:<16}{verb.summary}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "usage: python -m vlfau_jax VERB --flag=value ...",
            "",
            *lines,
            "",
            "VERB --help tells more.",
            EXIT_CODES,
        ]
    )


def _help(name: str, verb: Verb, fv: flags.FlagValues) -> str:
    lines = [
        f"usage: python -m vlfau_jax {name} --flag=value ...{verb.inputs}",
        "",
        verb.summary,
        "",
    ]
    for flag_name in fv:
        flag = fv[flag_name]
        if flag_name in verb.required:
            default = "required"
        elif flag.default in (None, ""):
            default = "optional"
        elif flag.boolean:
            default = f"default {'on' if flag.default else 'off'}"
        else:
            default = f"default {flag.default}"
        lines.append(f"  --{flag_name:<14}{' '.join(flag.help.split())} ({default})")
    lines += ["", EXIT_CODES]
    if "config" in fv:
        from vlfau_jax.cli.keys import help_on_keys

        lines += help_on_keys()
    return "\n".join(lines)


def _check_config_argument(argument: str) -> None:
    """UserError where `--config=FILE[:args]` names no file, or `--config.key=value` no key.

    `--hardware=FILE` is a file, too.
    """
    from vlfau_jax.cli.settings import check_key

    flag, equals, value = argument.lstrip("-").partition("=")
    if not argument.startswith("-") or flag.partition(".")[0] not in ("config", "hardware"):
        return
    if not equals:
        raise UserError(f"{argument}: write it as {argument}=value")
    if flag.startswith("config."):
        check_key(flag)
    elif not Path(value.partition(":")[0]).is_file():
        wanted = "an experiment, configs/X.py[:args]" if flag == "config" else "configs/hardware.py"
        raise UserError(f"{argument}: no such file; give {wanted}")


def _parse(name: str, argv: list[str]) -> tuple[flags.FlagValues, list[str]]:
    """Reads a verb's flags; UserError says which one is wrong."""
    verb, fv = VERBS[name], flags.FlagValues()
    verb.define(fv, argv)
    if {"--help", "-help", "-h"} & set(argv):
        print(_help(name, verb, fv))
        raise SystemExit(0)
    if "config" in fv:
        for argument in argv:
            _check_config_argument(argument)
    try:
        rest = fv([name, *argv])[1:]
    except flags.Error as error:
        # A config file that refuses its arguments comes with its traceback; the last line says why.
        raise UserError(f"{name}: {str(error).strip().splitlines()[-1].strip()}") from None
    missing = [f"--{flag}" for flag in verb.required if fv[flag].value is None]
    if missing:
        raise UserError(f"{name}: {', '.join(missing)} must be given; see {name} --help")
    for flag in fv:
        if fv[flag].value == "" and fv[flag].default is None:  # of an unset shell variable
            raise UserError(f"{name}: --{flag} is empty; give a value")
    if rest and not verb.inputs:
        raise UserError(f"{name}: {rest[0]!r} is not a flag; see {name} --help")
    if verb.inputs and not rest:
        raise UserError(f"{name}:{verb.inputs} must be given; see {name} --help")
    return fv, rest


def main(argv: list[str]) -> int:
    """Runs one verb; returns the exit code, see `EXIT_CODES`."""
    if not argv or argv[0] in ("--help", "-h", "help"):
        print(_overview())
        return 0 if argv else 2
    name = argv[0]
    # grain's worker processes read absl's global flags, which nothing here uses.
    flags.FLAGS.mark_as_parsed()
    try:
        if name not in VERBS:
            raise UserError(f"{name!r} is not a verb; choose one of {', '.join(VERBS)}")
        fv, rest = _parse(name, argv[1:])
        importlib.import_module(VERBS[name].module)
        if signal.getsignal(signal.SIGINT) is _end_at_once:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # the verb's own to answer
        VERBS[name].run(fv, rest)
    except (Exception, KeyboardInterrupt) as error:
        told = outcome(error)
        if told is None:
            raise
        line, code = told
        print(line, file=sys.stderr)
        return code
    return 0


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # file names need not be text
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # `train --help | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)
