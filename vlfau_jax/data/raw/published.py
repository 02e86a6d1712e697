"""Published facts about a data set that a raw tree and its labels are compared with.

A full licensed tree should agree with all of them; a partial or rendered one agrees with few. They
inform the integrity report and never stop a preparation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Published:
    """The published facts about one data set; the defaults are those of an unpublished one.

    Attributes:
        codes_occurrence: whether every unit has occurrence codes. If so, a unit without any known
            one stays unknown, and no intensity stands in for it.
        parts: the field's subject-exclusive fold parts, see read/folds.py; empty if there are none.
        runs: (subject, task) -> first and last labelled frame, both coded.
        rates: action unit -> per cent of all labelled frames in which it is active.
        threshold: the intensity from which `rates` count a unit as active, where no occurrence is
            coded.
        columns: the header of an occurrence file, or "" where the layout has none.
        weights: action unit -> class weight of fold 1's training subjects, as ME-GraphAU ships it:
            n (1 / r_i) / sum_j (1 / r_j) for the rates r of n units.
        excluded: subject -> first and last frame (1-based, inclusive) of the stretches that the
            field leaves out.
        excluded_by: whose list `excluded` is, for readers of a score.
    """

    codes_occurrence: bool = False
    parts: tuple[tuple[str, ...], ...] = ()
    runs: Mapping[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    rates: Mapping[int, float] = field(default_factory=dict)
    threshold: int = 2
    columns: str = ""
    weights: Mapping[int, float] = field(default_factory=dict)
    excluded: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)
    excluded_by: str = ""

    @property
    def subjects(self) -> tuple[str, ...]:
        """All subjects, sorted."""
        return tuple(sorted({subject for subject, _ in self.runs}))

    @property
    def frames(self) -> int:
        """The number of labelled frames."""
        return self.frames_of(self.subjects)

    def frames_of(self, subjects: Collection[str]) -> int:
        """The number of labelled frames of some subjects."""
        runs = (run for (subject, _), run in self.runs.items() if subject in subjects)
        return sum(last - first + 1 for first, last in runs)

    def excluded_of(self, subjects: Collection[str]) -> int:
        """The number of those frames that the field leaves out."""
        return sum(last - first + 1 for s in subjects for first, last in self.excluded.get(s, ()))


UNPUBLISHED = Published()


def per_unit(aus: Sequence[int], values: str) -> dict[int, float]:
    """Action unit -> value, from numbers separated by spaces in the order of `aus`."""
    return dict(zip(aus, map(float, values.split()), strict=True))
