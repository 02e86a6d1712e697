"""index.html: the pictures of a data set beside each other, and its rates as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from vlfau_jax.report.canvas import Heading
from vlfau_jax.report.label_pictures import percent, unit_name
from vlfau_jax.report.style import STYLE


def render_data(
    heading: Heading, record: Mapping[str, Any], pictures: Sequence[tuple[str, str]]
) -> str:
    """The page as HTML; it shows the picture files that lie beside it.

    Args:
        heading: what the pictures have above them, too.
        record: what labels.json holds (report/training_data.py).
        pictures: title and file name of each.
    """
    notes = ([heading.note] if heading.note else []) + list(record["warnings"])
    banner = "".join(f'<p class="warn">{escape(note)}</p>' for note in notes)
    shown = "".join(
        f'<h2>{escape(title)}</h2><a href="{escape(file)}"><img class="whole" '
        f'alt="{escape(title)}" src="{escape(file)}"></a>'
        for title, file in pictures
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(heading.title)}</title><style>{STYLE}"
        ".whole { width: 100%; height: auto; border-radius: 12px }</style></head>"
        f"<body><main><h1>{escape(heading.title)}</h1>"
        f'<p class="soft">{escape(heading.about)}</p>{banner}{_sizes(record)}'
        f"<h2>Every unit</h2>{_table(record)}{shown}"
        '<footer>Made by vlfau_jax. All numbers are in <a href="labels.json">labels.json</a>. '
        "The page needs no network.</footer></main></body></html>\n"
    )


def _sizes(record: Mapping[str, Any]) -> str:
    cards = "".join(
        f'<div class="card"><b>{part["frames"]:,}</b>frames for {escape(name)}<br>'
        f"<small>{people(part['subjects'])}: {escape(', '.join(part['subjects']))}</small></div>"
        for name, part in record["sets"].items()
    )
    return f'<div class="figures">{cards}</div>'


def people(subjects: Sequence[str]) -> str:
    """How many: `1 person`, `14 people`."""
    return f"{len(subjects)} {'person' if len(subjects) == 1 else 'people'}"


def _table(record: Mapping[str, Any]) -> str:
    sets, drawn = record["sets"], record["drawn_rates"]
    heads = "".join(
        f'<th>{escape(name)}</th><th title="frames known to be active">active</th>'
        '<th title="frames whose label is unknown">unknown</th>'
        for name in sets
    )
    rows = "".join(
        f'<tr><td class="text">{escape(unit_name(au))}</td>'
        + "".join(_cells(part["per_au"][str(au)]) for part in sets.values())
        + (f"<td>{percent(drawn[str(au)])}</td>" if drawn else "")
        + f"<td>{record['class_weights'][str(au)]:.3f}</td></tr>"
        for au in record["aus"]
    )
    ends = (["as drawn"] if drawn else []) + ["class weight"]
    told = (
        "Rates are of the frames in which the unit's state is known. Class weights are those of "
        "the loss, from the training rates; their mean is 1."
    )
    if drawn:
        told += " As drawn: the rate in the training stream, whose draws the options weight."
    return (
        '<div class="card wide"><table><thead><tr><th class="text">unit</th>'
        f"{heads}{''.join(f'<th>{end}</th>' for end in ends)}</tr></thead>"
        f'<tbody>{rows}</tbody></table></div><p class="soft">{told}</p>'
    )


def _cells(unit: Mapping[str, Any]) -> str:
    values = (percent(unit["rate"]), f"{unit['active']:,}", f"{unit['unknown']:,}")
    return "".join(f"<td>{value}</td>" for value in values)
