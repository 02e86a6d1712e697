"""Probabilities along a video: smoothed, and as what exceeds a person's usual.

Both are named options, off by default, and change probabilities and what follows from them, not the
sentences. The model's own numbers stay beside them in predictions.jsonl.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

_BINS = 10_000  # of a person's probabilities: the median is known to 1e-4 in constant memory

Records = Callable[[], Iterable[dict[str, Any]]]
_ROUNDING = 1e-6  # seconds, of time stamps
RAW = "raw_probability"


def corrected(
    records: Records,
    thresholds: Mapping[int, float],
    smooth: float = 0.0,
    median: bool = False,
) -> Iterator[dict[str, Any]]:
    """The records of predictions.jsonl with other probabilities, in their order.

    A unit's probability is replaced, in this order, by what exceeds the person's median over the
    whole video (at least 0), and by the mean over the frames at most `smooth` / 2 seconds away
    that show the same person. It counts as active above its threshold as before. Records of
    pictures, which have no time, stay as they are: memory holds `smooth` seconds of a video.

    Args:
        records: gives the records, once for each call; those of a video follow each other.
        thresholds: of each unit.
        smooth: seconds; 0 for none.
        median: whether to subtract the median.
    """
    usual = _medians(records()) if median else {}
    waiting: deque[dict[str, Any]] = deque()
    around: deque[dict[str, Any]] = deque()  # those before, and those that wait
    for record in records():
        if waiting and waiting[0]["source"] != record["source"]:
            yield from _drained(waiting, around, thresholds, smooth)
            around.clear()
        _subtract(record, usual)
        while waiting and record["timestamp"] - waiting[0]["timestamp"] > smooth / 2 + _ROUNDING:
            yield _smoothed(waiting.popleft(), around, thresholds, smooth)
        waiting.append(record)
        around.append(record)
    yield from _drained(waiting, around, thresholds, smooth)


def _drained(
    waiting: deque[dict[str, Any]],
    around: deque[dict[str, Any]],
    thresholds: Mapping[int, float],
    smooth: float,
) -> Iterator[dict[str, Any]]:
    while waiting:
        yield _smoothed(waiting.popleft(), around, thresholds, smooth)


def _is_of_person(record: Mapping[str, Any]) -> bool:
    return bool(record["success"]) and record["video"]


def _person(record: Mapping[str, Any]) -> tuple[str, int]:
    return record["source"], record["face_id"]


def _medians(records: Iterable[Mapping[str, Any]]) -> dict[tuple[str, int], dict[str, float]]:
    """Person -> unit -> the median of its probabilities."""
    counts: dict[tuple[str, int], dict[str, np.ndarray]] = {}
    for record in records:
        if _is_of_person(record):
            of_person = counts.setdefault(_person(record), {})
            for au, unit in record["per_au"].items():
                if unit["probability"] is not None:
                    bins = of_person.setdefault(au, np.zeros(_BINS + 1, np.uint32))
                    bins[round(unit["probability"] * _BINS)] += 1
    return {
        person: {au: _median(bins) for au, bins in units.items()}
        for person, units in counts.items()
    }


def _median(bins: np.ndarray) -> float:
    """The median of values of which bin k has those that are about k / `_BINS`."""
    below = np.cumsum(bins)
    low, high = (np.searchsorted(below, n) for n in ((below[-1] + 1) // 2, below[-1] // 2 + 1))
    return float(low + high) / (2 * _BINS)


def _subtract(record: dict[str, Any], usual: Mapping[tuple[str, int], dict[str, float]]) -> None:
    if not _is_of_person(record):
        return
    medians = usual.get(_person(record), {})
    for au, unit in record["per_au"].items():
        unit[RAW] = unit["probability"]
        if unit["probability"] is not None:
            unit["less"] = max(0.0, unit["probability"] - medians.get(au, 0.0))


def _smoothed(
    record: dict[str, Any],
    around: deque[dict[str, Any]],
    thresholds: Mapping[int, float],
    smooth: float,
) -> dict[str, Any]:
    """`record` with its probabilities replaced; `around` loses what is too long ago."""
    if not _is_of_person(record):
        return record
    now = record["timestamp"]
    while around and now - around[0]["timestamp"] > smooth + _ROUNDING:
        around.popleft()
    near = [
        other["per_au"]
        for other in around
        if abs(other["timestamp"] - now) <= smooth / 2 + _ROUNDING
        and _is_of_person(other)
        and _person(other) == _person(record)
    ]
    units = {}
    for au, unit in record["per_au"].items():
        unit = {key: value for key, value in unit.items() if key != "less"}
        if unit["probability"] is not None:
            mean = sum(other[au]["less"] for other in near) / len(near)
            unit["probability"] = round(mean, 6)
            unit["active"] = mean > thresholds[int(au)]
        units[au] = unit
    return {**record, "per_au": units}
