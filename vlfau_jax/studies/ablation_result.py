"""What the cells of an ablation say together: means, deviations, paired differences, significance.

Of a row and a seed, F1 is the mean over the folds of each fold's mean F1, as the field averages. Of
a row, it is the mean over its seeds. Where a cell is missing the number is undefined and the cell
is named. The difference to the reference is paired: of the same seeds, folds, test subjects and
units: a unit that one cell of a fold has no F1 of, since its training faces never show it, counts
in no cell of that fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vlfau_jax.evaluation.scoring import SYNTHETIC_WARNING
from vlfau_jax.metrics import bootstrap
from vlfau_jax.metrics.bootstrap import LEVEL, RESAMPLES, Counts
from vlfau_jax.metrics.folds import NAN, deviation, mean
from vlfau_jax.metrics.table import AU_METRICS, COMPARED
from vlfau_jax.studies.cell import Finished
from vlfau_jax.studies.protocols import check_people, check_same_people, same_protocol
from vlfau_jax.studies.tables import (
    Table,
    between,
    csv_text,
    p_text,
    signed,
    spread,
    undefined,
)

Key = tuple[str, int, int]  # row, seed, fold

METHOD = {
    "f1": "of a seed: mean over the folds of mean F1 over the units that have one in every cell of "
    "the fold; of a row: mean and sample standard deviation over the seeds",
    "difference": "to the first row, of the same seeds and folds: mean and sample standard "
    "deviation over the seeds",
    "pooled": "the difference of mean F1 with the counts of all folds pooled, mean over the seeds; "
    "with one fold the same as the mean",
    "interval": f"{LEVEL:.0%} percentile interval of the difference in mean F1, counts of all "
    f"folds pooled, mean over the seeds, over {RESAMPLES:,} resamples of the test subjects, the "
    "same for both rows",
    "p": "two-sided, from the same resamples: 2 min(P(d <= 0), P(d >= 0)); it speaks of other "
    "subjects, not of other seeds",
    "p_holm": "p adjusted for the number of rows (Holm 1979)",
}


def summarise(
    finished: Mapping[Key, Finished],
    rows: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    folds: Sequence[int],
    *,
    other_code: bool = False,
) -> dict[str, Any]:
    """What ablation.json holds.

    Args:
        finished: the cells that are there.
        rows: name -> overrides; the first is the reference.
        seeds: of every row.
        folds: of every row and seed.
        other_code: let cells be of different code.

    Raises:
        UserError: the cells' protocols differ, those of one fold test other people, or two folds
            test one person.
    """
    cells = list(finished.values())
    protocol = same_protocol(cells, other_code=other_code)
    firsts = []
    for fold in folds:
        of_fold = [one for (_, _, its), one in finished.items() if its == fold]
        if of_fold:
            check_same_people(of_fold)
            firsts.append(of_fold[0])
    check_people(firsts)
    reference, *_ = rows
    common = _common_units(finished)
    found = {
        name: _row(finished, name, overrides, seeds, folds, common)
        for name, overrides in rows.items()
    }
    people = sum(len(one.subjects) for one in firsts)
    for name in rows:
        if name != reference:
            found[name]["difference"] = _difference(
                finished, found, name, reference, people, common
            )
    others = [name for name in rows if name != reference]
    adjusted = bootstrap.holm([found[name]["difference"]["p"] for name in others])
    for name, p in zip(others, adjusted, strict=True):
        found[name]["difference"]["p_holm"] = p
    synthetic = any(one.scores.synthetic for one in cells)
    return {
        "reference": reference,
        "rows": found,
        "seeds": list(seeds),
        "folds": list(folds),
        "missing": [where for one in found.values() for where in one["missing"]],
        "left_out": _left_out(common, cells[0].scores.aus),
        "test_subjects": sorted(subject for one in firsts for subject in one.subjects),
        "bootstrap": {"resamples": RESAMPLES, "level": LEVEL, "subjects": people},
        "method": METHOD,
        "protocol": protocol,
        "synthetic": synthetic,
        "note": SYNTHETIC_WARNING if synthetic else "",
    }


def _common_units(finished: Mapping[Key, Finished]) -> dict[int, np.ndarray]:
    """Which units have an F1 in all cells of a fold, bool [n] by fold."""
    found: dict[int, np.ndarray] = {}
    for (_, _, fold), one in finished.items():
        has = np.array([not np.isnan(one.scores.per_au[au]["f1"]) for au in one.scores.aus])
        found[fold] = has & found.get(fold, True)
    return found


def _row(
    finished: Mapping[Key, Finished],
    name: str,
    overrides: Mapping[str, Any],
    seeds: Sequence[int],
    folds: Sequence[int],
    common: Mapping[int, np.ndarray],
) -> dict[str, Any]:
    """A row without its difference."""
    asked = [(name, seed, fold) for seed in seeds for fold in folds]
    missing = [
        f"{name}, seed {seed}, fold {fold}"
        for key in asked
        if key not in finished
        for _, seed, fold in [key]
    ]
    by_seed: dict[int, list[Finished]] = {}
    for seed in seeds:
        cells = [finished.get((name, seed, fold)) for fold in folds]
        if all(cells):
            by_seed[seed] = cells
    aus = next(iter(finished.values())).scores.aus

    def mean_f1(fold: int, one: Finished) -> float:
        return mean(
            one.scores.per_au[au]["f1"] for au, had in zip(aus, common[fold], strict=True) if had
        )

    f1 = {
        seed: mean(map(mean_f1, folds, by_seed[seed])) if seed in by_seed else NAN for seed in seeds
    }
    whole = [by_seed[seed] for seed in seeds] if not missing else []
    return {
        "overrides": dict(overrides),
        "f1": {"mean": mean(f1.values()), "deviation": deviation(f1.values()), "seeds": f1},
        "per_au": {
            au: mean(mean(one.scores.per_au[au]["f1"] for one in cells) for cells in whole)
            for au in aus
        },
        "explanations": {metric.name: _explained(whole, metric.name) for metric in COMPARED},
        "missing": missing,
    }


def _explained(whole: Sequence[Sequence[Finished]], name: str) -> dict[str, float]:
    values = [mean(one.scores.explanations.get(name, NAN) for one in cells) for cells in whole]
    return {"mean": mean(values), "deviation": deviation(values)}


def _difference(
    finished: Mapping[Key, Finished],
    found: Mapping[str, Mapping[str, Any]],
    name: str,
    reference: str,
    people: int,
    common: Mapping[int, np.ndarray],
) -> dict[str, Any]:
    """The paired difference of a row to the reference; NaN where a cell of either is missing."""
    mine, theirs = (found[row]["f1"]["seeds"] for row in (name, reference))
    by_seed = {seed: mine[seed] - theirs[seed] for seed in mine}
    pooled, low, high, p = NAN, NAN, NAN, NAN
    if not (found[name]["missing"] or found[reference]["missing"]):
        runs = [
            [_over_folds(finished, row, seed, common) for seed in mine] for row in (name, reference)
        ]
        own, others = (
            mean(float(bootstrap.mean_f1(one.pooled())) for one in side) for side in runs
        )
        pooled = own - others
        draws = bootstrap.resample_difference(*runs)
        (low, high), p = bootstrap.interval(draws, people), bootstrap.p_value(draws, people)
    values = by_seed.values()
    return {
        "mean": mean(values),
        "deviation": deviation(values),
        "seeds": by_seed,
        "pooled": pooled,
        "low": low,
        "high": high,
        "p": p,
    }


def _over_folds(
    finished: Mapping[Key, Finished], row: str, seed: int, common: Mapping[int, np.ndarray]
) -> Counts:
    """The counts of all test subjects of all folds, fold after fold, of the units in `common`."""
    inner = [
        [np.where(common[fold], values, 0) for values in finished[row, seed, fold].counts]
        for fold in sorted(common)
    ]
    return Counts(*(np.concatenate(values) for values in zip(*inner, strict=True)))


def _left_out(common: Mapping[int, np.ndarray], aus: Sequence[int]) -> dict[int, list[int]]:
    """The units that count in no mean of some folds, and these folds."""
    folds = {
        au: [fold for fold in sorted(common) if not common[fold][column]]
        for column, au in enumerate(aus)
    }
    return {au: those for au, those in folds.items() if those}


def notes_of(result: Mapping[str, Any]) -> list[str]:
    """What must be read beside the table."""
    seeds, folds = result["seeds"], result["folds"]
    notes = [
        f"{len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}, fold "
        f"{', '.join(map(str, folds))}, {len(result['test_subjects'])} test subjects; each cell "
        f"{result['protocol']['step']:,} steps. ± is the standard deviation over the seeds.",
        f"The difference to {result['reference']!r} is paired; its {LEVEL:.0%} interval and p "
        f"(Holm-adjusted) are of a bootstrap over the test subjects ({RESAMPLES:,} resamples)"
        + (", with the counts of all folds pooled." if len(folds) > 1 else "."),
    ]
    if missing := result["missing"]:
        more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
        notes.append(f"Missing, so without numbers: {'; '.join(missing[:10])}{more}.")
    for au, where in result["left_out"].items():
        notes.append(
            f"AU{au:02d} counts in no mean of fold {', '.join(map(str, where))}: at least one run "
            "there has no F1 of it."
        )
    code = result["protocol"]["code"]
    if isinstance(code, list):
        notes.append(f"Made by different code: {'; '.join(code)}.")
    return [*notes, *filter(None, [result["note"]])]


def table_of(result: Mapping[str, Any]) -> Table:
    """The table: F1, its difference to the reference, and the scores of sentences."""
    shown = shown_metrics(result)
    rows = []
    for name, row in result["rows"].items():
        d = row.get("difference", {})
        cells = [
            spread(row["f1"]["mean"], row["f1"]["deviation"]),
            signed(d.get("mean")),
            between(d.get("low"), d.get("high")),
            p_text(d.get("p_holm")),
        ]
        for metric in shown:
            one = row["explanations"][metric.name]
            cells.append(spread(one["mean"], one["deviation"]))
        rows.append((name, *cells))
    protocol = result["protocol"]
    heading = AU_METRICS[0].heading
    return Table(
        f"Ablations on {protocol['dataset']}: mean {heading} over {len(protocol['aus'])} units",
        ("row", heading, "difference", f"{LEVEL:.0%} interval", "p", *(m.heading for m in shown)),
        tuple(rows),
        tuple(notes_of(result)),
        (1,),
    )


def shown_metrics(result: Mapping[str, Any]) -> list[Any]:
    """The metrics of sentences that some row has."""
    return [
        metric
        for metric in COMPARED
        if any(
            not undefined(row["explanations"][metric.name]["mean"])
            for row in result["rows"].values()
        )
    ]


def csv_of(result: Mapping[str, Any]) -> str:
    """A line for every row, in full precision: the table, F1 by seed and by unit."""
    lines = []
    for name, row in result["rows"].items():
        line = {"row": name}
        line |= {f"f1_{key}": row["f1"][key] for key in ("mean", "deviation")}
        line |= {f"f1_seed{seed}": value for seed, value in row["f1"]["seeds"].items()}
        line |= {
            f"difference_{key}": row.get("difference", {}).get(key)
            for key in ("mean", "deviation", "pooled", "low", "high", "p", "p_holm")
        }
        for metric, values in row["explanations"].items():
            line |= {f"{metric}_{key}": value for key, value in values.items()}
        line |= {f"f1_AU{au:02d}": value for au, value in row["per_au"].items()}
        lines.append(line | {"missing": len(row["missing"])})
    return csv_text([*lines[0]], lines)
