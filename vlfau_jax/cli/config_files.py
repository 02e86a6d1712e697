"""Reads files of --config, --hardware and --rows: Python code of the user, a mistake is one line.

Files of flags (--flagfile) are read here, too.
"""

from __future__ import annotations

import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from absl import flags
from ml_collections import ConfigDict, FrozenConfigDict

from vlfau_jax import shipped
from vlfau_jax.errors import UserError
from vlfau_jax.files import read_bytes

_LIMIT = 1 << 20  # bytes of a file of code or flags
# Shipped files that are no experiments -> the flag that takes them.
_OTHERS = {"hardware": "hardware", "ablation": "rows"}
_WANTED = {
    "config": "an experiment, X.py[:args]",
    "hardware": "a table of devices",
    "rows": "the rows of an ablation, X.py[:args]",
}
_DEEPEST = 20  # files of flags that name one another


class ConfigParser(flags.ArgumentParser):
    """The value of --config or --hardware: FILE[:args] -> what its get_config(args) returns."""

    def __init__(self, flag: str) -> None:
        self.flag = flag

    def parse(self, argument: str) -> ConfigDict:
        name, colon, args = argument.partition(":")
        path = _find(self.flag, argument, name)
        config = _call(path, "get_config", *([args] if colon else []))
        if isinstance(config, FrozenConfigDict):
            config = ConfigDict(config)
        if not isinstance(config, ConfigDict):
            raise UserError(
                f"{path}: get_config() returns {type(config).__name__}; return an "
                "ml_collections.ConfigDict, such as vlfau_jax.cli.settings.default_config()"
            )
        is_table = "rows" in config
        if self.flag == "config" and is_table:
            raise UserError(
                f"--config={argument} is a table of devices and no experiment; give it as "
                f"--hardware={argument}"
            )
        if self.flag == "hardware" and not is_table:
            raise UserError(
                f"--hardware={argument} is no table of devices: it has no rows; give "
                "configs/hardware.py or one like it"
            )
        return config if is_table else _completed(config, path)

    def flag_type(self) -> str:
        return "file of Python code"


def _find(flag: str, argument: str, name: str) -> Path:
    if "\0" in argument:
        raise UserError(f"--{flag}={argument}: give a name without NUL characters")
    path = shipped.find(name)
    if path.is_dir():
        raise UserError(f"--{flag}={argument} is a folder; give a file, such as {name}/X.py")
    if path.exists():
        return path
    ours = [one for one in shipped.names() if _OTHERS.get(one, "config") == flag]
    raise UserError(
        f"--{flag}={argument}: no such file; give {_WANTED[flag]}, or one of those that ship: "
        f"{', '.join(ours) or 'none, configs/ is missing'}"
    )


def read_ablation(argument: str) -> dict[str, dict[str, Any]]:
    """The value of --rows: FILE[:args] -> what its get_rows(args) returns, name -> {key: value}.

    Raises:
        UserError: no such file, a mistake in its code, or it returns something else.
    """
    name, colon, args = argument.partition(":")
    path = _find("rows", argument, name)
    rows = _call(path, "get_rows", *([args] if colon else []))
    if not isinstance(rows, dict) or not rows:
        raise UserError(f"{path}: get_rows() returns no rows; return {{name: {{key: value}}}}")
    for row, overrides in rows.items():
        named = isinstance(row, str) and isinstance(overrides, dict)
        if not (named and all(isinstance(key, str) for key in overrides)):
            raise UserError(
                f"{path}: get_rows() has a row {str(row)[:80]!r} that is no {{key: value}}; return "
                "{name: {key: value}}"
            )
    return rows


_PURPOSE = {
    "get_config": "an experiment is a file whose get_config() returns a ConfigDict",
    "get_rows": "the rows of an ablation are a file whose get_rows() returns {name: {key: value}}",
}


def _call(path: Path, function: str, *args: str) -> Any:
    """What a function of the file returns; UserError with the place where its code fails."""
    text = read_bytes(path, _LIMIT)
    module = ModuleType(f"{path.stem}_config")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and pickles look for their module there
    try:
        exec(compile(text, str(path), "exec"), vars(module))
        if not callable(vars(module).get(function)):
            raise UserError(
                f"{path}: has no function {function}; {_PURPOSE[function]}, see configs/README.md"
            )
        return getattr(module, function)(*args)
    except UserError:
        raise
    except SyntaxError as error:
        raise UserError(
            f"{error.filename or path}:{error.lineno or 1}: {type(error).__name__}: {error.msg}"
        ) from None
    except (Exception, SystemExit) as error:  # whatever the user's code does
        text = " ".join(str(error).split())
        place = _place(error.__traceback__, path)
        raise UserError(f"{place}: {type(error).__name__}{': ' if text else ''}{text}") from error


def _place(trace: TracebackType | None, path: Path) -> str:
    """`file:line` of the innermost call in the user's own code: no library's, and not ours."""
    libraries = {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}
    package = str(Path(__file__).resolve().parents[1])
    own = [
        frame
        for frame in traceback.extract_tb(trace)
        if not frame.filename.startswith(("<", package, *libraries)) or frame.filename == str(path)
    ]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else str(path)


def _completed(config: ConfigDict, path: Path) -> ConfigDict:
    """The experiment with the defaults of the keys that it leaves out, so that all can be set."""
    from vlfau_jax.cli.settings import check_key, default_config

    for key, value in _leaves(config):
        try:
            check_key(f"config.{key}")
        except UserError as error:
            if not (isinstance(value, ConfigDict) and "group" in str(error)):
                raise UserError(f"{path}: {error}") from None

    with config.unlocked(), config.ignore_type():
        for name, default in default_config().items():
            if isinstance(default, ConfigDict) and isinstance(config.get(name), ConfigDict):
                for key in set(default) - set(config[name]):
                    config[name][key] = default[key]
            elif name not in config:
                config[name] = default
    config.lock()
    return config


def _leaves(tree: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, ConfigDict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + str(name), value


def expanded(argv: list[str], depth: int = 0) -> list[str]:
    """`argv` with the lines of each --flagfile in its place.

    A line is one argument as it is; empty lines and those that begin with # or // are skipped.

    Raises:
        UserError: a file that cannot be read as text, or files that name one another in a circle.
    """
    found, rest = [], iter(argv)
    for argument in rest:
        if argument == "--":
            return [*found, argument, *rest]
        flag, equals, name = argument.partition("=")
        if flag not in ("--flagfile", "-flagfile"):
            found.append(argument)
            continue
        name = name if equals else next(rest, "")
        if depth == _DEEPEST:
            raise UserError(f"--flagfile={name}: files of flags name one another in a circle")
        try:
            lines = read_bytes(name, _LIMIT).decode().splitlines()
        except UnicodeDecodeError:
            raise UserError(
                f"--flagfile={name}: is not UTF-8 text; give a file with one flag a line"
            ) from None
        lines = [line.strip() for line in lines]
        lines = [line for line in lines if line and not line.startswith(("#", "//"))]
        found += expanded(lines, depth + 1)
    return found
