"""Scores by group of people: sex, skin tone, data set, or any column that a table gives.

A model may be good on average and bad for some. Of each group every metric is computed, and the
means are over the units in which all groups of a column have the metric: else a group without
positives of a hard unit would look better for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlfau_jax.data.raw.label_rows import read_rows
from vlfau_jax.data.read.dataset import Dataset
from vlfau_jax.errors import UserError
from vlfau_jax.metrics.kinds import NumberOfFrames
from vlfau_jax.metrics.scored import ScoredFrames
from vlfau_jax.metrics.table import AU_METRICS

NOT_STATED = "not stated"
_LONGEST = 100  # characters of a name
_SEXES = {"woman": "female", "man": "male", "person": NOT_STATED}

# Column -> subject -> group.
Groups = Mapping[str, Mapping[str, str]]


def groups_of(dataset: Dataset, subjects: Sequence[str], table: str | Path | None) -> Groups:
    """The groups of the tested subjects.

    Those that the data state, where there are two or more of them: `sex`, and `dataset` of a
    mixture. Those of a table's columns besides, or instead where a column has the same name.

    Args:
        dataset: the prepared sets.
        subjects: who is tested.
        table: CSV with a column `subject` and one or more of groups; None for none.

    Raises:
        UserError: the table has no such header, lacks a tested subject, or has one twice.
        FileError: it cannot be read.
    """
    stated = {
        "sex": {s: _SEXES[dataset.nouns[dataset.subjects.index(s)]] for s in subjects},
        "dataset": {s: dataset.set_of(s).name for s in subjects},
    }
    found = {name: of for name, of in stated.items() if len(set(of.values())) > 1}
    return found if table is None else found | read_groups(table, subjects)


def read_groups(path: str | Path, subjects: Sequence[str]) -> Groups:
    """Reads a table of groups, see `groups_of`; an empty cell is the group "not stated"."""
    rows = read_rows(path, ",;\t")
    _, header = next(rows, (1, []))
    columns = [name for name in header if name != "subject"]
    if header.count("subject") != 1 or not columns or len(set(columns)) < len(columns):
        raise UserError(
            f"--groups={path}:1: expected a header of the column subject and columns of groups, "
            "each once, such as subject,sex,skin_tone"
        )
    if not all(0 < len(name) <= _LONGEST for name in columns):
        raise UserError(f"--groups={path}:1: a column needs a name of 1 to {_LONGEST} characters")
    _check_printable(path, 1, header)
    found: dict[str, dict[str, str]] = {name: {} for name in columns}
    place = header.index("subject")
    for line, row in rows:
        if len(row) != len(header):
            raise UserError(
                f"--groups={path}:{line}: {len(row)} cells; expected {len(header)}, as the header"
            )
        subject = row[place]
        if subject in found[columns[0]]:
            raise UserError(f"--groups={path}:{line}: subject {subject[:40]!r} a second time")
        _check_printable(path, line, row)
        for name, cell in zip(header, row, strict=True):
            if len(cell) > _LONGEST:
                raise UserError(f"--groups={path}:{line}: more than {_LONGEST} characters")
            if name != "subject":
                found[name][subject] = cell or NOT_STATED
    missing = sorted(set(subjects) - found[columns[0]].keys())
    if missing:
        raise UserError(
            f"--groups={path}: no row of {', '.join(missing[:5])}"
            f"{', ...' if len(missing) > 5 else ''}; expected every tested subject"
        )
    return {name: {s: of[s] for s in subjects} for name, of in found.items()}


def _check_printable(path: str | Path, line: int, cells: Sequence[str]) -> None:
    """Names become cells of tables and lines on the screen, which a line break would cut."""
    for cell in cells:
        if not cell.isprintable():
            raise UserError(f"--groups={path}:{line}: {cell[:40]!r}; expected printable text")


def score_groups(
    groups: Groups, scored: ScoredFrames, subjects: np.ndarray, names: Sequence[str]
) -> dict[str, Any]:
    """The scores of every group, as scores.json holds them, by column.

    Args:
        groups: column -> subject -> group.
        scored: all test frames.
        subjects: int [m], the number of each frame's subject.
        names: the subjects by number.
    """
    found = {}
    metrics = [metric for metric in AU_METRICS if not isinstance(metric, NumberOfFrames)]
    for column, of in groups.items():
        parts, records = {}, {}
        for group in sorted(set(of.values())):
            members = np.isin(names, [subject for subject, own in of.items() if own == group])
            rows = members[subjects]
            parts[group] = scored.at(rows)
            bounds = parts[group].intervals(subjects[rows])
            records[group] = {
                "subjects": int(np.isin(np.flatnonzero(members), subjects).sum()),
                "frames": int(rows.sum()),
                "mean_f1_interval": bounds["macro"]["f1"],
            }
        shared = {
            m.name: [
                au
                for au in scored.aus
                if not any(np.isnan(part.per_au[au][m.name]) for part in parts.values())
            ]
            for m in metrics
        }
        for group, part in parts.items():
            records[group]["mean"] = {
                name: float(np.mean([part.per_au[au][name] for au in aus])) if aus else None
                for name, aus in shared.items()
            }
            records[group]["per_au"] = part.per_au
        found[column] = {
            "aus": shared["f1"],
            "units": {name: len(aus) for name, aus in shared.items()},
            "groups": records,
        }
    return found
