"""labels.png and cooccurrence.png: how often, how many, in whom, and which units together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vlfau_jax.data.read.statistics import LabelCounts
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.report.canvas import (
    ACCENT,
    CARD,
    INK,
    LINE,
    PAD,
    SERIES,
    SOFT,
    TEXT,
    WARN,
    WARN_INK,
    WRONG,
    Block,
    Heading,
    card,
    mixed,
    page,
    shorten,
    width,
)

WIDTH = 1280
SMALL = 14
NAME = 220  # room for a unit's number and name
MOST_SUBJECTS = 120  # rows of the table of people
MOST_PAIRS = 16


@dataclass(frozen=True)
class Person:
    """One subject's labels, and the set that they are in."""

    name: str
    part: str
    counts: LabelCounts


def unit_name(au: int) -> str:
    """A unit's number and name: `AU12 lip corner puller`."""
    return f"AU{au:02d} {ACTION_UNITS[au].name}"


def percent(share: float | None) -> str:
    """A share of 1 as per cent, a dash where it is undefined (None or NaN)."""
    return "-" if share is None or math.isnan(share) else f"{100 * share:.1f} %"


def label_picture(
    aus: Sequence[int], sets: Mapping[str, LabelCounts], people: Sequence[Person], heading: Heading
) -> Image.Image:
    """labels.png.

    Args:
        aus: the units, n of them.
        sets: name -> its counts, such as training, validation, test; at most three.
        people: their labels one by one, in the order of the rows.
        heading: what stands above.
    """
    blocks = [_rates(aus, sets), _together(sets), _people(aus, people)]
    return page([heading.block(WIDTH), *blocks])


def _titled(w: int, h: int, title: str, about: str) -> tuple[Block, int]:
    """A card for a chart of `h` pixels, and where that begins."""
    drawn = card(w, 66 + h + PAD)
    drawn.text(PAD, 30, title, size=19)
    drawn.text(PAD, 52, about, size=SMALL, colour=SOFT)
    return drawn, 70


def _legend(drawn: Block, names: Sequence[str]) -> None:
    x = WIDTH - PAD
    for name, colour in reversed([*zip(names, SERIES, strict=False)]):
        x -= width(name)
        drawn.text(x, 30, name)
        drawn.box(x - 22, 19, 14, 12, colour, radius=3)
        x -= 42


def _rates(aus: Sequence[int], sets: Mapping[str, LabelCounts]) -> Block:
    """Bars of the occurrence rates, with the counts that they come from."""
    bar, words = 17, 330
    row = bar * len(sets) + 14
    drawn, y = _titled(
        WIDTH,
        row * len(aus),
        "How often each unit is active",
        "share of the frames in which its state is known; counts beside it",
    )
    _legend(drawn, list(sets))
    left, room = PAD + NAME, WIDTH - 2 * PAD - NAME - words
    for i, au in enumerate(aus):
        middle = y + bar * len(sets) / 2
        drawn.text(PAD, middle, unit_name(au), anchor="lm")
        for k, (counts, colour) in enumerate(zip(sets.values(), SERIES, strict=False)):
            top = y + bar * k
            rate = float(counts.rates[i])
            drawn.box(left, top + 2, room, bar - 4, mixed(LINE, 0.5), radius=3)
            if rate > 0:
                drawn.box(left, top + 2, room * rate, bar - 4, colour, radius=3)
            told = f"{int(counts.active[i]):,} of {int(counts.known[i]):,}"
            unknown = counts.frames - int(counts.known[i])
            drawn.text(left + room + 68, top + bar / 2, percent(rate), size=SMALL, anchor="rm")
            drawn.text(
                left + room + 82,
                top + bar / 2,
                told + (f", {unknown:,} unknown" if unknown else ""),
                size=SMALL,
                colour=SOFT,
                anchor="lm",
            )
        y += row
    return drawn


def _together(sets: Mapping[str, LabelCounts]) -> Block:
    """Columns: in which share of the frames 0, 1, 2, ... units are active at once."""
    columns = {name: counts.together / max(counts.frames, 1) for name, counts in sets.items()}
    most = max(int(np.flatnonzero(shares).max(initial=0)) for shares in columns.values())
    tallest = max(float(shares.max()) for shares in columns.values()) or 1.0
    high = 210
    means = "; ".join(f"{name} {counts.mean_active:.2f}" for name, counts in sets.items())
    drawn, y = _titled(
        WIDTH,
        high + 62,
        "How many units are active at once",
        f"per cent of the frames; unknown labels count as not active; on average {means}",
    )
    _legend(drawn, list(sets))
    group = (WIDTH - 2 * PAD) / (most + 1)
    bar = min(44.0, (group - 8) / len(sets))
    base = y + 20 + high
    for k in range(most + 1):
        x = PAD + group * k + (group - bar * len(sets)) / 2
        for shares, colour in zip(columns.values(), SERIES, strict=False):
            tall = high * float(shares[k]) / tallest
            if shares[k] > 0:
                drawn.box(x + 1, base - tall, bar - 2, tall, colour, radius=2)
            said = f"{100 * shares[k]:.1f}" if shares[k] > 0 else "0"
            drawn.text(x + bar / 2, base - tall - 5, said, size=12, colour=SOFT, anchor="ms")
            x += bar
        drawn.text(PAD + group * (k + 0.5), base + 20, str(k), anchor="ms")
    drawn.line(PAD, base, WIDTH - PAD, base, SOFT)
    drawn.text(WIDTH - PAD, base + 38, "active units", size=SMALL, colour=SOFT, anchor="rs")
    return drawn


def _people(aus: Sequence[int], people: Sequence[Person]) -> Block:
    """A table: people down, units across, every cell coloured by its rate."""
    shown = people[:MOST_SUBJECTS]
    names, row = 190, 23
    left, far = PAD + names, WIDTH - PAD - 96
    cell = (far - left) / len(aus)
    about = "per cent of the known frames, by person; ? where a unit is never known"
    if len(shown) < len(people):
        about += f"; the first {len(shown)} of {len(people)} people, labels.json has all"
    drawn, y = _titled(WIDTH, 30 + row * len(shown), "How often, by person", about)
    for i, au in enumerate(aus):
        drawn.text(left + cell * (i + 0.5), y + 16, f"AU{au:02d}", size=SMALL, anchor="ms")
    drawn.text(WIDTH - PAD, y + 16, "frames", size=SMALL, colour=SOFT, anchor="rs")
    y += 26
    for person in shown:
        middle = y + row / 2
        drawn.text(PAD, middle, shorten(person.name, 100, SMALL), size=SMALL, anchor="lm")
        drawn.text(PAD + 106, middle, person.part, size=SMALL, colour=SOFT, anchor="lm")
        for i, rate in enumerate(person.counts.rates):
            _cell(drawn, left + cell * i, y, cell, row, float(rate))
        frames = f"{person.counts.frames:,}"
        drawn.text(WIDTH - PAD, middle, frames, size=SMALL, colour=SOFT, anchor="rm")
        y += row
    return drawn


def _cell(drawn: Block, x: float, y: float, w: float, h: float, rate: float) -> None:
    if math.isnan(rate):
        said, colour, ink = "?", WARN, WARN_INK
    else:
        said, colour = f"{100 * rate:.0f}", mixed(ACCENT, rate)
        ink = CARD if rate > 0.65 else INK
    drawn.box(x, y, w - 1, h - 1, colour)
    drawn.text(x + w / 2, y + h / 2, said, size=13, colour=ink, anchor="mm")


def strongest(phi: np.ndarray, aus: Sequence[int], most: int) -> list[tuple[int, int, float]]:
    """The pairs of units whose phi is farthest from 0: (au, au, phi), at most `most` of them."""
    pairs = [
        (one, other, float(phi[i, j]))
        for i, one in enumerate(aus)
        for j, other in enumerate(aus)
        if i < j and not math.isnan(phi[i, j])
    ]
    return sorted(pairs, key=lambda pair: -abs(pair[2]))[:most]


def signed(value: float) -> str:
    """A coefficient as the field writes it: `+.54`, `-.26`; a dash where it is undefined."""
    if math.isnan(value):
        return "-"
    if abs(value) < 0.005:
        return ".00"
    text = f"{value:+.2f}"
    return text.replace("0.", ".", 1) if abs(value) < 0.995 else text


def cooccurrence_picture(phi: np.ndarray, aus: Sequence[int], heading: Heading) -> Image.Image:
    """cooccurrence.png: phi float [n, n] (NaN where undefined) with its numbers, and as pairs."""
    return page([heading.block(WIDTH), _matrix(phi, aus), _pairs(phi, aus)])


def _tint(value: float) -> str:
    """Blue for units that come together, red for those that exclude each other."""
    return mixed(ACCENT if value > 0 else WRONG, min(1.0, abs(value)))


def _matrix(phi: np.ndarray, aus: Sequence[int]) -> Block:
    left = PAD + NAME
    cell = (WIDTH - PAD - left) / len(aus)
    row = min(cell, 56.0)
    drawn, y = _titled(
        WIDTH,
        round(30 + row * len(aus)),
        "Which units come together: phi",
        "+1 always together, 0 independent, -1 never together; a dash where one of the two never "
        "changes in the frames where both are known, or there is no such frame",
    )
    for j, au in enumerate(aus):
        drawn.text(left + cell * (j + 0.5), y + 16, f"AU{au:02d}", size=SMALL, anchor="ms")
    y += 26
    for i, au in enumerate(aus):
        drawn.text(PAD, y + row / 2, unit_name(au), anchor="lm")
        for j in range(len(aus)):
            value = float(phi[i, j])
            x = left + cell * j
            blank = i == j or math.isnan(value)
            drawn.box(x, y, cell - 1, row - 1, mixed(LINE, 0.4) if blank else _tint(value))
            ink = SOFT if blank else CARD if abs(value) > 0.65 else INK
            said = "" if i == j else signed(value)
            drawn.text(x + cell / 2, y + row / 2, said, colour=ink, anchor="mm")
        y += row
    return drawn


def _pairs(phi: np.ndarray, aus: Sequence[int]) -> Block:
    pairs = strongest(phi, aus, MOST_PAIRS)
    row = 26
    drawn, y = _titled(
        WIDTH,
        row * max(len(pairs), 1),
        "The strongest pairs",
        "by how far phi is from 0, blue together, red apart",
    )
    if not pairs:
        drawn.text(PAD, y + 14, "no two units of which both change", colour=SOFT)
    words = 2 * NAME + 30
    room = WIDTH - 2 * PAD - words - 60
    for one, other, value in pairs:
        middle = y + row / 2
        drawn.text(PAD, middle, unit_name(one), anchor="lm")
        drawn.text(PAD + NAME, middle, "and", colour=SOFT, anchor="lm")
        drawn.text(PAD + NAME + 40, middle, unit_name(other), anchor="lm")
        drawn.text(PAD + words + 44, middle, signed(value), size=TEXT, anchor="rm")
        colour = ACCENT if value > 0 else WRONG
        drawn.box(PAD + words + 60, y + 5, room * abs(value), row - 10, colour, radius=3)
        y += row
    return drawn
