"""Draws what a study found over the values of a key: F1 of every row, and differences.

python -m vlfau_jax.report.sweep_picture --out=curves.webp SWEEP.json ...
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, ScalarFormatter

from vlfau_jax.errors import FileError, UserError, outcome
from vlfau_jax.files import RECORD_LIMIT, read_bytes
from vlfau_jax.report.plots import METADATA, bare_axes, drawing
from vlfau_jax.report.theme import LIGHT
from vlfau_jax.studies.tables import undefined

_WIDTH, _HEIGHT = 3.3, 4.3  # inches of a study's two plots


def draw(results: Sequence[Mapping[str, Any]]) -> Figure:
    """For each study a plot of F1 by row, and below it the differences to the reference.

    Args:
        results: what each sweep.json holds.
    """
    figure = Figure((_WIDTH * len(results), _HEIGHT), facecolor=LIGHT.card)
    FigureCanvasAgg(figure)
    for k, result in enumerate(results):
        left, right = (k + 0.17) / len(results), (k + 0.96) / len(results)
        upper = bare_axes(figure, LIGHT, (left, 0.55, right, 0.91))
        lower = bare_axes(figure, LIGHT, (left, 0.12, right, 0.46))
        upper.set_title("mean F1", loc="left", fontsize=9, color=LIGHT.ink)
        title = f"difference to {result['reference']!r}"
        lower.set_title(title, loc="left", fontsize=9, color=LIGHT.ink)
        lower.axhline(0, color=LIGHT.soft, linewidth=0.8)
        lower.set_xlabel(result["key"], fontsize=8.5, color=LIGHT.soft)
        _draw_rows(upper, lower, result)
        for axes in (upper, lower):
            _scale(axes, result["values"])
        upper.legend(fontsize=7.5, frameon=False)
    figure.text(
        0.995,
        0.985,
        "; ".join(dict.fromkeys(filter(None, (result["note"] for result in results)))),
        ha="right",
        va="top",
        fontsize=7,
        color=LIGHT.soft,
    )
    return figure


def _draw_rows(upper: Axes, lower: Axes, result: Mapping[str, Any]) -> None:
    """Means with the deviation over the seeds; differences with their interval."""
    places = _places(result["values"])
    for k, (name, row) in enumerate(result["rows"].items()):
        colour = LIGHT.series[k % len(LIGHT.series)]
        points = [
            (x, point)
            for x, point in zip(places, row["points"], strict=True)
            if not undefined(point["f1"]["mean"])
        ]
        upper.errorbar(
            [x for x, _ in points],
            [point["f1"]["mean"] for _, point in points],
            [0 if undefined(d := point["f1"]["deviation"]) else d for _, point in points],
            fmt="o-",
            color=colour,
            markersize=3.5,
            linewidth=1.4,
            capsize=2,
            label=name,
        )
        points = [(x, d) for x, p in points if not undefined((d := p["difference"])["mean"])]
        means = [d["mean"] for _, d in points]
        lower.plot([x for x, _ in points], means, "o-", color=colour, markersize=3.5, linewidth=1.4)
        # Of several folds the interval is of the pooled difference: the mean may lie beside it.
        known = [(x, d["low"], d["high"]) for x, d in points if not undefined(d["low"])]
        if known:
            lower.vlines(*zip(*known, strict=True), color=colour, linewidth=1.4)


def _places(values: Sequence[str]) -> list[float]:
    """Where each value lies: at itself, or in turn where one is no number."""
    try:
        return [float(value) for value in values]
    except ValueError:
        return [*range(len(values))]


def _scale(axes: Axes, values: Sequence[str]) -> None:
    """A mark at every value; a logarithmic axis where they span a factor of eight."""
    places = _places(values)
    if min(places) > 0 and max(places) >= 8 * min(places):
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(FixedLocator([]))
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_ticks(places, values)


def sweep_svg(result: Mapping[str, Any]) -> str:
    """sweep.svg, from what sweep.json holds."""
    text = StringIO()
    with drawing():
        draw([result]).savefig(text, format="svg", metadata=METADATA)
    return text.getvalue()


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the records and writes the picture; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(argv)
    try:
        results = [_read(path) for path in given.records]
        with drawing():
            draw(results).savefig(given.out, dpi=150, pil_kwargs={"quality": 88})
    except UserError as error:
        line, code = outcome(error)
        print(line, file=sys.stderr)
        return code
    return 0


def _read(path: Path) -> Mapping[str, Any]:
    try:
        result = json.loads(read_bytes(path, RECORD_LIMIT))
        if not {"key", "values", "rows", "reference"} <= set(result):
            raise ValueError("no sweep.json")
    except (ValueError, TypeError, RecursionError) as error:
        raise FileError(path, f"{error}; give the sweep.json of `ablate --over`") from None
    return result


if __name__ == "__main__":
    sys.exit(main())
