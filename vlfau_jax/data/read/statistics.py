"""Statistics of a set's labels: rates, active units per frame, and co-occurrence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import StringConstraints

from vlfau_jax.records import parse_record

# Why labels cannot teach a unit.
Reason = Literal["never known", "never active", "always active"]
# As JSON holds them: the unit's number and the reason.
Untaught = dict[Annotated[str, StringConstraints(pattern="^[1-9][0-9]?$")], Reason]


@dataclass(frozen=True)
class LabelCounts:
    """Counted labels of some frames, for n action units.

    Attributes:
        frames: the number of frames.
        active: int64 [n], frames in which a unit is known to be active.
        known: int64 [n], frames in which its state is known.
        together: int64 [n + 1], frames in which 0 to n units are known to be active.
    """

    frames: int
    active: np.ndarray
    known: np.ndarray
    together: np.ndarray

    @property
    def rates(self) -> np.ndarray:
        """Share of the known labels that are active, float64 [n]; NaN where none is known."""
        return ratio(self.active, self.known)

    @property
    def mean_active(self) -> float:
        """The mean number of units known to be active in a frame; NaN without frames."""
        return float(ratio(self.active.sum(), np.int64(self.frames)))


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The share `part / whole`, NaN where `whole` is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, part / np.asarray(whole, np.float64), np.nan)


def read_untaught(stored: Any, source: object) -> dict[int, Reason]:
    """`unlearnable`'s units from the values of a file. Raises FileError where they are no such."""
    found = parse_record(json.dumps(stored), Untaught, f"{source}: untaught")
    return {int(au): reason for au, reason in found.items()}


def unlearnable(aus: Sequence[int], active: np.ndarray, known: np.ndarray) -> dict[int, Reason]:
    """The units that labels cannot teach, each with the reason.

    Args:
        aus: the units' numbers, n of them.
        active: int [n], frames in which each is known to be active.
        known: int [n], frames in which its state is known.
    """
    found: dict[int, Reason] = {}
    for au, on, frames in zip(aus, active, known, strict=True):
        if not frames:
            found[au] = "never known"
        elif on in (0, frames):
            found[au] = "always active" if on else "never active"
    return found


def count(au: np.ndarray, known: np.ndarray) -> LabelCounts:
    """Counts labels: `au` and `known` are [m, n], true where active, and where the state is known.

    An unknown label counts as neither active nor inactive.
    """
    on = (np.asarray(au) > 0) & known
    return LabelCounts(
        frames=len(on),
        active=on.sum(0, dtype=np.int64),
        known=np.asarray(known).sum(0, dtype=np.int64),
        together=np.bincount(on.sum(1), minlength=on.shape[1] + 1).astype(np.int64),
    )


def phi(au: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Phi coefficient of every pair of units, float64 [n, n] in -1 to 1.

    phi = (N n11 - n1. n.1) / sqrt(n1. (N - n1.) n.1 (N - n.1)) over the N frames in which both are
    known (Yule 1912, also Pearson's correlation of the two codes). NaN where one of the two is
    constant in those frames, or there are none. `au` and `known` as in `count`.
    """
    k = np.asarray(known, np.float64)
    a = (np.asarray(au) > 0) * k
    both, first, second, frames = a.T @ a, a.T @ k, k.T @ a, k.T @ k
    spread = first * (frames - first) * second * (frames - second)
    return ratio(frames * both - first * second, np.sqrt(spread))
