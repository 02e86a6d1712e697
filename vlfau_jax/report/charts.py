"""Line charts as inline SVG, so that a report needs no script, no library and no network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 460, 230
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 36
MOST_POINTS = 300


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that span low to high."""
    if not high > low:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    rough = (high - low) / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, last + 1)]


def number(value: float) -> str:
    """A tick's label: short, without noise digits."""
    if value and not 1e-4 <= abs(value) < 1e5:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.6g}"


def thin(points: Points) -> list[tuple[float, float]]:
    """At most `MOST_POINTS` points, each the mean of as many neighbours as that takes."""
    group = math.ceil(len(points) / MOST_POINTS)
    if group <= 1:
        return list(points)
    groups = [points[i : i + group] for i in range(0, len(points), group)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def line_chart(
    title: str, series: Mapping[str, Points], *, x_label: str, unit: str, zero: bool = True
) -> str:
    """One `<figure>` with a line per series; "" when no series has two finite points.

    Args:
        title: heading above the chart.
        series: name -> (x, y) points in the order of x; points that are not finite are left out.
        x_label: what runs to the right.
        unit: of the y values, beside the title.
        zero: whether the y axis begins at zero when no value is below it.
    """
    finite = {
        name: [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
        for name, points in series.items()
    }
    lines = {name: thin(points) for name, points in finite.items() if len(points) > 1}
    if not lines:
        return ""
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    x_ticks = [x for x in ticks(min(xs), max(xs)) if min(xs) <= x <= max(xs)]
    y_ticks = ticks(min(0.0, *ys) if zero else min(ys), max(ys))
    x0, x1, y0, y1 = min(xs), max(xs), y_ticks[0], y_ticks[-1]

    def across(x: float) -> float:
        return LEFT + (x - x0) / ((x1 - x0) or 1) * (WIDTH - LEFT - RIGHT)

    def up(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for y in y_ticks:
        parts.append(
            f'<path class="grid" d="M{LEFT} {up(y):.1f}H{WIDTH - RIGHT}"/>'
            f'<text x="{LEFT - 8}" y="{up(y) + 4:.1f}" text-anchor="end">{number(y)}</text>'
        )
    for x in x_ticks:
        parts.append(
            f'<path class="axis" d="M{across(x):.1f} {HEIGHT - BOTTOM}v4"/>'
            f'<text x="{across(x):.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">'
            f"{number(x)}</text>"
        )
    parts.append(
        f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>'
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end">{escape(x_label)}</text>'
    )
    for colour, points in enumerate(lines.values()):
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
        parts.append(f'<polyline class="line c{colour % 6}" points="{path}"/>')
    parts.append("</svg>")
    legend = "".join(
        f'<span><i class="key k{colour % 6}"></i>{escape(name)}</span>'
        for colour, name in enumerate(lines)
    )
    shown = f'<div class="legend">{legend}</div>' if len(lines) > 1 else ""
    return (
        f"<figure class='chart'><figcaption>{escape(title)} <small>{escape(unit)}</small>"
        f"</figcaption>{''.join(parts)}{shown}</figure>"
    )
