"""The table of transfer.json, and what must be read beside it."""

from __future__ import annotations

from collections.abc import Sequence

from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.studies.tables import UNDEFINED, Table, csv_text, number, signed
from vlfau_jax.studies.transfer_record import COLUMNS, GroupScores, Transfer

# The columns that a group of people has.
OF_GROUPS = tuple(name for name in COLUMNS if name in GroupScores.model_fields)

RENDERED = "rendered (synthetic) faces"


def notes_of(record: Transfer) -> list[str]:
    """What must be read beside the table."""
    model, target = record.model, record.target
    faces = f", {RENDERED}" if target.synthetic else ""
    by = f" on {model.trained_on}" if model.trained_on else ""
    by += f", {RENDERED}" if model.synthetic else ""
    notes = [
        f"{target.name}{faces}, part {record.part}: {record.frames:,} frames of "
        f"{', '.join(record.subjects)}; {target.label_rule}.",
        f"Model {model.digest[:12]}, trained{by or ' on data that its folder does not name'}; "
        "thresholds are its own.",
        f"{COLUMNS['shift'][0]}: {COLUMNS['shift'][1]} {COLUMNS['f1_oracle'][0]}: "
        f"{COLUMNS['f1_oracle'][1]}",
    ]
    for heading, bounds in (
        ("F1", record.intervals.f1),
        (COLUMNS["f1_shifted"][0], record.intervals.f1_shifted),
    ):
        if bounds:
            notes.append(
                f"mean {heading}: {record.intervals.level:.0%} interval {bounds[0]:.3f} to "
                f"{bounds[1]:.3f}, by a bootstrap over the subjects."
            )
    notes += _shift_notes(record)
    if record.same_names:
        notes.append(
            f"The model was trained on people of a set {target.name} called "
            f"{', '.join(record.same_names)}; if that was this set, this is no transfer."
        )
    for whose, aus in (("the model", record.only_model), ("the set", record.only_set)):
        if aus:
            notes.append(f"Of {whose} alone, so not scored: AU {listed(aus)}.")
    if untaught := [au for au in record.per_au if au in model.untaught]:
        notes.append(f"Not taught by the training labels, so not scored: AU {listed(untaught)}.")
    for column, by in record.groups.items():
        people = ", ".join(f"{name} {group.subjects}" for name, group in by.groups.items())
        notes.append(
            f"By {column} (people: {people}): means over the units of which every group has the "
            f"number, {by.auc_units} for AUC and {len(by.aus)} for F1."
        )
    silent = [au for au, unit in record.per_au.items() if not unit.positives]
    if silent:
        notes.append(f"No frame is positive, so in no mean: AU {listed(silent)}.")
    return [*notes, *filter(None, [record.note])]


def _shift_notes(record: Transfer) -> list[str]:
    given = record.shifts
    if given is None:
        return []
    notes = [
        f"{COLUMNS['f1_shifted'][0]}: with shifts chosen on {given.set_name}, part {given.part}: "
        f"{', '.join(given.subjects)}."
    ]
    if given.set_digest == record.target.digest:
        both = sorted(set(given.subjects) & set(record.subjects))
        if both:
            notes.append(
                f"{', '.join(both)} chose the shifts and are scored with them: the F1 shifted is "
                "no result."
            )
    if given.lacking:
        notes.append(f"Without a shift there: AU {listed(given.lacking)}.")
    return notes


def listed(aus: Sequence[int]) -> str:
    """Numbers of units as text."""
    return ", ".join(map(str, aus))


def cell(name: str, value: float | None) -> str:
    """A number of the table as text."""
    return signed(value) if name.startswith("shift") else number(value)


def table_of(record: Transfer) -> Table:
    """A row for every unit, the means, and a row for every group of people."""
    columns = record.columns
    rows = [
        (f"AU{au:02d} {ACTION_UNITS[au].name}", *(cell(n, getattr(unit, n)) for n in columns))
        for au, unit in record.per_au.items()
    ]
    means = (cell(name, getattr(record.mean, name, None)) for name in columns)
    rows.append(("mean", *("" if text == UNDEFINED else text for text in means)))
    rules = [len(rows) - 1]
    for column, by in record.groups.items():
        rules.append(len(rows))
        for name, group in by.groups.items():
            cells = (number(getattr(group, n)) if n in OF_GROUPS else "" for n in columns)
            rows.append((f"{column}: {name}", *cells))
    return Table(
        f"transfer to {record.target.name}: a model on faces of another set",
        ("unit", *(COLUMNS[name][0] for name in columns)),
        tuple(rows),
        tuple(notes_of(record)),
        tuple(rules),
    )


def csv_of(record: Transfer) -> str:
    """A line for every unit, in full precision."""
    rows = [
        {"au": au} | unit.model_dump(include={*record.columns})
        for au, unit in record.per_au.items()
    ]
    return csv_text(["au", *record.columns], rows)
