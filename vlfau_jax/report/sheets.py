"""Pictures of plots and text, one above the other, by matplotlib without pyplot.

Lengths are in pixels; y counts from the top. Importing this module imports matplotlib.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from vlfau_jax.report.theme import LIGHT

DPI = 100
WIDTH, MARGIN = 1336, 32
TEXT, SMALL = 15, 13.5  # sizes of text
LINE = 1.5  # from one line of text to the next, in sizes
DOTS = "..."


@dataclass(frozen=True)
class Heading:
    """The text above a picture: its subject, what it was made of, and a warning or ""."""

    title: str
    about: str
    warning: str = ""

    def height(self, width: int = WIDTH) -> float:
        """Its own height, with the space below it."""
        room = width - 2 * MARGIN
        lines = len(wrap(self.about, room))
        boxed = len(wrap(self.warning, room - 32))
        return MARGIN + 40 + lines * 22 + (boxed * 22 + 34 if boxed else 0) + 14

    def draw(self, figure: Figure) -> None:
        """Draws it at the top of a figure."""
        room = extent(figure)[0] - 2 * MARGIN
        write(figure, MARGIN, MARGIN + 22, shorten(self.title, room, 26), size=26)
        y = MARGIN + 52
        for line in wrap(self.about, room):
            write(figure, MARGIN, y, line, colour=LIGHT.soft)
            y += 22
        lines = wrap(self.warning, room - 32)
        if lines:
            background = axes_at(figure, MARGIN, y - 8, room, 22 * len(lines) + 16)
            background.set_facecolor(LIGHT.warn)
            for k, line in enumerate(lines):
                write(figure, MARGIN + 16, y + 14 + 22 * k, line, colour=LIGHT.warn_ink)


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure."""
    return Figure((width / DPI, height / DPI), dpi=DPI, facecolor=LIGHT.card)


def extent(figure: Figure) -> tuple[float, float]:
    """Width and height of a figure."""
    width, height = figure.get_size_inches()
    return width * DPI, height * DPI


def write(
    figure: Figure,
    x: float,
    y: float,
    text: str,
    *,
    size: float = TEXT,
    colour: str = LIGHT.ink,
    align: str = "left",
    upright: str = "baseline",
    box: dict[str, str] | None = None,
) -> None:
    """One line of text at x, y; `box` draws matplotlib's box around it."""
    width, height = extent(figure)
    style = {"fontsize": points(size), "color": colour, "ha": align, "va": upright, "bbox": box}
    figure.text(x / width, 1 - y / height, text, **style)


def points(size: float) -> float:
    """A size of text in points, as matplotlib counts."""
    return size * 72 / DPI


def axes_at(figure: Figure, x: float, y: float, w: float, h: float) -> Axes:
    """Axes without spines and ticks whose upper left corner is at x, y."""
    width, height = extent(figure)
    axes = figure.add_axes((x / width, 1 - (y + h) / height, w / width, h / height))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=points(SMALL), labelcolor=LIGHT.ink)
    axes.set_xticks([])
    axes.set_yticks([])
    return axes


def section(figure: Figure, y: float, title: str, about: str) -> float:
    """The title of a part of a picture, with a line about it; returns where the part begins."""
    write(figure, MARGIN, y + 22, title, size=19)
    write(figure, MARGIN, y + 45, about, size=SMALL, colour=LIGHT.soft)
    return y + 62


def heat(
    axes: Axes, columns: Sequence[str], colours: np.ndarray, texts: np.ndarray, inks: np.ndarray
) -> None:
    """A table of coloured cells: colours [m, n] "#rrggbb", texts [m, n], inks [m, n].

    Where columns are narrower than their texts, the texts are smaller.
    """
    rows, across = texts.shape
    widest = max(text_width(text, SMALL) for text in {*columns, *texts.flat})
    size = points(SMALL * min(1.0, 0.94 * axes.get_window_extent().width / across / widest))
    rgb = np.array([[to_rgb(colour) for colour in row] for row in colours]).reshape(rows, across, 3)
    axes.imshow(rgb, aspect="auto", interpolation="nearest")
    axes.set_xticks(range(across), columns, fontsize=size)
    axes.xaxis.tick_top()
    for edges, draw in ((rows, axes.axhline), (across, axes.axvline)):
        for edge in range(edges + 1):
            draw(edge - 0.5, color=LIGHT.card, linewidth=1)
    for (i, j), text in np.ndenumerate(texts):
        style = {"color": inks[i, j], "fontsize": size}
        axes.text(j, i, text, ha="center", va="center_baseline", **style)


def pixels(figure: Figure) -> np.ndarray:
    """The figure as uint8 [h, w, 3] RGB."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save(picture: np.ndarray, path: Path) -> None:
    """Writes uint8 [h, w, 3] RGB as a PNG, whatever the path ends in."""
    done, data = cv2.imencode(
        ".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 6]
    )
    if not done:
        raise RuntimeError(f"cv2.imencode refused an image of shape {picture.shape}")
    path.write_bytes(data.tobytes())


@lru_cache(maxsize=65536)
def text_width(text: str, size: float = TEXT) -> float:
    """How wide a line of text is."""
    font = FontProperties(family="DejaVu Sans", size=points(size))
    return _renderer().get_text_width_height_descent(text, font, ismath=False)[0]


@lru_cache(maxsize=1)
def _renderer() -> RendererAgg:
    """Measures text as it is drawn: with the hinting of `DPI`."""
    return RendererAgg(1, 1, DPI)


def wrap(text: str, room: float, size: float = TEXT) -> list[str]:
    """The text in lines that fit into `room`; a single word that is wider is shortened."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size) <= room:
            lines[-1] = longer
        else:
            lines.append(shorten(word, room, size))
    return lines


def shorten(text: str, room: float, size: float = TEXT) -> str:
    """The text, or as much of its beginning as leaves room for three dots."""
    if text_width(text, size) <= room:
        return text
    lengths = range(len(text))
    fits = bisect_right(lengths, room, key=lambda k: text_width(text[:k] + DOTS, size))
    return text[: max(fits - 1, 0)] + DOTS
