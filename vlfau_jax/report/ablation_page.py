"""ablation.html: the table of an ablation, and every unit's F1 by row, as one page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vlfau_jax.evaluation.json_values import to_json
from vlfau_jax.metrics.table import AU_METRICS
from vlfau_jax.report.study_protocol import study_protocol
from vlfau_jax.report.templating import render_page
from vlfau_jax.studies.ablation_result import notes_of, shown_metrics
from vlfau_jax.studies.tables import between, p_text, signed, spread


def render_ablation(result: Mapping[str, Any]) -> str:
    """The page as HTML, from what ablation.json holds."""
    plain = to_json(result)
    shown = shown_metrics(result)
    rows = []
    for name, row in result["rows"].items():
        difference = row.get("difference", {})
        ends = plain["rows"][name].get("difference", {})
        rows.append(
            {
                "name": name,
                "overrides": ", ".join(f"{k}={v}" for k, v in row["overrides"].items())
                or "the reference",
                "bar": plain["rows"][name]["f1"]["mean"],
                "f1": spread(row["f1"]["mean"], row["f1"]["deviation"]),
                "difference": difference.get("mean"),
                "difference_text": signed(difference.get("mean")),
                "ends": (ends.get("low"), ends.get("high")),
                "seeds": list(ends.get("seeds", {}).values()),
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
    return render_page(
        "ablation.html.j2",
        result=plain,
        heading=AU_METRICS[0].heading,
        rows=rows,
        metrics=shown,
        notes=[note for note in notes_of(result) if note != result["note"]],
        protocol=study_protocol(result),
        axis=_axis(plain["rows"].values()),
        data={"charts": []},
    )


def _axis(rows: Iterable[Mapping[str, Any]]) -> tuple[float, float] | None:
    """The axis on which all differences and their intervals lie, zero on it; None without any."""
    differences = [row["difference"] for row in rows if "difference" in row]
    values = [d[key] for d in differences for key in ("mean", "low", "high")]
    values += [value for d in differences for value in d["seeds"].values()]
    values = [value for value in values if value is not None]
    if not values:
        return None
    low, high = min(0.0, *values), max(0.0, *values)
    room = 0.05 * (high - low) or 0.01
    return low - room, high + room
