"""Numbers and tuples as JSON holds them, and back: NaN is null, a tuple a list, a key text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any, TypeVar, get_type_hints

NAN = float("nan")
Kind = TypeVar("Kind")


def to_json(value: Any) -> Any:
    """JSON's values: keys become text, tuples lists, NaN None."""
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def read_fields(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a dataclass from JSON's values, by its annotations.

    Numbers, text, tuples of them and mappings to numbers are checked and converted; values of any
    other type are taken as they are. Keys that are no field are left out.

    Raises:
        KeyError: a field is missing.
        TypeError, ValueError, AttributeError: a value is of another type.
    """
    types = get_type_hints(kind)
    return {
        field.name: _READERS.get(types[field.name], lambda value: value)(values[field.name])
        for field in fields(kind)
    }


def read_number(value: Any) -> float:
    """A number, int or float as it was written; null is NaN."""
    if value is None:
        return NAN
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{value!r} is where a number should be")
    return value


def _check(kind: type[Kind], value: Any) -> Kind:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{value!r} is where {kind.__name__} should be")
    return value


def _tuple(kind: type[Kind], values: Any) -> tuple[Kind, ...]:
    return tuple(_check(kind, value) for value in _check(list, values))


def _mapping(key: Callable[[str], Any], item: Callable[[Any], Any], values: Any) -> dict[Any, Any]:
    return {key(name): item(value) for name, value in _check(Mapping, values).items()}


_by_name = partial(_mapping, str, read_number)
_by_unit = partial(_mapping, int, read_number)
_READERS: dict[Any, Callable[[Any], Any]] = {
    float: read_number,
    int: partial(_check, int),
    bool: partial(_check, bool),
    str: partial(_check, str),
    tuple[int, ...]: partial(_tuple, int),
    tuple[str, ...]: partial(_tuple, str),
    Mapping[str, float]: _by_name,
    Mapping[int, str]: partial(_mapping, int, partial(_check, str)),
    Mapping[int, Mapping[str, float]]: partial(_mapping, int, _by_name),
    Mapping[str, Mapping[int, float]]: partial(_mapping, str, _by_unit),
}
