"""Records that come from files: JSON checked against a declared schema before anything uses it.

A record is a class below `Record` (or a dataclass), bounds included. Errors are one line that names
the file, the key, the value and what would be right.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from vlfau_jax.errors import FileError
from vlfau_jax.files import RECORD_LIMIT, read_bytes

T = TypeVar("T")

Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
Probability = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, StringConstraints(max_length=10_000)]


def _inside(name: str) -> str:
    if name in (".", ".."):
        raise ValueError("should be the name of a file in the folder")
    return name


# The name of a file or folder directly inside another one: no path leads out by it.
PlainName = Annotated[
    str, StringConstraints(pattern=r"^[^/\\\x00-\x1f\x7f]{1,255}$"), AfterValidator(_inside)
]

_LONGEST_VALUE = 60  # characters of a value that a message quotes


class Record(BaseModel):
    """Base of all records: exact types, no unknown keys, finite numbers, unchangeable.

    A class that must accept files of later versions says `extra="ignore"` itself.
    """

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        # Records have keys such as "model".
        protected_namespaces=(),
    )


def read_record(path: str | Path, kind: type[T], limit: int = RECORD_LIMIT) -> T:
    """The JSON file `path` as a `kind`.

    Raises:
        FileError: no regular file, too large, no JSON, or not such a record.
    """
    return parse_record(read_bytes(path, limit), kind, path)


def parse_record(text: str | bytes, kind: type[T], source: object) -> T:
    """JSON text as a `kind`; `source` is the file that it comes from, for the message.

    Raises:
        FileError: no JSON, or not such a record.
    """
    try:
        return _adapter(kind).validate_json(text)
    except ValidationError as error:
        raise FileError(source, explain(error)) from None
    except (ValueError, RecursionError) as error:  # a number of a million digits, such as
        raise FileError(source, f"no usable JSON ({error})") from None


def explain(error: ValidationError) -> str:
    """The first of pydantic's findings in one line: key, value, and what would be right."""
    first, *others = error.errors(include_url=False, include_context=False)
    if first["type"] == "json_invalid":
        return f"not JSON: {first['msg'].removeprefix('Invalid JSON: ')}"
    key = ".".join(_short(str(part), quoted=False) for part in first["loc"])
    wanted = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    wanted = wanted[0].lower() + wanted[1:]
    more = f" (and {len(others)} more such)" if others else ""
    match first["type"]:
        case "missing":
            return f"{key} is missing{more}"
        case "extra_forbidden":
            return f"{key} is no key of such a record{more}"
    value = _short(first["input"])
    return f"{key + ' is ' if key else 'holds '}{value}; {wanted}{more}"


def quoted(value: Any) -> str:
    """The repr of a value for a message, bounded in length and in cost."""
    return _short(value)


def _short(value: Any, quoted: bool = True) -> str:
    # The repr of a value as deep or as long as its file would be as costly as the file.
    match value:
        case dict():
            text = "an object"
        case list() | tuple():
            text = f"a list of {len(value)}"
        case str():
            text = repr(value[: _LONGEST_VALUE + 1]) if quoted else value[: _LONGEST_VALUE + 1]
        case int() if abs(value) > 10**_LONGEST_VALUE:
            text = f"a number of {value.bit_length()} bits"
        case _:
            text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "..."


@cache
def _adapter(kind: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(kind)
