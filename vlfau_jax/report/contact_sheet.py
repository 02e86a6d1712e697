"""faces.png: the faces as the network gets them in training, each with its labels and captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.report.canvas import (
    CARD,
    INK,
    LINE,
    PAD,
    RIGHT,
    SOFT,
    WARN,
    WARN_INK,
    Block,
    Heading,
    beside,
    card,
    enlarged,
    page,
    shorten,
    wrap,
)

FACE = 300  # pixels of a face on its card
NAME = 186  # room for a unit's number and name
WORDS = 530  # room for its sentence
SMALL = 14
STEP = 18  # from one line of small text to the next
COLUMNS = 2

# Label -> what the chip says, its colour, its words' colour, and that of what stands beside it.
STATES = {
    1: ("on", RIGHT, CARD, INK),
    0: ("off", LINE, SOFT, SOFT),
    -1: ("?", WARN, WARN_INK, WARN_INK),
}
UNKNOWN = "unknown: masked, neither a label nor a sentence is learned from"
NO_SENTENCE = "no sentence about the face: a unit's label is unknown"
LEGEND = (
    "on / off: the label that is learned. ?: unknown, left out of the loss. Right: the sentence "
    "about the unit, read back from the tokens; under the face: the sentence about the face."
)


@dataclass(frozen=True)
class Shown:
    """One augmented face of the training stream, n action units.

    Attributes:
        title: subject, task and frame.
        image: uint8 [h, h, 3] RGB, as the network gets it.
        labels: int8 [n], 1, 0, or -1 where unknown.
        sentence: about the face; "" where there is none.
        sentences: n about the units; "" where there is none.
    """

    title: str
    image: np.ndarray
    labels: np.ndarray
    sentence: str
    sentences: tuple[str, ...]


def contact_sheet(faces: Sequence[Shown], aus: Sequence[int], heading: Heading) -> Image.Image:
    """The picture: a card per face, two beside each other, in the order of the stream."""
    cards = [_card(face, aus) for face in faces]
    across = cards[0].image.width * COLUMNS + 16 * (COLUMNS - 1)
    rows = [beside(cards[i : i + COLUMNS]) for i in range(0, len(cards), COLUMNS)]
    return page([heading.block(across), *rows])


def _card(face: Shown, aus: Sequence[int]) -> Block:
    told = [wrap(sentence or UNKNOWN, WORDS, SMALL) for sentence in face.sentences]
    about = wrap(face.sentence or NO_SENTENCE, FACE, SMALL)
    rows = sum(_height(lines) for lines in told)
    under = FACE + 34 + len(about) * STEP
    w = PAD + FACE + PAD + 44 + NAME + WORDS + PAD
    drawn = card(w, PAD + 30 + max(rows, under) + PAD)
    drawn.text(PAD, PAD + 17, shorten(face.title, w - 2 * PAD, 18), size=18)
    top = PAD + 32
    drawn.paste(PAD, top, enlarged(face.image, FACE))
    active = int((face.labels == 1).sum())
    drawn.text(PAD, top + FACE + 22, f"{active} of {len(aus)} units on", size=SMALL, colour=SOFT)
    for k, line in enumerate(about):
        drawn.text(PAD, top + FACE + 44 + STEP * k, line, size=SMALL)
    _units(drawn, face, aus, told, PAD + FACE + PAD, top)
    return drawn


def _units(
    drawn: Block, face: Shown, aus: Sequence[int], told: list[list[str]], x: int, y: int
) -> None:
    """A line per unit: chip, number and name, sentence."""
    for au, label, lines in zip(aus, face.labels, told, strict=True):
        word, chip, on_chip, ink = STATES[int(label)]
        drawn.box(x, y, 34, STEP, chip, radius=5)
        drawn.text(x + 17, y + STEP / 2, word, size=13, colour=on_chip, anchor="mm")
        name = shorten(f"AU{au:02d} {ACTION_UNITS[au].name}", NAME - 18, SMALL)
        drawn.text(x + 44, y + 14, name, size=SMALL, colour=ink)
        for k, line in enumerate(lines):
            drawn.text(x + 44 + NAME, y + 14 + STEP * k, line, size=SMALL, colour=ink)
        y += _height(lines)


def _height(lines: list[str]) -> int:
    """Of one unit's line: at least that of two lines of words, so that cards are alike."""
    return max(len(lines), 2) * STEP + 6
