"""faces.png: the faces as the network gets them in training, each with its labels and captions."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from matplotlib.figure import Figure

from vlfau_jax.report.formats import unit_name
from vlfau_jax.report.plots import drawing
from vlfau_jax.report.sheets import (
    MARGIN,
    SMALL,
    Heading,
    extent,
    new_figure,
    pixels,
    shorten,
    wrap,
    write,
)
from vlfau_jax.report.theme import LIGHT
from vlfau_jax.report.training_faces import NO_SENTENCE, UNKNOWN, TrainingFace

FACE = 300  # side of a face on its card
NAME, CHIP = 212, 46  # room for a unit's number and name, and for its label
SENTENCE = 552  # for its sentence
STEP = 19  # from one line of text to the next
GAP = 28  # between the parts of a card, and around it
COLUMNS = 2
CARD = FACE + GAP + CHIP + NAME + SENTENCE
SHEET = 2 * MARGIN + COLUMNS * CARD + (COLUMNS - 1) * 2 * GAP

# Label -> the word on its chip, the chip's colour, the word's, and that of the text beside it.
STATES = {
    1: ("on", LIGHT.accent, LIGHT.card, LIGHT.ink),
    0: ("off", LIGHT.line, LIGHT.soft, LIGHT.soft),
    -1: ("?", LIGHT.warn, LIGHT.warn_ink, LIGHT.warn_ink),
}


def contact_sheet(
    faces: Sequence[TrainingFace], aus: Sequence[int], heading: Heading
) -> np.ndarray:
    """A card per face, two beside each other, in the order of the stream; uint8 [h, w, 3] RGB."""
    rows = [faces[i : i + COLUMNS] for i in range(0, len(faces), COLUMNS)]
    with drawing():
        heights = [round(heading.height(SHEET)), *(round(max(map(_height, row))) for row in rows)]
        sheet = np.empty((sum(heights), SHEET, 3), np.uint8)
        y = 0
        for row, height in zip([(), *rows], heights, strict=True):
            figure = new_figure(SHEET, height)  # one a row: all in one would be huge
            if y == 0:
                heading.draw(figure)
            for k, face in enumerate(row):
                _card(figure, MARGIN + k * (CARD + 2 * GAP), face, aus)
            sheet[y : y + height] = pixels(figure)
            y += height
    return sheet


def enlarged(face: np.ndarray) -> np.ndarray:
    """A square face at the pixels of its card: averaged down, or its own pixels made larger."""
    way = cv2.INTER_AREA if face.shape[0] > FACE else cv2.INTER_CUBIC
    return cv2.resize(face, (FACE, FACE), interpolation=way)


def _unit_lines(face: TrainingFace) -> list[list[str]]:
    """The sentences about the units, in lines."""
    return [wrap(sentence or UNKNOWN, SENTENCE, SMALL) for sentence in face.sentences]


def _row_height(lines: Sequence[str]) -> float:
    """Of one unit: at least that of two lines, so that cards are alike."""
    return max(len(lines), 2) * STEP + 7


def _height(face: TrainingFace) -> float:
    under = FACE + 34 + len(wrap(face.sentence or NO_SENTENCE, FACE, SMALL)) * STEP
    return GAP + 34 + max(under, sum(map(_row_height, _unit_lines(face)))) + GAP


def _card(figure: Figure, x: float, face: TrainingFace, aus: Sequence[int]) -> None:
    write(figure, x, GAP + 14, shorten(face.title, CARD, 18), size=18)
    top = GAP + 34
    below = extent(figure)[1] - top - FACE
    figure.figimage(enlarged(face.image), x, round(below), origin="upper")
    active = f"{int((face.labels == 1).sum())} of {len(aus)} units on"
    write(figure, x, top + FACE + 22, active, size=SMALL, colour=LIGHT.soft)
    for k, line in enumerate(wrap(face.sentence or NO_SENTENCE, FACE, SMALL)):
        write(figure, x, top + FACE + 46 + STEP * k, line, size=SMALL)
    x += FACE + GAP
    y = top
    for au, label, lines in zip(aus, face.labels, _unit_lines(face), strict=True):
        word, chip, on_chip, ink = STATES[int(label)]
        box = {"boxstyle": "round,pad=0.25", "facecolor": chip, "edgecolor": "none"}
        write(figure, x + 17, y + 14, word, size=12, colour=on_chip, align="center", box=box)
        write(figure, x + CHIP, y + 14, unit_name(au), size=SMALL, colour=ink)
        for k, line in enumerate(lines):
            write(figure, x + CHIP + NAME, y + 14 + STEP * k, line, size=SMALL, colour=ink)
        y += _row_height(lines)
