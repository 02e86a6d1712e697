"""What a report says of confusion and co-occurrence: right and wrong frames, labels and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlfau_jax.report.label_text import strongest

MOST_PAIRS = 10
Phi = Sequence[Sequence[float | None]]


@dataclass(frozen=True)
class Confusion:
    """A unit's frames by label and prediction; None where the unit was not taught.

    Attributes:
        au: the unit's number; None for all units together.
        tp: on, and predicted on.
        fn: on, but predicted off.
        fp: off, but predicted on.
        tn: off, and predicted off.
    """

    au: int | None
    tp: int | None
    fn: int | None
    fp: int | None
    tn: int | None

    @property
    def found(self) -> float | None:
        """Share of the frames that are on that are predicted on; None without any."""
        return _share(self.tp, self.fn)

    @property
    def false_alarms(self) -> float | None:
        """Share of the frames that are off that are predicted on; None without any."""
        return _share(self.fp, self.tn)


def _share(part: int | None, rest: int | None) -> float | None:
    return part / (part + rest) if part is not None and part + rest else None


def confusion(scores: Mapping[str, Any]) -> tuple[list[Confusion], Confusion] | None:
    """Each unit's confusion and that of all; None from scores.json of versions without the counts.

    Args:
        scores: what scores.json holds.
    """
    rows = []
    for au in scores["aus"]:
        unit = scores["per_au"][str(au)]
        names = ("true_positives", "false_positives", "positives", "frames")
        tp, fp, positives, frames = (unit.get(name) for name in names)
        if tp is None or fp is None:
            rows.append(Confusion(au, None, None, None, None))
        else:
            rows.append(Confusion(au, tp, positives - tp, fp, frames - positives - fp))
    counted = [row for row in rows if row.tp is not None]
    if not counted:
        return None
    cells = ("tp", "fn", "fp", "tn")
    return rows, Confusion(None, *(sum(getattr(row, cell) for row in counted) for cell in cells))


@dataclass(frozen=True)
class Pair:
    """Two units, and phi of their labels and of their predictions; `difference` is between them."""

    one: int
    other: int
    labels: float
    predictions: float
    difference: float


def differing(scores: Mapping[str, Any]) -> list[Pair]:
    """The pairs whose phi of predictions is farthest from that of labels, farthest first.

    Args:
        scores: what scores.json holds.
    """
    found = scores.get("cooccurrence")
    if not found:
        return []
    labels, predictions, aus = found["labels"], found["predictions"], scores["aus"]
    place = {au: i for i, au in enumerate(aus)}
    return [
        Pair(
            one,
            other,
            labels[place[one]][place[other]],
            predictions[place[one]][place[other]],
            value,
        )
        for one, other, value in strongest(_minus(predictions, labels), aus, MOST_PAIRS)
    ]


def _minus(one: Phi, other: Phi) -> list[list[float | None]]:
    return [
        [None if a is None or b is None else a - b for a, b in zip(mine, theirs, strict=True)]
        for mine, theirs in zip(one, other, strict=True)
    ]
