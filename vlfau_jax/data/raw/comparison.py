"""Compares a raw tree with what is published: subjects, runs, folds, headers, rates, weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from vlfau_jax.data.raw.integrity import Comparison, IntegrityReport
from vlfau_jax.data.raw.label_counts import LabelCounts
from vlfau_jax.data.raw.places import format_count


def compare(report: IntegrityReport) -> None:
    """Adds to a report how its tree compares with what is published about the data set.

    A partial or rendered tree deviates; that stops nothing.
    """
    published = report.published
    if not published.runs:
        return
    found, there = set(report.labelled), {(s.subject, s.task) for s in report.sequences}
    report.remarks["subject_unexpected"] += sorted(found - set(published.subjects))
    report.remarks["subject_missing"] += sorted(set(published.subjects) - found)
    report.remarks["sequence_missing"] += [
        f"{subject}_T{task}"
        for subject, task in sorted(published.runs.keys() - there)
        if subject in found
    ]
    labelled = [s for s in report.sequences if s.labelled]
    subjects = len({s.subject for s in labelled})
    _add(report, "subjects", subjects, len(published.subjects), telling=True)
    _add(report, "sequences", len(labelled), len(published.runs), telling=True)
    same = sum(s.run == s.published for s in labelled)
    _add(report, "runs as published", same, len(published.runs), telling=True)
    compare_frames(report)
    for columns, files in report.columns.items():
        _add(report, f"columns of {format_count(files, 'label file')}", columns, published.columns)
    counts = LabelCounts.total(report.labelled.values(), len(report.aus))
    for au, rate in published.rates.items():
        active, known = counts.active(report.aus.index(au), published.threshold)
        percent = round(100 * active / known, 2) if known else None
        # Rates are published to two decimals.
        _add(report, f"AU{au} active, %", percent, rate, tolerance=0.011)
    _compare_weights(report)


def _add(
    report: IntegrityReport,
    what: str,
    found: Any,
    published: Any,
    tolerance: float = 0,
    telling: bool = False,
) -> None:
    if tolerance and found is not None:
        agrees = abs(found - published) <= tolerance
    else:
        agrees = found == published
    report.comparisons.append(Comparison(what, found, published, agrees, telling))


def compare_frames(report: IntegrityReport) -> None:
    """Adds the labelled frames of all subjects and of every fold, with and without exclusions."""
    published = report.published
    groups = {"labelled frames": published.subjects}
    # Fold 1 tests the last part.
    groups |= {f"tested in fold {k}": p for k, p in enumerate(published.parts[::-1], start=1)}
    for what, subjects in groups.items():
        sequences = [s for s in report.sequences if s.subject in subjects]
        found, expected = sum(s.labelled for s in sequences), published.frames_of(subjects)
        _add(report, what, found, expected, telling=True)
        if published.excluded:
            found -= sum(s.excluded for s in sequences)
            expected -= published.excluded_of(subjects)
            _add(report, f"{what}, less excluded", found, expected, telling=True)


def _compare_weights(report: IntegrityReport) -> None:
    """Adds ME-GraphAU's class weights, if all subjects that it trains fold 1 on are here."""
    published = report.published
    trained = {s for part in published.parts[:-1] for s in part}  # fold 1 tests the last part
    if not published.weights or not trained <= set(report.labelled):
        return
    counts = LabelCounts.total((report.labelled[s] for s in sorted(trained)), len(report.aus))
    shares = [counts.active(report.aus.index(au), published.threshold) for au in published.rates]
    if not all(active for active, _ in shares):
        return
    inverse = np.array([known / active for active, known in shares])
    weights = len(inverse) * inverse / inverse.sum()
    for (au, expected), weight in zip(published.weights.items(), weights, strict=True):
        found = round(float(weight), 6)
        _add(report, f"AU{au} class weight, fold 1", found, expected, tolerance=1.1e-6)
