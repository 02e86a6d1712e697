"""Descriptions of the config keys, for `--help` and the tables of configs/README.md.

They are read from the options dataclasses and the "Attributes" of their docstrings.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
import typing
from collections.abc import Iterator
from typing import Any

from vlfau_jax.cli.settings import Settings
from vlfau_jax.options import option_kinds, wanted

_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)
_INDENT, _WIDTH = 42, 100


@dataclasses.dataclass(frozen=True)
class Key:
    """One config key.

    Attributes:
        name: with its group, "train.steps".
        kind: its type, as Python writes it, and its bounds.
        default: its default value.
        description: from its dataclass's docstring; empty where that has none.
    """

    name: str
    kind: str
    default: Any
    description: str


def config_keys(options: type = Settings, prefix: str = "") -> Iterator[Key]:
    """Every key of `options` and of the options inside it, in the order of the fields."""
    descriptions, defaults = _attributes(options), options()
    hints, bounds = typing.get_type_hints(options), option_kinds(options)
    for field in dataclasses.fields(options):
        name, hint = prefix + field.name, hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from config_keys(hint, f"{name}.")
            continue
        yield Key(
            name,
            _kind(hint, bounds[field.name]),
            getattr(defaults, field.name),
            descriptions.get(field.name, ""),
        )


def _kind(hint: Any, bounded: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return "|".join(typing.get_args(hint))
    name = hint.__name__ if isinstance(hint, type) else str(hint)
    return name if hint in (bounded, str) else f"{name} {wanted(bounded)}"


def help_on_keys() -> list[str]:
    """Lines of help on every key of an experiment."""
    return ["", "keys of the config, with defaults that an experiment may change:", *key_lines()]


def key_lines(options: type = Settings) -> Iterator[str]:
    """Every key of `options` in two columns: its flag; its description, type and default."""
    for key in config_keys(options):
        about = f"{key.description} ({key.kind}, {key.default!r})"
        yield from _two_columns(f"--config.{key.name}", about.strip())


def key_table(options: type = Settings, prefix: str = "") -> Iterator[str]:
    """Every key of `options` as the lines of a Markdown table."""
    yield from ("| key | default | |", "|---|---|---|")
    for key in config_keys(options, prefix):
        cells = f"`{key.name}`", f"`{key.default!r}`", key.description
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _attributes(options: type) -> dict[str, str]:
    """Field -> its text under "Attributes" in the docstring of a dataclass."""
    listed = inspect.getdoc(options).partition("Attributes:\n")[2]
    return {name: " ".join(text.split()) for name, text in _ATTRIBUTE.findall(listed)}


def _two_columns(name: str, about: str) -> list[str]:
    wrapped = textwrap.wrap(about, _WIDTH - _INDENT)
    head = f"  {name} ".ljust(_INDENT)
    if len(head) > _INDENT:
        wrapped.insert(0, "")
    first, *rest = wrapped
    return [f"{head}{first}".rstrip(), *(" " * _INDENT + line for line in rest)]
