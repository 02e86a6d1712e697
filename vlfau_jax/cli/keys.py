"""The config keys in words, for `--help`: what the options dataclasses and their docstrings say."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
import typing
from collections.abc import Iterator

from vlfau_jax.cli.settings import Settings

_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)
_INDENT, _WIDTH = 42, 100


def help_on_keys() -> list[str]:
    """Lines of help on every key of an experiment."""
    return ["", "keys of the config, with defaults that an experiment may change:", *key_lines()]


def key_lines(kind: type = Settings, prefix: str = "--config") -> Iterator[str]:
    """Every key below `kind` with its type, its default and its description."""
    said, hints, defaults = _descriptions(kind), typing.get_type_hints(kind), kind()
    for field in dataclasses.fields(kind):
        name, hint = f"{prefix}.{field.name}", hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from key_lines(hint, name)
            continue
        typed = hint.__name__ if isinstance(hint, type) else str(hint)
        about = f"{said.get(field.name, '')} ({typed}, {getattr(defaults, field.name)!r})"
        yield from _two_columns(name, about.strip())


def _descriptions(kind: type) -> dict[str, str]:
    """Field -> what the "Attributes" of its dataclass's docstring say of it, if anything."""
    listed = inspect.getdoc(kind).partition("Attributes:\n")[2]
    return {name: " ".join(text.split()) for name, text in _ATTRIBUTE.findall(listed)}


def _two_columns(name: str, about: str) -> list[str]:
    wrapped = textwrap.wrap(about, _WIDTH - _INDENT)
    head = f"  {name} ".ljust(_INDENT)
    if len(head) > _INDENT:
        wrapped.insert(0, "")
    first, *rest = wrapped
    return [f"{head}{first}".rstrip(), *(" " * _INDENT + line for line in rest)]
