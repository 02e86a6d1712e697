"""What must be the same in all runs that a table averages or compares; else it is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlfau_jax.distributed.differences import differences
from vlfau_jax.errors import UserError
from vlfau_jax.evaluation.json_values import to_json
from vlfau_jax.records import quoted
from vlfau_jax.studies.cell import Finished

# Fields of `Scores` that decide what its numbers mean, whoever is tested.
_FIELDS = (
    "dataset",
    "aus",
    "thresholds",
    "folds",
    "layout",
    "camera",
    "frame_offset",
    "label_rule",
    "label_threshold",
    "excluded_stretches",
    "crop_rule",
    "average",
    "checkpoint",
    "step",
    "beams",
)
_CODE = "code"


def protocol_of(one: Finished) -> dict[str, Any]:
    """The protocol of a cell as JSON values: of its scores, its data and its code."""
    found = {name: getattr(one.scores, name) for name in _FIELDS}
    return to_json({**found, "data": dict(one.data), _CODE: one.code})


def same_protocol(cells: Sequence[Finished], *, other_code: bool) -> dict[str, Any]:
    """The protocol that all cells share.

    Args:
        cells: at least one.
        other_code: whether they may be of different code; the protocol then lists all of it.

    Raises:
        UserError: two differ; it names the first such key, both cells and both values.
    """
    first, found = cells[0], protocol_of(cells[0])
    for one in cells[1:]:
        for key, here, there in differences(found, protocol_of(one)):
            if key == _CODE and other_code:
                continue
            advice = (
                "train both with one version, or give --accept_other_code"
                if key == _CODE
                else "train and evaluate both alike"
            )
            raise UserError(
                f"{first.cell.title} and {one.cell.title} cannot be in one table: {key} is "
                f"{_short(here)} in {first.cell.folder}, {_short(there)} in {one.cell.folder}; "
                f"{advice}"
            )
    codes = sorted({one.code or "not recorded" for one in cells})
    found[_CODE] = codes[0] if len(codes) == 1 else codes
    return found


def check_people(cells: Sequence[Finished]) -> None:
    """Raises UserError where two folds test one person: the mean would count them twice."""
    tested: dict[str, Finished] = {}
    for one in cells:
        for subject in one.subjects:
            other = tested.setdefault(subject, one)
            if other is not one:
                raise UserError(
                    f"{other.cell.title} and {one.cell.title} both test {subject} "
                    f"({other.cell.folder}, {one.cell.folder}); give folds that share nobody"
                )


def check_same_people(cells: Sequence[Finished]) -> None:
    """Raises UserError unless all cells test the same people, as runs of one fold must."""
    first = cells[0]
    for one in cells[1:]:
        if one.subjects != first.subjects or one.scores.frames != first.scores.frames:
            raise UserError(
                f"{first.cell.title} and {one.cell.title} test other people or frames "
                f"({first.cell.folder}, {one.cell.folder}); use one prepared set for both"
            )


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) <= 30 and all(isinstance(v, int) for v in value):
        return ", ".join(map(str, value))
    return quoted(value)
