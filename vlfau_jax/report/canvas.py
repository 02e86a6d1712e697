"""Pictures drawn with Pillow: text and boxes in the light colours of style.py, stacked in blocks.

Every block measures its own text before it is made, so that nothing is cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

PAGE, CARD, INK, SOFT, LINE = "#f5f6f8", "#ffffff", "#1b1f27", "#667085", "#dfe3ea"
ACCENT, RIGHT, WRONG, WARN, WARN_INK = "#2b63d9", "#1d8a57", "#cf3f3f", "#fff3d6", "#6b4a00"
SERIES = (ACCENT, "#d9722b", "#1d8a57")

MARGIN = 28  # around a picture
PAD = 18  # inside a card
TEXT = 15  # pixels of ordinary text


@lru_cache(maxsize=32)
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, so that a picture is the same on every machine."""
    return ImageFont.load_default(size)


def width(text: str, size: int = TEXT) -> int:
    """Pixels that a line of text takes to the right."""
    return int(np.ceil(font(size).getlength(text)))


def wrap(text: str, room: int, size: int = TEXT) -> list[str]:
    """The text in lines of at most `room` pixels; a single word that is wider is shortened."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and width(longer, size) <= room:
            lines[-1] = longer
        else:
            lines.append(shorten(word, room, size))
    return lines


def shorten(text: str, room: int, size: int = TEXT) -> str:
    """The text, or as much of its beginning as leaves room for three dots."""
    if width(text, size) <= room:
        return text
    while text and width(text + "...", size) > room:
        text = text[:-1]
    return text + "..."


class Block:
    """A picture of fixed size to draw on; x and y count pixels from its upper left corner."""

    def __init__(self, w: int, h: int, colour: str = PAGE) -> None:
        self.image = Image.new("RGB", (w, h), colour)
        self._draw = ImageDraw.Draw(self.image)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int = TEXT,
        colour: str = INK,
        anchor: str = "ls",
    ) -> None:
        """One line of text; anchor l, m or r across and s (the base line) or m (middle) up."""
        self._draw.text((x, y), text, fill=colour, font=font(size), anchor=anchor)

    def box(
        self,
        x: float,
        y: float,
        w: float,
        h: float,
        fill: str | None,
        *,
        outline: str | None = None,
        radius: int = 0,
    ) -> None:
        """A filled box of w x h pixels."""
        corners = (x, y, x + max(w, 1) - 1, y + max(h, 1) - 1)
        self._draw.rounded_rectangle(corners, radius, fill=fill, outline=outline)

    def line(self, x0: float, y0: float, x1: float, y1: float, colour: str = LINE) -> None:
        """A line, one pixel wide."""
        self._draw.line((x0, y0, x1, y1), fill=colour)

    def paste(self, x: int, y: int, pixels: np.ndarray) -> None:
        """A picture, uint8 [h, w, 3] RGB."""
        self.image.paste(Image.fromarray(pixels), (x, y))


def card(w: int, h: int) -> Block:
    """An empty white card with a thin edge."""
    block = Block(w, h)
    block.box(0, 0, w, h, CARD, outline=LINE, radius=12)
    return block


@dataclass(frozen=True)
class Heading:
    """What stands above a picture: its subject, what it was made of, and a warning or ""."""

    title: str
    about: str
    note: str = ""

    def block(self, w: int) -> Block:
        """The heading, w pixels wide."""
        about = wrap(self.about, w)
        note = wrap(self.note, w - 2 * PAD)
        drawn = Block(w, 44 + 22 * len(about) + (36 + 22 * len(note) if note else 0))
        drawn.text(0, 28, shorten(self.title, w, 28), size=28)
        y = 58
        for line in about:
            drawn.text(0, y, line, colour=SOFT)
            y += 22
        if note:
            drawn.box(0, y - 4, w, 20 + 22 * len(note), WARN, radius=10)
            for k, line in enumerate(note):
                drawn.text(PAD, y + 21 + 22 * k, line, colour=WARN_INK)
        return drawn


def beside(blocks: Sequence[Block], gap: int = 16) -> Block:
    """The blocks from left to right, their tops on one line."""
    row = Block(
        sum(b.image.width for b in blocks) + gap * (len(blocks) - 1),
        max(b.image.height for b in blocks),
    )
    x = 0
    for block in blocks:
        row.image.paste(block.image, (x, 0))
        x += block.image.width + gap
    return row


def page(blocks: Sequence[Block], gap: int = 16) -> Image.Image:
    """The blocks from top to bottom, with a margin around all of them."""
    w = max(b.image.width for b in blocks) + 2 * MARGIN
    h = sum(b.image.height for b in blocks) + gap * (len(blocks) - 1) + 2 * MARGIN
    whole = Image.new("RGB", (w, h), PAGE)
    y = MARGIN
    for block in blocks:
        whole.paste(block.image, (MARGIN, y))
        y += block.image.height + gap
    return whole


def enlarged(pixels: np.ndarray, side: int) -> np.ndarray:
    """A square picture at `side` pixels: averaged down, or its own pixels made larger."""
    smaller = side < pixels.shape[0]
    way = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return cv2.resize(pixels, (side, side), interpolation=way)


def mixed(colour: str, share: float, other: str = CARD) -> str:
    """`share` (0 to 1) of one colour and the rest of another, as "#rrggbb"."""
    pairs = zip(_rgb(colour), _rgb(other), strict=True)
    return "#" + "".join(f"{round(a * share + b * (1 - share)):02x}" for a, b in pairs)


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
