"""Plots as SVG for a page, by matplotlib without pyplot; its text stays text.

Importing this module imports matplotlib, which takes about a second: import it where it draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from typing import Any
from warnings import catch_warnings, filterwarnings

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, ScalarFormatter

from vlfau_jax.report.curves import Chart
from vlfau_jax.report.pictures import data_uri
from vlfau_jax.report.theme import DARK, LIGHT, Theme

SETTINGS = {
    "font.sans-serif": ["DejaVu Sans"],  # matplotlib's own: alike on every machine
    "text.parse_math": False,  # a "$" in a subject's name is a dollar
    "axes.unicode_minus": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "vlfau_jax",  # the same bytes every time
}
STEPS = (1, 2, 2.5, 5, 10)  # between ticks, times a power of ten
METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@contextmanager
def drawing() -> Iterator[None]:
    """Draw with our settings; a character that the font lacks becomes a box, without a warning."""
    with matplotlib.rc_context(SETTINGS), catch_warnings():
        filterwarnings("ignore", message=r"Glyph .* missing from font")
        yield


@dataclass(frozen=True)
class Plot:
    """A plot for a page.

    Attributes:
        light: SVG as a data: URI, for a light page.
        dark: the same for a dark one.
        alt: the plot in words.
        data: where the axes lie and what they show, for the script: `box` (left, top, right and
            bottom as shares of the picture), `x` and `y` (limits), `axis` (what x counts), `series`
            (name and points).
    """

    light: str
    dark: str
    alt: str
    data: Mapping[str, Any]


def line_plot(chart: Chart, size: tuple[float, float] = (3.6, 1.9)) -> Plot:
    """A chart of lines over steps, or over a share; `size` in inches of 100 pixels."""
    drawn = {}
    with drawing():
        for theme in (LIGHT, DARK):
            figure = Figure(size)
            axes = bare_axes(figure, theme, (0.125, 0.13, 0.955, 0.91))
            for colour, points in zip(theme.series, chart.series.values(), strict=False):
                axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.5)
            xs = [x for points in chart.series.values() for x, _ in points]
            axes.set_xlim(min(xs), max(xs))
            if chart.axis != "step":
                axes.set_xlim(0, 1)
                axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
                axes.xaxis.set_major_formatter(ScalarFormatter())
            axes.set_ylim(*_limits([y for points in chart.series.values() for _, y in points]))
            drawn[theme] = svg(figure)
    x, y = axes.get_xlim(), axes.get_ylim()
    left, bottom, right, top = axes.get_position().extents
    return Plot(
        light=drawn[LIGHT],
        dark=drawn[DARK],
        alt=chart.description,
        data={
            "box": [_short(v) for v in (left, 1 - top, right, 1 - bottom)],
            "x": [_short(v) for v in x],
            "y": [_short(v) for v in y],
            "axis": chart.axis,
            "series": [
                {"name": name, "points": [[_short(a), _short(b)] for a, b in points]}
                for name, points in chart.series.items()
            ],
        },
    )


def bare_axes(figure: Figure, theme: Theme, box: Sequence[float]) -> Axes:
    """Axes with a horizontal grid and labels; `box` is left, bottom, right, top, 0 to 1."""
    left, bottom, right, top = box
    axes = figure.add_axes((left, bottom, right - left, top - bottom))
    axes.set_facecolor("none")
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=theme.line, linewidth=0.8)
    axes.tick_params(length=0, labelsize=8.5, labelcolor=theme.soft, pad=5)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=STEPS))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 100000 would be cut off: 100k
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
    axes.yaxis.get_major_formatter().set_powerlimits((-2, 4))
    axes.yaxis.get_offset_text().set(color=theme.soft, size=8.5)
    for side, spine in axes.spines.items():
        spine.set(visible=side == "bottom", color=theme.soft, linewidth=0.8)
    return axes


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """The range of an axis: from 0, or from below the lowest where that is negative."""
    low, high = min(0.0, *values), max(0.0, *values)
    room = 0.05 * (high - low) or 1.0
    return (low - room if low else low, high + room if high else high + (not low))


def svg(figure: Figure) -> str:
    """A figure as a transparent SVG, as a data: URI."""
    text = StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata=METADATA)
    return data_uri("image/svg+xml", text.getvalue().encode())


def _short(value: float) -> float:
    return float(f"{value:.6g}")
