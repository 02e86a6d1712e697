"""The integrity report as a paragraph, as tables, and as the files integrity.json and .txt."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from vlfau_jax.data.raw.integrity import DROP_REASONS, REMARKS, IntegrityReport, SequenceFacts
from vlfau_jax.data.raw.label_counts import LEVELS, LabelCounts
from vlfau_jax.data.raw.places import format_count, group_by_folder, indented
from vlfau_jax.errors import printable

MOST_LINES = 50  # of one kind in integrity.txt; integrity.json has them all
ALIGNED_BY = ("eyes", "neighbours", "box", "none")


def save_report(report: IntegrityReport, folder: str | Path) -> None:
    """Writes integrity.json and integrity.txt into `folder`."""
    folder = Path(folder)
    text = json.dumps(report.as_json(), indent=1)
    (folder / "integrity.json").write_text(text + "\n", encoding="utf-8")
    # Names of files and folders may hold anything, and this file is for the screen.
    (folder / "integrity.txt").write_text(printable(format_report(report)), encoding="utf-8")


def format_summary(report: IntegrityReport) -> str:
    """One paragraph for the screen."""
    reasons = [
        f"{DROP_REASONS[kind]}: {len(places)}" for kind, places in report.losses.items() if places
    ]
    unlabelled = sum(sequence.unlabelled_images for sequence in report.sequences)
    unknown = sum(sequence.unknown_labels for sequence in report.sequences)
    written = sum(sequence.written > 0 for sequence in report.sequences)
    return (
        f"{report.dataset}{' (synthetic)' if report.synthetic else ''}: "
        f"{format_count(report.written, 'frame')} of "
        f"{format_count(len(report.subjects), 'subject')} in "
        f"{format_count(written, 'sequence')}; lost {report.lost}"
        f"{' (' + ', '.join(reasons) + ')' if reasons else ''}; "
        f"{format_count(unlabelled, 'image')} without a label; "
        f"{format_count(unknown, 'unknown label')}, kept as unknown{_warnings(report)}"
    )


def _warnings(report: IntegrityReport) -> str:
    """What a reader of the summary must not miss."""
    remarks = report.remarks
    parts = [
        f"{format_count(report.shared_pictures, 'picture or video file')} under two people "
        f"({remarks['picture_shared'][0]})"
        if report.shared_pictures
        else "",
        f"{len(remarks['folds_differ'])} of the lists' folds are not the published ones, and "
        f"data.folds chooses ({remarks['folds_differ'][0]})"
        if remarks["folds_differ"]
        else "",
        f"folds of the lists that cannot be used: {remarks['folds_unusable'][0]}"
        if remarks["folds_unusable"]
        else "",
    ]
    return "".join(f"; {part}" for part in parts if part)


def format_report(report: IntegrityReport) -> str:
    """The whole report as tables."""
    parts = (
        _head(report),
        _units(report),
        _comparisons(report),
        _places(report),
        _sequences(report),
    )
    return "\n".join(line for part in parts for line in part) + "\n"


def _head(report: IntegrityReport) -> Iterator[str]:
    yield from textwrap.wrap(format_summary(report), width=100)
    yield ""
    yield f"raw tree  {report.raw_dir} ({report.layout})"
    if report.files:
        passed = report.files["passed_over"]
        reasons = ", ".join(f"{number} {reason}" for reason, number in passed.items()) or "none"
        gone = report.files["not_found_again"]
        text = f"{report.files['found']} found: {report.files['used']} read, passed over {reasons}"
        yield from textwrap.wrap(
            text + (f"; {gone} of those read have gone" if gone else ""),
            width=100,
            initial_indent="files     ",
            subsequent_indent=" " * 10,
        )
    rule = {**report.crop, **report.crop.get("parameters", {})}
    values = [f"{k} {v}" for k, v in rule.items() if k not in ("name", "parameters")]
    yield from textwrap.wrap(
        ", ".join([rule.get("name", "-"), *values]),
        width=100,
        initial_indent="crop      ",
        subsequent_indent=" " * 10,
    )
    if report.aligned_by:
        numbers = ", ".join(f"{kind} {report.aligned_by.get(kind, 0)}" for kind in ALIGNED_BY)
        yield f"aligned   by {numbers}"


def _units(report: IntegrityReport) -> Iterator[str]:
    """Labels of the frames that were written."""
    counts = LabelCounts.total(report.subjects.values(), len(report.aus))
    threshold = report.published.threshold
    levels = any(map(any, counts.levels))
    yield ""
    names = [f"level {k}" for k in range(LEVELS)] if levels else []
    yield _row(["unit", "active", "known", "rate %", *names])
    for i, au in enumerate(report.aus):
        active, known = counts.active(i, threshold)
        rate = f"{100 * active / known:.2f}" if known else "-"
        yield _row([f"AU{au}", active, known, rate, *(counts.levels[i] if levels else [])])
    if levels and not all(counts.known):
        yield f"    active: at level {threshold} and above where no occurrence is coded"


def _row(cells: Sequence[object]) -> str:
    return " ".join(f"{cell!s:>{6 if i == 0 else 8}}" for i, cell in enumerate(cells))


def _comparisons(report: IntegrityReport) -> Iterator[str]:
    if not report.comparisons:
        return
    agree = sum(row.agrees for row in report.comparisons)
    listed = [row for row in report.comparisons if row.telling or not row.agrees]
    yield ""
    yield f"{agree} of {len(report.comparisons)} published facts are found here"
    width = max(len(row.what) for row in listed)
    yield f"{'':>{width}} {'found':>12} {'published':>12}"
    for row in listed:
        found = "-" if row.found is None else row.found
        mark = "" if row.agrees else "   differs"
        yield f"{row.what:>{width}} {found:>12} {row.published:>12}{mark}"


def _places(report: IntegrityReport) -> Iterator[str]:
    for kind, places in report.losses.items():
        yield from _listed(DROP_REASONS[kind], len(places), group_by_folder(places))
    for kind, places in report.remarks.items():
        yield from _listed(REMARKS[kind], len(places), places)


def _listed(title: str, number: int, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield ""
        yield f"{title} ({number})"
        yield from indented(lines, MOST_LINES)


def _sequences(report: IntegrityReport) -> Iterator[str]:
    unknown = _units_without_a_label(report)
    listed = [
        s
        for s in report.sequences
        if not (_is_whole(s, len(unknown)) and s.published in ("", s.run))
    ]
    paddings = Counter(facts.padding for facts in report.sequences if facts.padding)
    yield ""
    if unknown:
        yield f"unknown in every frame: {', '.join(f'AU{au}' for au in unknown)}"
    if paddings:
        forms = ", ".join(
            f"{form} in {format_count(paddings[form], 'sequence')}" for form in sorted(paddings)
        )
        yield f"padding of picture numbers: {forms}"
    yield (
        f"{len(report.sequences) - len(listed)} of {len(report.sequences)} sequences were written "
        f"whole, with every {'other ' if unknown else ''}label known"
        + (" and their runs as published" if report.published.runs else "")
    )
    if listed:
        yield from _sequence_table(listed, len(unknown))


def _sequence_table(listed: list[SequenceFacts], unknown_units: int) -> Iterator[str]:
    """Sequences that drop a frame or a label come first; columns without a value are left out."""
    listed = sorted(listed, key=lambda s: _is_whole(s, unknown_units))
    rows = [list(asdict(facts).values()) for facts in listed]
    names = "subject task images labelled first last published unlabelled padding unknown"
    columns = zip([*names.split(), "excluded", "written"], *rows, strict=True)
    kept = [column for column in columns if set(column[1:]) - {0, ""} or column[0] == "written"]
    for row in list(zip(*kept, strict=True))[: 1 + MOST_LINES]:
        yield " ".join(f"{'-' if cell == '' else cell!s:>10}" for cell in row)
    if len(listed) > MOST_LINES:
        more = format_count(len(listed) - MOST_LINES, "sequence")
        yield f"    and {more} more, see integrity.json"


def _units_without_a_label(report: IntegrityReport) -> list[int]:
    """Units that are unknown in every labelled frame."""
    counts = LabelCounts.total(report.labelled.values(), len(report.aus))
    return [au for i, au in enumerate(report.aus) if not counts.active(i, 1)[1]]


def _is_whole(facts: SequenceFacts, unknown_units: int) -> bool:
    """Whether no frame is dropped and only the units unknown everywhere are unknown."""
    known = facts.unknown_labels == unknown_units * facts.labelled
    return known and facts.written == facts.labelled > 0
