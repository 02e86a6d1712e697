"""The timeline of a clip: a strip for each unit, drawn as SVG, and what the script moves along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from vlfau_jax.report.clip import Clip
from vlfau_jax.report.formats import share

COLUMNS = 480  # of a strip at most; each is the highest of its frames
HEIGHT = 100


@dataclass(frozen=True)
class Strip:
    """One unit over the clip.

    Attributes:
        au: its number.
        path: its probability as the data of an SVG path, `columns` wide and `HEIGHT` high.
        threshold: the height of its threshold, from the top.
        highest: its highest probability; None without a face or of a unit that was not `taught`.
        at: the time of that, in seconds.
        on: the share of the frames with a face in which it is on.
        taught: whether training could teach it; else its numbers mean nothing and are not drawn.
    """

    au: int
    path: str
    threshold: float
    highest: float | None
    at: float | None
    on: float | None
    taught: bool


@dataclass(frozen=True)
class Timeline:
    """All strips, and where there is no face, as the data of an SVG path of the same size."""

    columns: int
    strips: tuple[Strip, ...]
    gaps: str
    start: float
    end: float


def clock(seconds: float) -> str:
    """A time as `1:02.5`."""
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{int(minutes)}:{rest:04.1f}"


def timeline(clip: Clip, thresholds: Sequence[float], untaught: Sequence[int]) -> Timeline:
    """The timeline of a clip of at least one frame.

    The frames are spread evenly over the strips by their number: gaps of a variable frame rate do
    not show.
    """
    values = np.stack(clip.probabilities)
    known = ~np.isnan(values[:, 0])
    columns = min(len(values), COLUMNS)
    edges = np.linspace(0, len(values), columns + 1).round().astype(int)
    parts = [slice(a, b) for a, b in pairwise(edges)]
    strips = []
    for k, au in enumerate(clip.aus):
        row, taught = values[:, k], au not in untaught
        shown = taught and bool(known.any())
        best = int(np.nanargmax(row)) if shown else 0
        highest = [row[part][known[part]].max(initial=-1) for part in parts]
        strips.append(
            Strip(
                au=au,
                path=_steps(highest) if taught else "",
                threshold=HEIGHT * (1 - thresholds[k]),
                highest=float(row[best]) if shown else None,
                at=clip.times[best] if shown else None,
                on=float((row[known] > thresholds[k]).mean()) if shown else None,
                taught=taught,
            )
        )
    gaps = _steps([-1 if known[part].any() else 1 for part in parts])
    return Timeline(columns, tuple(strips), gaps, clip.times[0], clip.times[-1])


def _steps(heights: Sequence[float]) -> str:
    """An area over the columns, each 1 wide, of heights 0 to 1; nothing where one is negative."""
    return "".join(
        f"M{x} {HEIGHT}V{HEIGHT * (1 - height):.0f}h1V{HEIGHT}z"
        for x, height in enumerate(heights)
        if height >= 0
    )


def clip_data(clip: Clip, untaught: Sequence[int]) -> dict[str, Any]:
    """What the script gets: of each still its place, time, picture, numbers and sentence.

    "at" is the middle of its frame, as a share of the strips; "texts" holds each sentence and each
    reason once, "text" its number.
    """
    texts: dict[str, int] = {}
    stills = []
    for still in clip.stills:
        row = clip.probabilities[still.frame]
        text = still.reason or still.sentence or ""
        stills.append(
            {
                "at": round((still.frame + 0.5) / len(clip.times), 5),
                "time": clock(clip.times[still.frame]),
                "seconds": round(clip.times[still.frame], 3),
                "image": still.image,
                "text": texts.setdefault(text, len(texts)),
                "scores": [
                    None if np.isnan(value) or au in untaught else share(float(value), 2)
                    for au, value in zip(clip.aus, row, strict=True)
                ],
            }
        )
    return {"stills": stills, "texts": list(texts)}
