"""The page itself: headline figures, curves, the table, the faces. No script, no outside file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from vlfau_jax.evaluation.faces import CHOICE, DescribedFace
from vlfau_jax.evaluation.scores import read_thresholds
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.report.charts import line_chart
from vlfau_jax.report.faces import card
from vlfau_jax.report.style import STYLE

# Chart title, unit, and the keys of metrics.jsonl that it draws.
CURVES = (
    ("Loss", "weighted sum of the terms", ("total",)),
    ("Loss by term", "unweighted means", ("au", "dice", "local", "global")),
    ("Mean F1 on the validation people", "never trained on", ("validation_mean_f1",)),
    ("Mean F1 on the test people", "nothing was chosen by it", ("test_mean_f1",)),
    ("Learning rate", "a step", ("learning_rate",)),
    ("Gradient norm", "before clipping", ("grad_norm",)),
    ("Speed", "images/s", ("images_per_second",)),
)


def share(value: float | None, digits: int = 3) -> str:
    """A share of 1 as text, a dash where it is undefined."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _figure(value: str, what: str, beside: str) -> str:
    return (
        f'<div class="card"><b>{value}</b>{escape(what)}<br><small>{escape(beside)}</small></div>'
    )


def _headline(scores: Mapping[str, Any]) -> str:
    floors, says = scores["floors"], scores["explanations"]
    figures = [
        _figure(
            share(scores["mean_f1"]),
            f"mean F1 over {len(scores['aus'])} units",
            f"floors: all on {share(floors['all_on'])}, "
            f"best constant {share(floors['best_constant'])}",
        )
    ]
    if "local" in scores["captions"]:
        figures += [
            _figure(
                share(says["polarity_accuracy"]),
                "of local sentences state the truth",
                f"floor: always the more frequent state {share(says['polarity_constant'])}",
            ),
            _figure(
                share(says["agreement"]),
                "of local sentences agree with the score",
                "right or wrong, both say the same",
            ),
        ]
    if "global" in scores["captions"]:
        figures.append(
            _figure(
                share(says["global_f1"]),
                "F1 of the units that the sentences about the whole face name",
                f"the noun is right in {share(says['noun_accuracy'])}",
            )
        )
    return f'<div class="figures">{"".join(figures)}</div>'


def _curves(records: Iterable[Mapping[str, Any]]) -> str:
    records = list(records)
    drawn = ""
    for title, unit, names in CURVES:
        series = {
            name: [(r["step"], r[name]) for r in records if r.get(name) is not None]
            for name in names
        }
        drawn += line_chart(title, series, x_label="step", unit=unit)
    if not drawn:
        return '<p class="soft">The workdir holds no training metrics to draw.</p>'
    return f'<div class="charts">{drawn}</div>'


def _meter(f1: float | None, all_on: float | None, best: float | None) -> str:
    if f1 is None or math.isnan(f1):
        return '<span class="soft">no positives</span>'
    marks = "".join(
        f'<u class="{kind}" style="left:{100 * floor:.1f}%"></u>'
        for kind, floor in (("first", all_on), ("second", best))
        if floor is not None and not math.isnan(floor)
    )
    return f'<div class="meter"><i style="width:{100 * f1:.1f}%"></i>{marks}</div>'


def _table(scores: Mapping[str, Any]) -> str:
    floors = scores["floors_per_au"]
    rows = []
    for au in scores["aus"]:
        unit = scores["per_au"][str(au)]
        all_on, best = floors["all_on"][str(au)], floors["best_constant"][str(au)]
        cells = [unit["f1"], all_on, best, unit["precision"], unit["recall"], unit["accuracy"]]
        rows.append(
            f'<tr><td>AU{au:02d}</td><td class="text">{escape(ACTION_UNITS[au].name)}</td>'
            f'<td class="text">{_meter(unit["f1"], all_on, best)}</td>'
            + "".join(f"<td>{share(cell)}</td>" for cell in [*cells, unit["auc"]])
            + f"<td>{unit['positives']:,}</td><td>{unit['frames']:,}</td></tr>"
        )
    heads = (
        "F1",
        "all on",
        "best const.",
        "precision",
        "recall",
        "accuracy",
        "AUC",
        "true on",
        "frames",
    )
    mean = [scores["mean_f1"], scores["floors"]["all_on"], scores["floors"]["best_constant"]]
    return (
        '<div class="card wide"><table><thead><tr><th>unit</th><th class="text">name</th>'
        '<th class="text">F1 against floors</th>'
        f"{''.join(f'<th>{head}</th>' for head in heads)}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody><tfoot><tr><td>mean</td><td></td>"
        f"<td>{_meter(*mean)}</td>{''.join(f'<td>{share(value)}</td>' for value in mean)}"
        '<td colspan="6"></td></tr></tfoot></table></div>'
        '<p class="soft">Bar: F1, 0 to 1, true and false positives pooled over all test frames. '
        "Plain mark: F1 of saying that the unit is always on. Orange mark: F1 of always giving its "
        "more frequent state in training (0 where that is off). A dash: undefined.</p>"
    )


def _each(value: Any, nothing: str = "") -> str:
    """A protocol field as text, None as `nothing`; of a mixture it holds a dict by data set."""
    if isinstance(value, Mapping):
        return "; ".join(f"{escape(name)}: {_each(one, nothing)}" for name, one in value.items())
    return nothing if value is None else escape(str(value))


def _protocol(scores: Mapping[str, Any]) -> str:
    people, kept_back = scores["test_subjects"], scores["validation_subjects"]
    count = f"{len(people)} {'person' if len(people) == 1 else 'people'}"
    alone = "".join(
        f" {escape(name)} alone: mean F1 {share(one['mean_f1'])} (all on "
        f"{share(one['floors']['all_on'])}, best constant "
        f"{share(one['floors']['best_constant'])}) over the {one['units_scored']} units with "
        f"positives of AU {', '.join(map(str, one['aus']))}, {one['frames']:,} frames."
        for name, one in scores["per_dataset"].items()
    )
    return (
        f"{escape(scores['dataset'])}, fold {scores['fold']}, {escape(scores['checkpoint'])} step "
        f"{scores['step']:,}, {scores['frames']:,} test frames of {count} never trained on: "
        f"{escape(', '.join(people))}. Threshold {_each(scores['threshold'])}; "
        f"{escape(scores['average'])}.{alone} Kept back for validation: "
        f"{escape(', '.join(kept_back)) or 'nobody'}. Labels: {_each(scores['label_rule'])}; "
        f"excluded stretches: {_each(scores['excluded_stretches'])}; raw layout: "
        f"{_each(scores['layout'])}; camera: {_each(scores['camera'], 'the only one')}; frame "
        f"offset: {_each(scores['frame_offset'])}. Crop rule "
        f"{escape(scores['crop_rule']['name'])} ({escape(scores['crop_rule']['digest'])}), "
        f"{scores['image_size']} px. Began from {escape(scores['beginning'])}. "
        f"Config {escape(scores['config_digest'][:12])}."
    )


def _legend(scores: Mapping[str, Any], faces: Sequence[DescribedFace]) -> str:
    """How to read the cards: of what is on them, and what is not."""
    looks = {
        "branch": "where the unit's own branch looks",
        "words": "where its sentence's words look, averaged over the words",
    }
    kinds = [*faces[0].maps] if faces else []
    parts = [
        CHOICE,
        "Score bars: green right, red wrong, grey unknown; a name in bold is truly on, the thin "
        "mark is the threshold.",
    ]
    if kinds:
        parts += [
            f"Maps: {'; below, '.join(looks[kind] for kind in kinds)}.",
            "Each map is coloured from its own lowest (clear) to its own highest (red) value.",
        ]
    if "local" in scores["captions"]:
        parts.append(
            "Sentences: of the units scored as active, then of those missed; a green edge means "
            "that the sentence states the truth."
        )
    if scores["beams"] > 1:
        parts.append(f"Each sentence is the best of a search with {scores['beams']} beams.")
    absent = {"local": "single units", "global": "the whole face"}
    missing = [about for kind, about in absent.items() if kind not in scores["captions"]]
    if missing:
        parts.append(f"This model writes no sentences about {' or '.join(missing)}.")
    return " ".join(parts)


def render(
    scores: Mapping[str, Any], records: Iterable[Mapping[str, Any]], faces: Sequence[DescribedFace]
) -> str:
    """The page as HTML.

    Args:
        scores: what scores.json holds (evaluation/scores.py).
        records: the lines of metrics.jsonl, in order.
        faces: the faces to show, in order.
    """
    thresholds = read_thresholds(scores)
    note = scores["note"]
    banner = f'<p class="warn">{escape(note)}</p>' if note else ""
    cards = "".join(card(face, thresholds) for face in faces)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>VL-FAU: mean F1 {share(scores['mean_f1'])}</title><style>{STYLE}</style></head>"
        "<body><main><h1>Facial action units, explained</h1>"
        f'<p class="soft">{_protocol(scores)}</p>{banner}{_headline(scores)}'
        f"<h2>Every unit</h2>{_table(scores)}"
        f"<h2>Training</h2>{_curves(records)}"
        f'<h2>Test faces</h2><p class="soft">{_legend(scores, faces)}</p>{cards}'
        "<footer>Made by vlfau_jax. Scores are shares of 1. The page needs no network.</footer>"
        "</main></body></html>\n"
    )
