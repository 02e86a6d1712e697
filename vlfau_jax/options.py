"""Options: what a user may set, each with its type and bounds, all checked in one way.

An option is a field of a dataclass below `Options`; its bounds stand in its annotation, as
`Annotated[int, Field(ge=1, le=64)]`. Configs, stored options of runs and models, and notebooks make
the same dataclass, and so meet the same check. The flags of the command line are annotated, too.
"""

from __future__ import annotations

import dataclasses
import types
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from vlfau_jax.errors import UserError
from vlfau_jax.records import quoted

# The step counter of checkpoints and schedules is an int32.
Steps = Annotated[int, Field(ge=1, le=2**30)]
StepsOrNone = Annotated[int, Field(ge=0, le=2**30)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Name = Annotated[str, Field(max_length=1000)]
FilePath = Annotated[str, Field(max_length=4096)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Workers = Annotated[int, Field(ge=0, le=256)]

_STRICT = ConfigDict(strict=True, allow_inf_nan=False)
_KINDS = {int: "a whole number", float: "a finite number", bool: "True or False", str: "text"}


class Options:
    """Base of the option dataclasses: every field must have its type and keep its bounds.

    Lists become tuples and whole numbers floats where the field is one: JSON and command lines have
    no tuples.

    Attributes:
        group: the name of the options in an experiment, "model"; empty for the experiment itself.
    """

    group: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Checks each field alone; subclasses add what must hold between several.

        Raises:
            UserError: names the option, its value and what would be right.
        """
        prefix = f"{self.group}." if self.group else ""
        for name, kind in option_kinds(type(self)).items():
            value = checked(prefix + name, getattr(self, name), kind)
            object.__setattr__(self, name, value)


@cache
def option_kinds(options: type) -> dict[str, Any]:
    """Field -> its annotation, bounds included, for every field of an option dataclass."""
    hints = get_type_hints(options, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(options)}


def checked(key: str, value: Any, kind: Any) -> Any:
    """`value` as `kind`, a type with bounds.

    Args:
        key: how the user names the option, "model.depths" or "--beams".
        value: what was given.
        kind: the annotation of the option.

    Raises:
        UserError: the value is of another type or out of bounds.
    """
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, kind):
            raise UserError(f"{key}={quoted(value)}: a group of keys is expected here")
        return value
    if isinstance(value, list) and get_origin(_plain(kind)) is tuple:
        value = tuple(value)
    try:
        if isinstance(value, str):  # the name of a file may be no UTF-8, which pydantic refuses
            _adapter(kind).validate_python(value.encode("utf-8", "replace").decode())
        else:
            value = _adapter(kind).validate_python(value)
    except ValidationError as error:
        raise UserError(f"{key}={_shown(value)}: give {wanted(kind, error)}") from None
    for text in value if isinstance(value, tuple) else (value,):
        if isinstance(text, str) and "\0" in text:
            raise UserError(f"{key}={quoted(value)}: give text without NUL characters")
    return value


def wanted(kind: Any, error: ValidationError | None = None) -> str:
    """What an option takes, in words: "1 to 64"; with the type, if the error is about that."""
    plain, metadata = _plain(kind), _metadata(kind)
    if get_origin(plain) in (Union, types.UnionType):
        return wanted(next(a for a in get_args(plain) if a is not type(None)), error)
    if get_origin(plain) is Literal:
        return f"one of {', '.join(map(repr, get_args(plain)))}"
    if get_origin(plain) is tuple:
        return _wanted_tuple(get_args(plain), metadata, error)
    low, high = _bound(metadata, Ge, Gt, "more than "), _bound(metadata, Le, Lt, "below ")
    if high and not high.startswith("below") and (not low or " " in low):
        high = "up to " + high
    text = low + " or more" if low and not high else low or high
    if low and high:
        text = f"{low}{', ' if ' ' in low else ' to '}{high}"
    if longest := _only(metadata, MaxLen):
        text = f"at most {longest.max_length} characters"
    if error is None or not _about_type(error):
        return text or _KINDS.get(plain, "another value")
    named = _KINDS.get(plain, plain.__name__)
    return f"{named}, {text}" if text else named


def _wanted_tuple(items: tuple, metadata: list, error: ValidationError | None) -> str:
    fewest, most = _only(metadata, MinLen), _only(metadata, MaxLen)
    if items[-1] is not Ellipsis:
        number = f"{len(items)} values"
    elif fewest and most and fewest.min_length == most.max_length:
        number = f"{most.max_length} values"
    elif fewest and most:
        number = f"{fewest.min_length} to {most.max_length} values"
    else:
        number = f"at most {most.max_length} values" if most else "values"
    return f"{number}, each {wanted(items[0], error)}"


def _about_type(error: ValidationError) -> bool:
    kind = error.errors(include_url=False, include_context=False)[0]["type"]
    return not kind.startswith(("greater_than", "less_than", "too_", "string_too"))


def _bound(metadata: list, closed: type, opened: type, word: str) -> str:
    if (found := _only(metadata, closed)) is not None:
        return _number(dataclasses.astuple(found)[0])
    if (found := _only(metadata, opened)) is not None:
        return word + _number(dataclasses.astuple(found)[0])
    return ""


def _number(value: float) -> str:
    """Large powers of two as such: 2**31 - 1 is easier read than 2147483647."""
    if isinstance(value, int) and value > 2**20:
        for text, power in (("", value), (" - 1", value + 1)):
            if power & (power - 1) == 0:
                return f"2**{power.bit_length() - 1}{text}"
    return f"{value:.12g}"


def _only(metadata: list, kind: type) -> Any:
    return next((one for one in metadata if isinstance(one, kind)), None)


def _plain(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _metadata(kind: Any) -> list:
    """The bounds of an annotation, in whichever form they are written."""
    if get_origin(kind) is not Annotated:
        return []
    found = []
    for one in get_args(kind)[1:]:
        found += one.metadata if isinstance(one, FieldInfo) else [one]
    return found


def _shown(value: Any) -> str:
    """A value for a message: a tuple is shown whole where it is short."""
    if isinstance(value, tuple) and len(value) <= 8:
        return f"({', '.join(map(quoted, value))}{',' if len(value) == 1 else ''})"
    return quoted(value)


@cache
def _adapter(kind: Any) -> TypeAdapter:
    return TypeAdapter(kind, config=_STRICT)
