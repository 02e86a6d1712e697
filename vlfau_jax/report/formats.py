"""Numbers and names as pages, plots and the screen write them; a dash where one is undefined."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vlfau_jax.facs import ACTION_UNITS

UNDEFINED = "-"


def undefined(value: float | None) -> bool:
    """Whether a number is None or NaN."""
    return value is None or math.isnan(value)


def share(value: float | None, digits: int = 3) -> str:
    """A share of 1, such as `0.750`."""
    return UNDEFINED if undefined(value) else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """A share of 1 in per cent, such as `43.1 %`."""
    return UNDEFINED if undefined(value) else f"{100 * value:.1f} %"


def number(value: float | None) -> str:
    """A count with separators of thousands, or a share of 1."""
    return f"{value:,}" if isinstance(value, int) else share(value)


def signed(value: float | None) -> str:
    """A coefficient as the field writes it: `+.54`, `-.26`."""
    if undefined(value):
        return UNDEFINED
    if abs(value) < 0.005:
        return ".00"
    text = f"{value:+.2f}"
    return text.replace("0.", ".", 1) if abs(value) < 0.995 else text


def au_name(au: int) -> str:
    """An action unit's number: `AU01`."""
    return f"AU{au:02d}"


def unit_name(au: int) -> str:
    """An action unit's number and name: `AU12 lip corner puller`."""
    return f"{au_name(au)} {ACTION_UNITS[au].name}"


def people(subjects: Sequence[str]) -> str:
    """How many: `1 person`, `14 people`."""
    return f"{len(subjects)} {'person' if len(subjects) == 1 else 'people'}"


def protocol_field(value: Any, nothing: str = "") -> str:
    """A field of the protocol in words, None as `nothing`; of a mixture, set by set."""
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {protocol_field(one, nothing)}" for name, one in value.items())
    return nothing if value is None else str(value)
