"""Where two settings differ: those of two processes, or of a run and its resumption."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

ABSENT = "absent"


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yields (key, its value in one, in the other) where two nested JSON objects differ, sorted.

    Keys of inner objects are separated by dots; a missing key has the value "absent".
    """
    first, second = dict(_flat(one)), dict(_flat(other))
    for key in sorted(first.keys() | second.keys()):
        values = first.get(key, ABSENT), second.get(key, ABSENT)
        if values[0] != values[1]:
            yield key, *values


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
