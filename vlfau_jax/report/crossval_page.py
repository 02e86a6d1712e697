"""crossval.html: folds, units and every metric of a cross-validation, as one page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlfau_jax.evaluation.json_values import to_json
from vlfau_jax.metrics.table import AU_METRICS, COMPARED
from vlfau_jax.report.study_protocol import study_protocol
from vlfau_jax.report.templating import render_page
from vlfau_jax.studies.crossval import notes_of
from vlfau_jax.studies.tables import spread, undefined

MOST_COLUMNS = 10  # folds that have a column of their own; the plot shows any number


def render_crossval(result: Mapping[str, Any]) -> str:
    """The page as HTML, from what crossval.json holds.

    It links to each fold's report.html by the path from the study's folder.
    """
    plain = to_json(result)
    explained = [
        metric
        for metric in COMPARED
        if any(
            not undefined(one["explanations"].get(metric.name)) for one in plain["folds"].values()
        )
    ]
    units = []
    for au in result["aus"]:
        mean, deviation = _mean_and_deviation(plain, au, AU_METRICS[0].name)
        known = mean is not None and deviation is not None
        units.append(
            {
                "au": au,
                "folds": [plain["per_au"][str(au)]["folds"][fold] for fold in plain["folds"]],
                "mean": mean,
                "pooled": plain["per_au"][str(au)][AU_METRICS[0].name]["pooled"],
                "spread": spread(mean, deviation),
                "ends": (max(0.0, mean - deviation), min(1.0, mean + deviation))
                if known
                else (None, None),
            }
        )
    metrics = [
        metric
        for metric in AU_METRICS[1:]
        if any(_mean_and_deviation(plain, au, metric.name)[0] is not None for au in result["aus"])
    ]
    return render_page(
        "crossval.html.j2",
        result=plain,
        heading=AU_METRICS[0].heading,
        mean=spread(result["mean_f1"], result["deviation"]),
        folds=plain["folds"],
        explained=explained,
        explained_means=[
            spread(*(plain["explanations"][m.name].get(key) for key in ("mean", "deviation")))
            for m in explained
        ],
        units=units,
        most=MOST_COLUMNS,
        metrics=metrics,
        cells={
            au: [
                (mean, spread(mean, deviation))
                for mean, deviation in (_mean_and_deviation(plain, au, m.name) for m in metrics)
            ]
            for au in result["aus"]
        },
        notes=[note for note in notes_of(result) if note != result["note"]],
        protocol=study_protocol(result),
        data={"charts": []},
    )


def _mean_and_deviation(
    plain: Mapping[str, Any], au: int, name: str
) -> tuple[float | None, float | None]:
    values = plain["per_au"][str(au)].get(name, {})
    return values.get("mean"), values.get("deviation")
