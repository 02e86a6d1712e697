"""report.html: one self-contained page with scores, floors, curves, faces, maps and sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vlfau_jax.evaluation.faces import RULES, DescribedFace
from vlfau_jax.evaluation.scores import read_thresholds
from vlfau_jax.regions import COMPACT
from vlfau_jax.report.confusion import confusion, differing
from vlfau_jax.report.curves import charts, reliability
from vlfau_jax.report.faces import MAPS, face_view
from vlfau_jax.report.scores import (
    groups,
    headlines,
    maps_table,
    missing_sentences,
    protocol,
    table,
    untaught,
    words,
)
from vlfau_jax.report.templating import render_page
from vlfau_jax.report.words import colours


def render(
    scores: Mapping[str, Any],
    records: Iterable[Mapping[str, Any]],
    faces: Sequence[DescribedFace],
    lines_left_out: int = 0,
) -> str:
    """The page as HTML.

    Args:
        scores: what scores.json holds.
        records: the lines of metrics.jsonl, in order.
        faces: the faces to show, in order.
        lines_left_out: how many lines of metrics.jsonl could not be read.
    """
    found = charts(records)
    calibration = reliability(scores)
    plots = []
    if found or calibration:
        from vlfau_jax.report.plots import line_plot  # imports matplotlib

        plots = [line_plot(chart) for chart in (*found, *calibration)]
    thresholds = read_thresholds(scores)
    views = [face_view(face, thresholds) for face in faces]
    return render_page(
        "report.html.j2",
        scores=scores,
        headlines=headlines(scores),
        table=table(scores),
        protocol=protocol(scores),
        maps_table=maps_table(scores),
        compact=COMPACT,
        missing=missing_sentences(scores),
        words=words(scores),
        groups=groups(scores),
        untaught=untaught(scores),
        lines_left_out=lines_left_out,
        charts=list(zip(found, plots[: len(found)], strict=True)),
        calibration=list(zip(calibration, plots[len(found) :], strict=True)),
        confusion=confusion(scores),
        cooccurrence=scores.get("cooccurrence"),
        differing=differing(scores),
        faces=views,
        maps={name: MAPS[name] for name in (faces[0].maps if faces else ())},
        told=any(view.data["sentences"] for view in views),
        rules={rule: text for rule, (_, text) in RULES.items()},
        data={
            "charts": [plot.data for plot in plots],
            "faces": [view.data for view in views],
            **(colours() if views else {}),
        },
    )
