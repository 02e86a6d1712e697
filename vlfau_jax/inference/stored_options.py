"""Options read back from the JSON of a checkpoint or a model folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from vlfau_jax.errors import UserError

Options = TypeVar("Options")


def read_options(kind: type[Options], stored: Mapping[str, Any], source: object) -> Options:
    """An options dataclass from JSON values: lists become tuples, absent fields their defaults.

    Fields are absent where an earlier version, which did not have them, wrote the values.

    Args:
        kind: the dataclass, such as ModelOptions.
        stored: its fields as JSON holds them.
        source: the file or folder that they come from, for the message.

    Raises:
        UserError: a field that this version does not know, or a value that it refuses.
    """
    try:
        unknown = stored.keys() - {field.name for field in fields(kind)}
    except AttributeError as error:
        raise UserError(f"{source}: holds no valid {kind.__name__} ({error})") from error
    if unknown:
        shown = ", ".join(f"{name!r:.40}" for name in sorted(unknown)[:10])
        raise UserError(
            f"{source}: {kind.__name__} holds {shown}, which this version does not know; use the "
            "version of vlfau_jax that wrote it"
        )
    try:
        return kind(**stored)
    except UserError as error:  # of the dataclass itself, which has checked every field
        raise UserError(f"{source}: holds no valid {kind.__name__} ({error})") from None
