"""Whether two files count the same frames from the same number."""

from __future__ import annotations

from collections.abc import Collection


def shift(found: Collection[int], expected: Collection[int]) -> int:
    """1 or -1 where `found` covers the `expected` frames one too high or too low; else 0.

    That shifts every label or crop by one frame, and nothing but the two ends shows it.
    """
    if not found or not expected:
        return 0
    first, last = min(found) - min(expected), max(found) - max(expected)
    return first if first == last and abs(first) == 1 and len(expected) > 1 else 0
