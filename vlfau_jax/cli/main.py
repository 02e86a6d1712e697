"""Reads the command line and runs one verb: help, mistakes, exit codes."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable

from absl import flags
from pydantic import ValidationError

from vlfau_jax.cli import accounts, data, models, studies, training
from vlfau_jax.cli.config_files import expanded
from vlfau_jax.cli.memory import keep_freed_memory
from vlfau_jax.cli.program_cache import use_program_cache
from vlfau_jax.cli.terminal import protected
from vlfau_jax.cli.verb import Flag, Verb, refuse_bucket
from vlfau_jax.errors import UserError, outcome
from vlfau_jax.options import checked
from vlfau_jax.records import explain

# It advises to install PyTorch, which nothing here needs.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

VERBS = {
    verb.name: verb
    for group in (data, accounts, training, studies, models)
    for verb in vars(group).values()
    if isinstance(verb, Verb)
}

EXIT_CODES = (
    "exit codes: 0 success, 1 failure, 2 a mistake in what was asked, 75 stopped from outside "
    "(SIGTERM, a lost\nprocess) and saved: start it again with --resume, 130 Ctrl-C (75 where "
    "several processes train)"
)


def main(argv: list[str], on_start: Callable[[], None] = lambda: None) -> int:
    """Runs one verb.

    Args:
        argv: the verb and its flags.
        on_start: called when everything is read and imported, just before the verb runs.

    Returns:
        The exit code, see `EXIT_CODES`.
    """
    with protected():
        return _main(argv, on_start)


def _main(argv: list[str], on_start: Callable[[], None]) -> int:
    if not argv or argv[0] in ("--help", "-h", "help"):
        print(_overview())
        return 0 if argv else 2
    name = argv[0]
    # grain's worker processes read absl's global flags, which nothing here uses.
    flags.FLAGS.mark_as_parsed()
    try:
        if name not in VERBS:
            raise UserError(f"{name!r} is not a verb; choose one of {', '.join(VERBS)}")
        verb = VERBS[name]
        fv, inputs = _parse(verb, expanded(argv[1:]))
        for module in verb.imports:
            importlib.import_module(module)
        on_start()
        if verb.keeps_programs:
            use_program_cache()
            keep_freed_memory()
        verb.run(fv, inputs)
    except (Exception, KeyboardInterrupt) as error:
        explained = outcome(_translated(error))
        if explained is None:
            raise
        line, code = explained
        print(line, file=sys.stderr)
        return code
    return 0


def _translated(error: BaseException) -> BaseException:
    """A UserError for what libraries raise where the user's words were checked by them alone."""
    match error:
        case flags.Error():
            return UserError(" ".join(str(error).split()))
        case ValidationError():
            return UserError(f"{error.title}: {explain(error)}")
    return error


def _overview() -> str:
    lines = [f"  {name:<16}{verb.summary}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "usage: python -m vlfau_jax VERB --flag=value ...",
            "",
            *lines,
            "",
            "VERB --help lists its flags.",
            EXIT_CODES,
        ]
    )


def _help(verb: Verb, fv: flags.FlagValues) -> str:
    lines = [
        f"usage: python -m vlfau_jax {verb.name} --flag=value ...{verb.inputs}",
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
        lines.append(f"  --{flag_name:<16}{' '.join(flag.help.split())} ({default})")
    lines += ["", EXIT_CODES]
    if "config" in fv:
        from vlfau_jax.cli.keys import help_on_keys

        lines += help_on_keys()
    return "\n".join(lines)


def _parse(verb: Verb, argv: list[str]) -> tuple[flags.FlagValues, list[str]]:
    """A verb's flags and its other arguments; UserError names the one that is wrong."""
    name, fv = verb.name, verb.define(argv)
    if {"--help", "-help", "-h"} & set(argv):
        print(_help(verb, fv))
        raise SystemExit(0)
    if "config" in fv:
        for argument in argv:
            _check_config_argument(argument)
    try:
        rest = fv([name, *argv])[1:]
    except flags.Error as error:
        known = f"; see {name} --help" if isinstance(error, flags.UnrecognizedFlagError) else ""
        raise UserError(f"{name}: {str(error).strip().splitlines()[-1].strip()}{known}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # of ml_collections
        raise UserError(f"{name}: {' '.join(str(error).split())}") from None
    missing = [f"--{flag}" for flag in verb.required if fv[flag].value is None]
    if missing:
        raise UserError(f"{name}: {', '.join(missing)} must be given; see {name} --help")
    for flag in fv:
        if fv[flag].value == "" and fv[flag].default is None:  # of an unset shell variable
            raise UserError(f"{name}: --{flag} is empty; give a value")
    for flag in verb.flags:
        if isinstance(flag, Flag):
            flag.check(fv[flag.name].value)
    for argument in rest:
        checked(f"{name}: the argument", argument, str)
        refuse_bucket(f"{name}: the argument", argument)
    if rest and not verb.inputs:
        raise UserError(f"{name}: {rest[0]!r} is not a flag; see {name} --help")
    if verb.inputs and not rest:
        raise UserError(f"{name}:{verb.inputs} must be given; see {name} --help")
    return fv, rest


def _check_config_argument(argument: str) -> None:
    """UserError where `--config.key=value` names no key, or a flag of a file has no value."""
    from vlfau_jax.cli.settings import check_key

    flag, equals, _ = argument.lstrip("-").partition("=")
    off = flag.startswith("noconfig.")  # --noconfig.data.flip
    if off:
        flag = flag.removeprefix("no")
    if not argument.startswith("-") or flag.partition(".")[0] not in ("config", "hardware"):
        return
    if not equals and not off:
        raise UserError(f"{argument}: write it as {argument}=value")
    if flag.startswith("config."):
        check_key(flag)
