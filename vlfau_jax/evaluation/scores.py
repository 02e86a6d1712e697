"""Stub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def read_thresholds(scores: Mapping[str, Any]) -> tuple[float, ...]:
    """The threshold of each unit, from what scores.json holds."""
    threshold, aus = scores["threshold"], scores["aus"]
    if isinstance(threshold, Mapping):
        return tuple(float(threshold[str(au)]) for au in aus)
    return (float(threshold),) * len(aus)
