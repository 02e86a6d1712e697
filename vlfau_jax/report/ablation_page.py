"""ablation.html: the table of an ablation, and every unit's F1 by row, as one page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlfau_jax.evaluation.json_values import to_json
from vlfau_jax.metrics.table import AU_METRICS
from vlfau_jax.report.formats import UNDEFINED, protocol_field
from vlfau_jax.report.templating import render_page
from vlfau_jax.studies.ablation_result import notes_of, shown_metrics
from vlfau_jax.studies.tables import between, p_text, signed, spread

_PROTOCOL = {
    "dataset": "Data set",
    "folds": "Folds",
    "label_rule": "Labels",
    "excluded_stretches": "Excluded stretches",
    "checkpoint": "Checkpoint",
    "step": "Steps of each cell",
    "average": "Averaging",
    "code": "Code",
}


def render_ablation(result: Mapping[str, Any]) -> str:
    """The page as HTML, from what ablation.json holds."""
    plain = to_json(result)
    shown = shown_metrics(result)
    rows = []
    for name, row in result["rows"].items():
        difference = row.get("difference", {})
        rows.append(
            {
                "name": name,
                "overrides": ", ".join(f"{k}={v}" for k, v in row["overrides"].items())
                or "the reference",
                "bar": plain["rows"][name]["f1"]["mean"],
                "f1": spread(row["f1"]["mean"], row["f1"]["deviation"]),
                "difference": difference.get("mean"),
                "difference_text": signed(difference.get("mean")),
                "interval": between(difference.get("low"), difference.get("high")),
                "p": difference.get("p_holm"),
                "p_text": p_text(difference.get("p_holm")),
                "units": [
                    plain["rows"][name]["per_au"][str(au)] for au in result["protocol"]["aus"]
                ],
                "explanations": [
                    (
                        row["explanations"][metric.name]["mean"],
                        spread(
                            row["explanations"][metric.name]["mean"],
                            row["explanations"][metric.name]["deviation"],
                        ),
                    )
                    for metric in shown
                ],
            }
        )
    protocol = {
        term: protocol_field(result["protocol"][key], UNDEFINED) for key, term in _PROTOCOL.items()
    }
    return render_page(
        "ablation.html.j2",
        result=plain,
        heading=AU_METRICS[0].heading,
        rows=rows,
        metrics=shown,
        notes=[note for note in notes_of(result) if note != result["note"]],
        protocol=protocol | {"Test subjects": ", ".join(result["test_subjects"])},
        data={"charts": []},
    )
