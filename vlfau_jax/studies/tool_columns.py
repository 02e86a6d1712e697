"""The columns of another tool's table: who and which frame, how sure, and its action units.

Names are compared without case and without spaces around them: OpenFace's header has a space before
every name. A unit's column is AU12, AU12_c, au_12, AU12_r, au_12_intensity and the like; of several
of one unit the occurrence decides, then the probability, then the intensity.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlfau_jax.data.raw.label_rows import is_number
from vlfau_jax.errors import UserError

_UNIT = re.compile(r"au[ _]?0*(\d{1,2})(?:[ _](c|occ|occurrence|p|prob|probability|r|intensity))?")
_KINDS = {
    **dict.fromkeys(("c", "occ", "occurrence"), "occurrence"),
    **dict.fromkeys((None, "p", "prob", "probability"), "probability"),
    **dict.fromkeys(("r", "intensity"), "intensity"),
}
_ORDER = ("occurrence", "probability", "intensity")

# What a column is for -> its names, the first found counts.
_NAMES = {
    "path": ("image", "input", "source", "input_image_path", "image_path", "path", "file"),
    "subject": ("subject",),
    "task": ("task",),
    "frame": ("frame", "frame_idx", "frame_id", "frame_number"),
    "success": ("success",),
    "confidence": ("confidence", "facescore", "face_score"),
    "width": ("facerectwidth",),
    "height": ("facerectheight",),
}
_BLANK = ("", "nan", "na", "none")
_NUMBER = re.compile(r"[+-]?(\d{1,15}\.?\d{0,30}|\.\d{1,30})(e[+-]?\d{1,3})?", re.ASCII | re.I)


@dataclass(frozen=True)
class Unit:
    """The column of a unit.

    Attributes:
        place: its index.
        name: as the table writes it.
        kind: "occurrence" (0 or 1), "probability" (0 to 1) or "intensity" (0 to 5).
    """

    place: int
    name: str
    kind: str


@dataclass(frozen=True)
class ToolColumns:
    """The columns of a table.

    Attributes:
        places: index by purpose, a key of `_NAMES`.
        units: number of an action unit -> its column.
    """

    places: Mapping[str, int]
    units: Mapping[int, Unit]


def read_columns(path: Path, header: Sequence[str]) -> ToolColumns:
    """Finds the columns of a table.

    Raises:
        UserError: no unit, two columns of one kind for one unit, or nothing that says which frame.
    """
    names = [name.strip().casefold() for name in header]
    places = {}
    for purpose, wanted in _NAMES.items():
        found = [name for name in wanted if name in names]
        if found:
            if names.count(found[0]) > 1:
                raise UserError(f"{path}:1: column {found[0]} comes twice; expected each once")
            places[purpose] = names.index(found[0])
    units: dict[int, Unit] = {}
    for place, name in enumerate(names):
        match = _UNIT.fullmatch(name)
        if match is None:
            continue
        au, one = int(match[1]), Unit(place, header[place].strip(), _KINDS[match[2]])
        other = units.get(au)
        if other is not None and other.kind == one.kind:
            raise UserError(
                f"{path}:1: {other.name} and {one.name} both state AU{au}; expected one of them"
            )
        if other is None or _ORDER.index(one.kind) < _ORDER.index(other.kind):
            units[au] = one
    if not units:
        raise UserError(f"{path}:1: no action unit; expected columns such as AU01_c, AU12 or au_12")
    if not ({"path", "frame"} & places.keys() or is_number(Path(path).stem)):
        raise UserError(
            f"{path}:1: nothing says which frame a row is of; expected a column frame, the "
            "picture's path as image, input or source, or a table for each picture, 2440.csv"
        )
    return ToolColumns(places, units)


def read_cell_number(place: str, name: str, cell: str) -> float:
    """A number of a table, NaN where the cell is blank. Raises UserError where it is none."""
    if cell.casefold() in _BLANK:
        return math.nan
    if not _NUMBER.fullmatch(cell):
        raise UserError(f"{place}: {name} is {cell[:40]!r}; expected a number")
    return float(cell)


def reader(unit: Unit, intensity: float) -> Callable[[str, str], tuple[bool | None, float]]:
    """Reads a cell of a unit's column: (place, cell) -> whether it is active, and its score.

    The score is NaN where the column has none but 0 and 1. An active unit has an occurrence of 1, a
    probability above 0.5, or an intensity of at least `intensity`; None where the cell is blank.
    """
    most = 5.0 if unit.kind == "intensity" else 1.0

    def read(place: str, cell: str) -> tuple[bool | None, float]:
        value = read_cell_number(place, unit.name, cell)
        if math.isnan(value):
            return None, value
        whole = unit.kind != "occurrence" or value in (0.0, 1.0)
        if not (0 <= value <= most and whole):
            wanted = {
                "occurrence": "0 or 1",
                "probability": "a probability, 0 to 1 (an intensity is named "
                f"{unit.name.partition('_')[0]}_r)",
                "intensity": "an intensity, 0 to 5",
            }
            raise UserError(f"{place}: {unit.name} is {cell[:40]}; expected {wanted[unit.kind]}")
        if unit.kind == "intensity":
            return value >= intensity, value / most
        return value > 0.5, math.nan if unit.kind == "occurrence" else value

    return read
