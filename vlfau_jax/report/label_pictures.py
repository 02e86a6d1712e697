"""labels.png: how often each unit is active, how many are at once, and how often by subject."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vlfau_jax.data.read.statistics import LabelCounts
from vlfau_jax.report.formats import au_name, percent, unit_name
from vlfau_jax.report.label_record import Subject
from vlfau_jax.report.plots import drawing
from vlfau_jax.report.sheets import (
    MARGIN,
    SMALL,
    TEXT,
    WIDTH,
    Heading,
    axes_at,
    extent,
    heat,
    new_figure,
    pixels,
    points,
    section,
    shorten,
    write,
)
from vlfau_jax.report.theme import LIGHT, mix

NAME = 230  # room for a unit's number and name
COUNTS = 340  # for a rate and the counts that it comes from
BAR, ROW, COLUMNS = 18, 24, 250  # height of a bar, of a subject's row, of the columns
TITLE, GAP = 62, 40  # height of a section's title; from one section to the next
MOST_SUBJECTS = 120  # rows of the table of subjects


def label_picture(
    aus: Sequence[int],
    sets: Mapping[str, LabelCounts],
    subjects: Sequence[Subject],
    heading: Heading,
) -> np.ndarray:
    """The picture, uint8 [h, w, 3] RGB.

    Args:
        aus: the units, n of them.
        sets: name -> its counts, such as training, validation, test; at most three.
        subjects: their labels one by one, in the order of the rows.
        heading: the text above.
    """
    listed = subjects[:MOST_SUBJECTS]
    heights = (
        len(aus) * (BAR * len(sets) + 14),
        COLUMNS + 50,
        30 + ROW * len(listed),
    )
    with drawing():
        y = heading.height()
        figure = new_figure(WIDTH, y + sum(heights) + 3 * TITLE + 2 * GAP + MARGIN)
        heading.draw(figure)
        for draw, height in zip((_rates, _together), heights, strict=False):
            draw(figure, y, height, aus, sets)
            y += TITLE + height + GAP
        _by_subject(figure, y, heights[-1], aus, listed, len(subjects))
        return pixels(figure)


def _legend(figure: Figure, y: float, names: Sequence[str]) -> None:
    width, height = extent(figure)
    figure.legend(
        [Patch(color=colour) for colour in LIGHT.series[: len(names)]],
        names,
        loc="upper right",
        bbox_to_anchor=(1 - MARGIN / width, 1 - y / height),
        ncols=len(names),
        frameon=False,
        fontsize=points(TEXT),
        borderaxespad=0,
        handlelength=1,
    )


def _rates(
    figure: Figure, y: float, height: float, aus: Sequence[int], sets: Mapping[str, LabelCounts]
) -> None:
    """Bars of the occurrence rates, with the counts that they come from."""
    about = "share of the frames in which its state is known; counts beside it"
    top = section(figure, y, "How often each unit is active", about)
    axes = axes_at(figure, MARGIN + NAME, top, WIDTH - 2 * MARGIN - NAME - COUNTS, height)
    axes.set_xlim(0, 1)
    axes.set_ylim(height, 0)
    step = BAR * len(sets) + 14
    for i, au in enumerate(aus):
        middle = top + step * i + BAR * len(sets) / 2
        write(figure, MARGIN, middle, unit_name(au), upright="center_baseline")
    for k, (counts, colour) in enumerate(zip(sets.values(), LIGHT.series, strict=False)):
        middles = step * np.arange(len(aus)) + BAR * (k + 0.5)
        axes.barh(middles, 1, BAR - 4, color=mix(LIGHT.line, 0.5, LIGHT.card))
        axes.barh(middles, np.nan_to_num(counts.rates), BAR - 4, color=colour)
        x = WIDTH - MARGIN - COUNTS
        for i, middle in enumerate(top + middles):
            counted = f"{int(counts.active[i]):,} of {int(counts.known[i]):,}"
            unknown = counts.frames - int(counts.known[i])
            counted += f", {unknown:,} unknown" if unknown else ""
            style = {"size": SMALL, "upright": "center_baseline"}
            rate = percent(float(counts.rates[i]))
            write(figure, x + 70, middle, rate, align="right", **style)
            write(figure, x + 84, middle, counted, colour=LIGHT.soft, **style)
    _legend(figure, y + 8, list(sets))


def _together(
    figure: Figure, y: float, height: float, aus: Sequence[int], sets: Mapping[str, LabelCounts]
) -> None:
    """Columns: in which share of the frames 0, 1, 2, ... units are active at once."""
    shares = {name: 100 * c.together / max(c.frames, 1) for name, c in sets.items()}
    most = max(int(np.flatnonzero(values).max(initial=0)) for values in shares.values())
    means = "; ".join(f"{name} {counts.mean_active:.2f}" for name, counts in sets.items())
    about = f"per cent of the frames; unknown labels count as not active; on average {means}"
    top = section(figure, y, "How many units are active at once", about)
    axes = axes_at(figure, MARGIN, top, WIDTH - 2 * MARGIN, height - 50)
    bar = min(0.25, 0.88 / len(sets))
    room = bar * (WIDTH - 2 * MARGIN) / (most + 1)
    for k, (values, colour) in enumerate(zip(shares.values(), LIGHT.series, strict=False)):
        places = np.arange(most + 1) + bar * (k - (len(sets) - 1) / 2)
        drawn = axes.bar(places, values[: most + 1], bar * 0.94, color=colour)
        texts = [f"{value:.1f}" if value > 0 else "0" for value in values[: most + 1]]
        axes.bar_label(
            drawn, texts, padding=2, fontsize=points(min(SMALL, 0.42 * room)), color=LIGHT.soft
        )
    axes.set_xlim(-0.5, most + 0.5)
    axes.set_ylim(0, 1.1 * max(float(values.max()) for values in shares.values()) or 1)
    axes.set_xticks(range(most + 1))
    axes.spines["bottom"].set(visible=True, color=LIGHT.soft)
    axes.set_xlabel("active units", loc="right", fontsize=points(SMALL), color=LIGHT.soft)
    _legend(figure, y + 8, list(sets))


def _by_subject(
    figure: Figure,
    y: float,
    height: float,
    aus: Sequence[int],
    subjects: Sequence[Subject],
    number: int,
) -> None:
    """A table: subjects down, units across, every cell coloured by its rate."""
    about = "per cent of the known frames, by subject; ? where a unit is never known"
    if len(subjects) < number:
        about += f"; the first {len(subjects)} of {number} subjects, labels.json has all"
    top = section(figure, y, "How often, by subject", about) + 30
    rates = np.array([subject.counts.rates for subject in subjects]).reshape(-1, len(aus))
    left = MARGIN + 210
    axes = axes_at(figure, left, top, WIDTH - left - MARGIN - 90, height - 30)
    heat(
        axes,
        [au_name(au) for au in aus],
        _each(rates, lambda r: mix(LIGHT.accent, r, LIGHT.card), LIGHT.warn),
        _each(rates, lambda r: f"{100 * r:.0f}", "?"),
        _each(rates, lambda r: LIGHT.card if r > 0.6 else LIGHT.ink, LIGHT.warn_ink),
    )
    style = {"size": SMALL, "upright": "center_baseline"}
    far = WIDTH - MARGIN
    write(figure, far, top - 10, "frames", size=SMALL, colour=LIGHT.soft, align="right")
    for k, subject in enumerate(subjects):
        middle = top + ROW * (k + 0.5)
        write(figure, MARGIN, middle, shorten(subject.name, 112, SMALL), **style)
        write(figure, MARGIN + 124, middle, subject.part, colour=LIGHT.soft, **style)
        frames = f"{subject.counts.frames:,}"
        write(figure, far, middle, frames, colour=LIGHT.soft, align="right", **style)


def _each(values: np.ndarray, of: Callable[[float], str], undefined: str) -> np.ndarray:
    """`of` every value, [m, n]; `undefined` for NaN."""
    found = [[undefined if math.isnan(v) else of(float(v)) for v in row] for row in values]
    return np.array(found, object).reshape(values.shape)
