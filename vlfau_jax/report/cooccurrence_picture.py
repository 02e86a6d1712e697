"""cooccurrence.png: the phi coefficient of every two units, and the strongest pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from vlfau_jax.report.formats import au_name, signed, unit_name
from vlfau_jax.report.label_text import strongest
from vlfau_jax.report.plots import drawing
from vlfau_jax.report.sheets import (
    MARGIN,
    WIDTH,
    Heading,
    axes_at,
    heat,
    new_figure,
    pixels,
    section,
    write,
)
from vlfau_jax.report.theme import LIGHT, mix

NAME, ROW, PAIR = 230, 44, 26  # room for a unit's name; height of a row of the matrix, of a pair
TITLE, GAP = 62, 40
MOST_PAIRS = 16
Phi = Sequence[Sequence[float | None]]


def cooccurrence_picture(phi: Phi, aus: Sequence[int], heading: Heading) -> np.ndarray:
    """The picture, uint8 [h, w, 3] RGB; phi [n, n] in -1 to 1, None where undefined."""
    pairs = strongest(phi, aus, MOST_PAIRS)
    matrix, bars = 30 + ROW * len(aus), PAIR * max(len(pairs), 1)
    with drawing():
        y = heading.height()
        figure = new_figure(WIDTH, y + matrix + bars + 2 * TITLE + GAP + MARGIN)
        heading.draw(figure)
        _matrix(figure, y, phi, aus)
        _pairs(figure, y + TITLE + matrix + GAP, pairs)
        return pixels(figure)


def colour_of(value: float) -> str:
    """Blue for units that are active together, red for those that exclude each other."""
    return LIGHT.accent if value > 0 else LIGHT.wrong


def _matrix(figure: Figure, y: float, phi: Phi, aus: Sequence[int]) -> None:
    about = (
        "+1 always together, 0 independent, -1 never together; a dash where one of the two never "
        "changes in the frames where both are known"
    )
    top = section(figure, y, "Which units are active together: phi", about) + 30
    n = len(aus)
    colours, texts, inks = (np.empty((n, n), object) for _ in range(3))
    for i, row in enumerate(phi):
        for j, value in enumerate(row):
            blank = i == j or value is None
            strength = 0.0 if blank else min(1.0, abs(value))
            colours[i, j] = (
                mix(LIGHT.line, 0.5, LIGHT.card)
                if blank
                else mix(colour_of(value), strength, LIGHT.card)
            )
            texts[i, j] = "" if i == j else signed(value)
            inks[i, j] = LIGHT.soft if blank else LIGHT.card if strength > 0.6 else LIGHT.ink
    left = MARGIN + NAME
    axes = axes_at(figure, left, top, WIDTH - MARGIN - left, ROW * n)
    heat(axes, [au_name(au) for au in aus], colours, texts, inks)
    for k, au in enumerate(aus):
        write(figure, MARGIN, top + ROW * (k + 0.5), unit_name(au), upright="center_baseline")


def _pairs(figure: Figure, y: float, pairs: Sequence[tuple[int, int, float]]) -> None:
    about = "by how far phi is from 0; blue together, red apart"
    top = section(figure, y, "The strongest pairs", about)
    if not pairs:
        text = "no two units of which both change"
        write(figure, MARGIN, top + PAIR / 2, text, colour=LIGHT.soft, upright="center_baseline")
        return
    left = MARGIN + 2 * NAME + 100
    axes = axes_at(figure, left, top, WIDTH - MARGIN - left, PAIR * len(pairs))
    values = [value for _, _, value in pairs]
    axes.barh(range(len(pairs)), np.abs(values), 0.6, color=[colour_of(v) for v in values])
    axes.set_xlim(0, 1)
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    for k, (one, other, value) in enumerate(pairs):
        middle = top + PAIR * (k + 0.5)
        style = {"upright": "center_baseline"}
        write(figure, MARGIN, middle, unit_name(one), **style)
        write(figure, MARGIN + NAME, middle, "and", colour=LIGHT.soft, **style)
        write(figure, MARGIN + NAME + 40, middle, unit_name(other), **style)
        write(figure, left - 14, middle, signed(value), align="right", **style)
