"""transfer.html: AUC and F1 of every unit on another domain's faces beside what chance gives."""

from __future__ import annotations

from vlfau_jax.report.formats import people
from vlfau_jax.report.templating import render_page
from vlfau_jax.studies.transfer_record import COLUMNS, Transfer
from vlfau_jax.studies.transfer_table import RENDERED, cell, notes_of

CHANCE = 0.5  # AUC of an answer that does not look


def render_transfer(record: Transfer) -> str:
    """The page as HTML."""
    columns = record.columns
    rows = [
        {
            "au": au,
            "auc": unit.auc,
            "f1": unit.f1,
            "all_on": unit.all_on,
            "shifted": unit.f1_shifted,
            "cells": [(getattr(unit, name), cell(name, getattr(unit, name))) for name in columns],
        }
        for au, unit in record.per_au.items()
    ]
    ranked = sum(unit.auc is not None for unit in record.per_au.values())
    return render_page(
        "transfer.html.j2",
        record=record,
        columns=[COLUMNS[name] for name in columns],
        rows=rows,
        over=str(len(rows)) if ranked == len(rows) else f"{ranked} of {len(rows)}",
        means=[getattr(record.mean, name, None) for name in columns],
        chance=CHANCE,
        about={name: text for name, (_, text) in COLUMNS.items()},
        rendered=RENDERED,
        notes=[note for note in notes_of(record) if note != record.note],
        method=_method(record),
        data={"charts": []},
    )


def _method(record: Transfer) -> dict[str, str]:
    """What decides the scores, as pairs of a term and its text."""
    model, target, given = record.model, record.target, record.shifts
    marks = {True: RENDERED, False: "without a mark that they are rendered"}
    found = {
        "Model": model.digest[:12],
        "Trained on": f"{model.trained_on or 'not recorded'}; {marks[model.synthetic]}",
        "Set": f"{target.name}, {target.digest[:12]}; {marks[target.synthetic]}",
        "Part": f"{record.part}: {people(record.subjects)}: {', '.join(record.subjects)}",
        "Labels": target.label_rule,
        "Excluded stretches": target.excluded_stretches,
        "Crops": f"{target.crop_size} px, shown to the model at {model.image_size} px",
        "Averaging": "counts pooled over all frames, then the mean over the units",
    }
    if given:
        found["Shifts given"] = f"{given.set_name}, part {given.part}: {', '.join(given.subjects)}"
    return found
