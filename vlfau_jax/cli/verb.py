"""The declaration of a verb, and the flags that several verbs share.

The modules of verbs (`data`, `training`, `models`) import what a verb runs only when it runs, so
that --help and a mistake do not wait for JAX.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from absl import flags
from ml_collections import config_flags

from vlfau_jax.buckets import is_bucket
from vlfau_jax.cli.config_files import ConfigParser
from vlfau_jax.errors import UserError
from vlfau_jax.options import checked

Run = Callable[[flags.FlagValues, list[str]], None]


def refuse_bucket(what: str, value: Any) -> None:
    """UserError where a local file or folder is wanted, and the URL of a bucket was given."""
    if isinstance(value, str) and is_bucket(value):
        raise UserError(
            f"{what}={value}: give a local place; in a bucket lie --workdir of train, evaluate, "
            "export, warm_start and inspect, and --config.data.data_dir"
        )


_DEFINE = {
    str: flags.DEFINE_string,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    bool: flags.DEFINE_boolean,
}


class _WholeNumber(flags.IntegerParser):
    """absl's parser of integers, whose own message speaks of Python's `int()`."""

    def convert(self, argument: str) -> int:
        try:
            return super().convert(argument)
        except ValueError:
            raise ValueError("give a whole number") from None


class _Number(flags.FloatParser):
    """The same of floating-point numbers."""

    def convert(self, argument: str) -> float:
        try:
            return super().convert(argument)
        except ValueError:
            raise ValueError("give a number") from None


_PARSERS = {int: _WholeNumber(), float: _Number()}


@dataclass(frozen=True)
class Later:
    """Something of a module that takes a while to import; it is imported when this is called.

    Attributes:
        module: the module, "vlfau_jax.data.sets".
        name: of a constant there, or of a function without arguments that returns the value.
    """

    module: str
    name: str

    def __call__(self) -> Any:
        """The value."""
        value = getattr(importlib.import_module(self.module), self.name)
        return value() if callable(value) else value


@dataclass(frozen=True)
class Flag:
    """One flag of a verb.

    Attributes:
        name: without the dashes.
        kind: str, int, float or bool, with bounds where it has some (`vlfau_jax.options`).
        help: what it sets, for --help; where a table states it, like `choices`.
        default: its value when it is absent.
        required: whether the verb refuses to run without it.
        choices: the values that it takes, where they are few.
        repeated: whether it may be given several times; its value is then a list (of str).
        bucket: whether it may be a folder in a bucket, which is otherwise refused.
    """

    name: str
    kind: Any
    help: str | Later
    default: Any = None
    required: bool = False
    choices: Later | None = None
    repeated: bool = False
    bucket: bool = False

    def define(self, fv: flags.FlagValues, argv: list[str]) -> None:
        """Adds the flag to `fv`; `argv` is what the verb was given."""
        del argv
        text = self.help if isinstance(self.help, str) else self.help()
        if self.choices is not None:
            choices = list(self.choices())
            flags.DEFINE_enum(self.name, self.default, choices, text, flag_values=fv)
        elif self.repeated:
            flags.DEFINE_multi_string(self.name, self.default, text, flag_values=fv)
        else:
            annotated = get_origin(self.kind) is Annotated
            kind = get_args(self.kind)[0] if annotated else self.kind
            _DEFINE[kind](self.name, self.default, text, flag_values=fv)
            if kind in _PARSERS:
                fv[self.name].parser = _PARSERS[kind]

    def check(self, value: Any) -> None:
        """Raises UserError where the flag's value is out of bounds; None is no value."""
        for one in value if self.repeated and value else [value]:
            if one is not None:
                checked(f"--{self.name}", one, self.kind)
                if not self.bucket:
                    refuse_bucket(f"--{self.name}", one)


@dataclass(frozen=True)
class ConfigFlag:
    """A flag that names a config file; `--NAME.key=value` changes one of its keys.

    The attributes are those of `Flag`.
    """

    name: str
    help: str
    required: bool = False

    def define(self, fv: flags.FlagValues, argv: list[str]) -> None:
        """Adds the flag to `fv`, and one for each `--NAME.key` in `argv`."""
        config_flags.DEFINE_config_file(self.name, None, self.help, flag_values=fv, sys_argv=argv)
        fv[self.name].parser = ConfigParser(self.name)


@dataclass(frozen=True)
class Verb:
    """One verb of the command line, made by the decorator `verb`.

    Attributes:
        name: the word on the command line.
        summary: what it does, in one line.
        flags: its flags, in the order of --help.
        run: called with the flags' values and the remaining arguments.
        imports: the modules that `run` imports, which takes seconds; named, so that they can be
            imported before Ctrl-C raises KeyboardInterrupt.
        inputs: how --help writes the arguments that are not flags; empty where none are taken.
        keeps_programs: whether it compiles what the next call will need, too (`program_cache`).
    """

    name: str
    summary: str
    flags: tuple[Flag | ConfigFlag, ...]
    run: Run
    imports: tuple[str, ...]
    inputs: str = ""
    keeps_programs: bool = False

    @property
    def required(self) -> tuple[str, ...]:
        """Names of the flags without which the verb does not run."""
        return tuple(flag.name for flag in self.flags if flag.required)

    def define(self, argv: list[str]) -> flags.FlagValues:
        """The verb's flags, to be read from `argv`."""
        fv = flags.FlagValues()
        for flag in self.flags:
            flag.define(fv, argv)
        return fv


def verb(
    *flags: Flag | ConfigFlag,
    imports: tuple[str, ...],
    inputs: str = "",
    keeps_programs: bool = False,
) -> Callable[[Run], Verb]:
    """Declares a verb: its name is the function's, its summary the function's docstring."""

    def declare(run: Run) -> Verb:
        text = (run.__doc__ or "").strip().removesuffix(".")
        summary = text[:1].lower() + text[1:]
        return Verb(run.__name__, summary, flags, run, imports, inputs, keeps_programs)

    return declare


CONFIG = ConfigFlag(
    "config",
    "experiment, a file X.py[:args] or one that ships: demo, bp4d:swin_b, ...; "
    "--config.key=value changes a key",
    required=True,
)
WORKDIR = Flag("workdir", str, "a training run's folder", required=True, bucket=True)
CHECKPOINT = Flag("checkpoint", str, "last, best (by the scores during training) or a step", "last")
GROUPS = Flag(
    "groups",
    str,
    "CSV table of the tested people, subject and columns such as sex or skin_tone: scores by group",
)
BEAMS = Flag(
    "beams",
    int,
    "width of the beam search for sentences, 1 (greedy) to 16",
    1,
)
