"""Draws how the training step scales, from the files of launch/compile_scaling.sh.

python -m vlfau_jax.report.scaling_picture --records=DIR --out=vlfau_jax/account/scaling.webp
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from vlfau_jax.account.scaling import Point, Series, predicted, read_reports, table
from vlfau_jax.errors import UserError, outcome
from vlfau_jax.report.plots import bare_axes, drawing
from vlfau_jax.report.theme import LIGHT

DEVICES = (4, 16, 64, 256)
MESHES = ("data", "fsdp", "mixed")  # colours
STYLES = ("-", "--", ":")  # networks, in the order of their names


def draw(series: Sequence[Series]) -> Figure:
    """Two plots over the number of devices: efficiency, and memory against the device's."""
    networks = sorted({one.name.partition("-")[0] for one in series})
    figure = Figure((8.6, 3.4))
    FigureCanvasAgg(figure)
    left = _axes(figure, 0.07, "weak scaling efficiency")
    right = _axes(figure, 0.57, "GB a device")
    for one in series:
        network, _, mesh = one.name.partition("-")
        colour = LIGHT.series[MESHES.index(mesh)] if mesh in MESHES else LIGHT.soft
        style = STYLES[networks.index(network) % len(STYLES)]
        devices = [point.devices for point in one.points]
        exposed, hidden = ([getattr(p, name) for p in one.points] for name in ("exposed", "hidden"))
        left.fill_between(devices, exposed, hidden, color=colour, alpha=0.08, linewidth=0)
        for axes, values, label in (
            (left, exposed, None),
            (right, [point.peak_gb for point in one.points], f"{network}, {mesh}"),
        ):
            axes.plot(devices, values, style, color=colour, linewidth=1.5, label=label)
            _mark(axes, one.points, values, colour)
    memory = series[0].report.memory_gb
    right.axhline(memory, color=LIGHT.wrong, linewidth=1)
    there = f"{memory:.1f} GB are there"
    right.text(DEVICES[0], memory, there, va="bottom", fontsize=7.5, color=LIGHT.soft)
    left.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    left.set_ylim(0, 1.02)
    right.set_ylim(bottom=0)
    right.legend(fontsize=7.5, frameon=False, ncols=2)
    return figure


def _axes(figure: Figure, left: float, title: str) -> Axes:
    axes = bare_axes(figure, LIGHT, (left, 0.13, left + 0.4, 0.88))
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(DEVICES))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
    axes.set_xlabel("devices", fontsize=8.5, color=LIGHT.soft)
    axes.set_title(title, loc="left", fontsize=9.5, color=LIGHT.ink)
    return axes


def _mark(axes: Axes, points: Sequence[Point], values: Sequence[float], colour: str) -> None:
    """A dot where the program was compiled; the rest of the line is predicted."""
    there = [(p.devices, v) for p, v in zip(points, values, strict=True) if p.compiled]
    axes.plot(*zip(*there, strict=True), "o", color=colour, markersize=4)


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the records, prints the table and writes the picture; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(argv)
    try:
        records = read_reports(given.records)
        for name, reports in records.items():
            for one in reports:
                if not one.fits:
                    print(f"{name}-{one.devices} does not fit: {one.over_gb:.1f} GB too large")
        found = (predicted(name, reports, DEVICES) for name, reports in records.items())
        series = [one for one in found if one is not None]
        if not series:
            raise UserError(f"{given.records}: none of the programs fits in its device")
        print(table(series))
        with drawing():
            figure = draw(series)
            figure.savefig(given.out, dpi=150, pil_kwargs={"quality": 88})
    except UserError as error:
        line, code = outcome(error)
        print(line, file=sys.stderr)
        return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
