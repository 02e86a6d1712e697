"""The columns of labels.csv: our own names, OpenFace's, py-feat's, and those of predictions.csv.

For every unit at most one column decides its occurrence and at most one its intensity:

    AU12             as LabelOptions.au_columns states: occurrence 0 or 1; a probability, active
                     from 0.5 on; or an intensity
    AU12_c           occurrence 0 or 1, as OpenFace and our predictions.csv write it
    AU12_p           probability, active from 0.5 on; not read beside AU12_c
    AU12_intensity   level 0 to 5
    AU12_r           intensity 0 to 5 as a decimal number, OpenFace's. The whole part is the level,
                     so that a unit is at level 2 exactly from 2.0 on

Blank cells, nan and NA are unknown, and so are all units of a row whose `success` is 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from vlfau_jax.data.raw.label_options import LabelOptions
from vlfau_jax.data.raw.label_rows import read_code
from vlfau_jax.errors import UserError
from vlfau_jax.facs import ACTION_UNITS

COLUMNS = ("image", "subject", "task", "frame", "sex", "fold")
PATHS = ("source", "input")  # of predictions.csv and of py-feat; they may begin above the folder
SUCCESS = "success"
OCCURRENCE_CODES = {"0": 0, "1": 1, "": -1}
INTENSITY_CODES = {"0": 0, "1": 1, "2": 2, "3": 3, "4": 4, "5": 5, "": -1}
UNKNOWN = ("", "nan", "na")

_UNIT = re.compile(r"AU(\d{1,2})(_intensity|_c|_p|_r)?", re.ASCII)
_INTEGER = re.compile(r"(\d+)\.0", re.ASCII)  # not 1.000, which may mean a thousand
_DECIMAL = re.compile(r"-?(\d{1,9}\.?\d{0,30}|\.\d{1,30})(e[+-]?\d{1,3})?", re.ASCII | re.I)
# Columns that other programs write and that hold no label: one of them, or of OpenFace's units,
# makes a table theirs.
_OTHERS = re.compile(
    r"FaceRect\w+|FaceScore|face_id|timestamp|confidence|gaze_\w+|pose_\w+|[xy]_\d+", re.ASCII
)


@dataclass(frozen=True)
class UnitColumn:
    """Where one kind of code of a unit is.

    Attributes:
        place: index of the column.
        name: its name, for messages.
        read: reads a cell: (table, line, name, cell) -> code.
    """

    place: int
    name: str
    read: Callable[[Path, int, str, str], int]


@dataclass(frozen=True)
class Columns:
    """The columns of a table.

    Attributes:
        places: name -> index, of `COLUMNS`, `PATHS` and `SUCCESS`.
        occurrence: unit -> the column that decides its occurrence.
        intensity: unit -> the column of its levels.
        unread: names of columns that hold nothing for us.
    """

    places: Mapping[str, int]
    occurrence: Mapping[int, UnitColumn]
    intensity: Mapping[int, UnitColumn]
    unread: tuple[str, ...]

    @property
    def aus(self) -> tuple[int, ...]:
        """All units of the table, ascending."""
        return tuple(sorted(self.occurrence.keys() | self.intensity.keys()))

    @property
    def picture(self) -> str:
        """The column that names the pictures."""
        return next(name for name in ("image", *PATHS) if name in self.places)

    @property
    def recording(self) -> bool:
        """Whether `frame` numbers the frames of recordings."""
        return "frame" in self.places and self.picture == "image"

    def described(self) -> dict[str, str]:
        """AU12, or AU12_intensity -> the column that it is read from."""
        return {f"AU{au}": column.name for au, column in self.occurrence.items()} | {
            f"AU{au}_intensity": column.name for au, column in self.intensity.items()
        }


def read_header(path: Path, header: Sequence[str], options: LabelOptions) -> Columns:
    """Finds the columns of a table. Raises UserError for a header that leaves one open."""
    matches = {name: _UNIT.fullmatch(name) for name in header}
    foreign = any(
        (match and match[2] in ("_c", "_p", "_r")) or (not match and _OTHERS.fullmatch(name))
        for name, match in matches.items()
    )
    places: dict[str, int] = {}
    candidates: list[tuple[str, int, UnitColumn]] = []
    unread: list[str] = []
    for i, name in enumerate(header):
        match = matches[name]
        if match is None and name in (*COLUMNS, *((*PATHS, SUCCESS) if foreign else ())):
            if name in places:
                raise UserError(f"{path}:1: column {name} comes twice; expected each once")
            places[name] = i
        elif match is None:
            if not foreign or name.startswith("AU"):
                raise UserError(f"{path}:1: unknown column {name[:40]!r}; {_suggestion(name)}")
            unread.append(name)
        elif int(match[1]) not in ACTION_UNITS:
            if not foreign:
                raise UserError(
                    f"{path}:1: {name} is no unit that has a description; expected units among "
                    f"{', '.join(map(str, ACTION_UNITS))}"
                )
            unread.append(name)
        else:
            column = UnitColumn(i, name, _reader(match, options))
            candidates.append((_kind(name, options), int(match[1]), column))
    found = _chosen(path, candidates)
    read = {id(column) for column in found.values()}
    unread += [column.name for _, _, column in candidates if id(column) not in read]
    columns = Columns(
        places,
        {au: column for (kind, au), column in found.items() if kind == "occurrence"},
        {au: column for (kind, au), column in found.items() if kind == "intensity"},
        tuple(unread),
    )
    _check_required(path, columns, options)
    return columns


def _kind(name: str, options: LabelOptions) -> str:
    if name.endswith(("_intensity", "_r")):
        return "intensity"
    plain = "_" not in name
    return "intensity" if plain and options.au_columns == "intensity" else "occurrence"


def _reader(match: re.Match[str], options: LabelOptions) -> Callable[[Path, int, str, str], int]:
    form = (
        match[2] or {"occurrence": "", "probability": "_p", "intensity": "_r"}[options.au_columns]
    )
    codes = dict(INTENSITY_CODES if form == "_intensity" else OCCURRENCE_CODES)
    codes |= dict.fromkeys(options.unknown_codes, -1)
    unknown = frozenset(map(float, options.unknown_codes))

    def code(path: Path, line: int, name: str, cell: str) -> int:
        cell = as_integer(blank_if_unknown(cell))
        if form == "_c" and cell in ("0.00", "1.00"):  # OpenFace's
            cell = cell[0]
        if cell in codes:
            return codes[cell]
        return _refuse(path, line, name, cell, codes, plain=not form)

    def number(path: Path, line: int, name: str, cell: str) -> int:
        cell = blank_if_unknown(cell)
        if not cell:
            return -1
        value = float(cell) if _DECIMAL.fullmatch(cell) else -0.5
        if value in unknown:
            return -1
        if not 0 <= value <= (1 if form == "_p" else 5):
            high = "1" if form == "_p" else "5"
            raise UserError(
                f"{path}:{line}: {name} is {cell[:40]!r}; expected a number from 0 to {high}, or "
                f"an empty cell{_advice(cell)}"
            )
        return int(value >= 0.5) if form == "_p" else int(value)

    return code if form in ("", "_c", "_intensity") else number


def _refuse(
    path: Path, line: int, name: str, cell: str, codes: dict[str, int], *, plain: bool
) -> int:
    try:
        return read_code(path, line, name, cell, codes)
    except UserError as error:
        advice = _advice(cell)
        if plain and not advice and _DECIMAL.fullmatch(cell):
            advice = "; --au_columns states what such columns hold: probability or intensity"
        raise UserError(f"{error}{advice}") from None


def _advice(cell: str) -> str:
    if cell.removesuffix(".0") in ("-1", "9", "99", "999", "-9", "-99", "-999"):
        code = cell.removesuffix(".0")
        return f"; if it means unknown, give --unknown_codes={code}"
    return ""


def _chosen(
    path: Path, candidates: Sequence[tuple[str, int, UnitColumn]]
) -> dict[tuple[str, int], UnitColumn]:
    """(kind, unit) -> the column that decides it; AU12_p gives way to AU12_c."""
    found: dict[tuple[str, int], UnitColumn] = {}
    for kind, au, column in sorted(candidates, key=lambda one: one[2].name.endswith("_p")):
        first = found.setdefault((kind, au), column)
        if first is column or (first.name.endswith("_c") and column.name.endswith("_p")):
            continue
        if first.name.lstrip("AU0123456789") == column.name.lstrip("AU0123456789"):
            raise UserError(f"{path}:1: column {column.name} comes twice; expected each once")
        raise UserError(
            f"{path}:1: {first.name} and {column.name} both state the {kind} of AU{au}; expected "
            "one of them"
        )
    return found


def _check_required(path: Path, columns: Columns, options: LabelOptions) -> None:
    pictures = [name for name in ("image", *PATHS) if name in columns.places]
    if not pictures:
        raise UserError(f"{path}:1: no column image; expected image and subject")
    given = "subject" in columns.places
    if given and options.subjects_from_folders:
        raise UserError(
            f"{path}:1: a column subject, and --subjects_from_folders; expected one of them"
        )
    if not given and not options.subjects_from_folders:
        raise UserError(
            f"{path}:1: no column subject; expected image and subject, or --subjects_from_folders "
            "where the first folder of a picture's path is its subject"
        )
    if not columns.aus:
        raise UserError(f"{path}:1: no action unit; expected columns such as AU1 and AU12")


def _suggestion(name: str) -> str:
    """The likely column for a misspelt one, which is refused: ignored, it would lose its unit."""
    units = [f"AU{au}{suffix}" for au in ACTION_UNITS for suffix in ("", "_intensity")]
    known = {column.casefold(): column for column in (*COLUMNS, *units)}
    near = get_close_matches(name[:40].casefold(), known, n=1, cutoff=0.7)
    if near:
        return f"did you mean {known[near[0]]}?"
    expected = f"expected {', '.join(COLUMNS)}, and units such as AU12 and AU12_intensity"
    return expected if name else f"{expected} (pandas leaves out its index with index=False)"


def as_integer(cell: str) -> str:
    """Removes the ".0" that pandas writes after integers in a column with blanks."""
    negative = cell.startswith("-")
    match = _INTEGER.fullmatch(cell[negative:])
    return "-" * negative + match[1] if match else cell


def blank_if_unknown(cell: str) -> str:
    """The cell, or "" if it is one of `UNKNOWN`."""
    return "" if cell.casefold() in UNKNOWN else cell
