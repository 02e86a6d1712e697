"""Another tool's tables, matched with the test frames of a run.

Which frame a row is of, by the first of these that there is:

    columns subject and frame (and task)
    the picture's path, .../F001/T1/2440.jpg: a subject of the set, a task, and the number
    the subject (and task) in the path of a video, or of the table itself, F001_T1.csv, and the
    column frame
    the path of a table that is of one picture, F001/T1/2440.csv

Of several faces in a frame the one of the highest confidence is taken, then the largest.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np

from vlfau_jax.data.raw.label_rows import is_number, read_rows
from vlfau_jax.errors import FileError, UserError
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.studies.tool_columns import ToolColumns, Unit, read_cell_number, read_columns, reader

Key = tuple[str, int, int]  # subject, task, frame

_TASK = re.compile(r"(?<![A-Za-z0-9])T(\d{1,3})(?![A-Za-z0-9])")
_WORD, _FOLDER, _WITHIN = (
    r"(?<![A-Za-z0-9]){}(?![A-Za-z0-9])",
    r"(?<![^/]){}(?![^/])",
    r"{}(?!\d)",
)
_CODED = re.compile(r"[A-Za-z]+\d+")
_NUMBERED = re.compile(r"(?:.*\D)?(\d{1,9})", re.DOTALL)
_FRAME = re.compile(r"(?<![A-Za-z])\d+$")
_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".avif", ".heic")
_MOST_TABLES = 100_000


@dataclass(frozen=True)
class Reading:
    """How tables are read.

    Attributes:
        frames_from: the number that they give the labels' frame 1; None decides by each tool.
        min_confidence: rows below it are no answer.
        intensity: a unit with only an intensity is active from here on.
    """

    frames_from: int | None = None
    min_confidence: float = 0.0
    intensity: float = 2.0


@dataclass(frozen=True)
class FramesTested:
    """The frames that are compared, and the people of their data set.

    Attributes:
        keys: m of them.
        people: all subjects of the run, tested or not.
        frame_offset: label frame n shows picture n + this.
    """

    keys: Sequence[Key]
    people: Sequence[str]
    frame_offset: int = 0

    def tasks(self) -> dict[str, set[int]]:
        """The tasks of each tested subject."""
        found: dict[str, set[int]] = {}
        for subject, task, _ in self.keys:
            found.setdefault(subject, set()).add(task)
        return found


@dataclass(frozen=True)
class ToolAnswers:
    """What a tool says about the m tested frames, for its n units.

    Attributes:
        name: the tool's.
        aus: the units' numbers, ascending.
        columns: unit -> the column that it is read from, and its kind.
        active: bool [m, n]; False where nothing is known.
        known: bool [m, n], whether the cell held something.
        scores: float64 [m, n] in 0-1, NaN without one.
        intensities: the units whose score is a fifth of an intensity, and no probability.
        answered: bool [m], whether the tool has an answer for the frame.
        reasons: why the others have none, each with its number of frames.
        passed_over: rows that are about nothing tested, and faces besides the chosen one, with the
            reason and number.
        numbering: how its frames were counted, in words.
    """

    name: str
    aus: tuple[int, ...]
    columns: Mapping[int, str]
    active: np.ndarray
    known: np.ndarray
    scores: np.ndarray
    intensities: frozenset[int]
    answered: np.ndarray
    reasons: Mapping[str, int]
    passed_over: Mapping[str, int]
    numbering: str


@dataclass(frozen=True)
class _Face:
    """A row: how sure the tool was, how large the face, why it is no answer, its units."""

    confidence: float
    area: float
    reason: str
    units: Mapping[int, tuple[bool | None, float]]

    @property
    def rank(self) -> tuple[bool, float, float]:
        return (not self.reason, self.confidence, self.area)


def find_tables(argument: str) -> tuple[str, list[Path]]:
    """[NAME=]TABLE of the command line -> the tool's name, and its tables: a file or a folder's.

    Raises:
        UserError: nothing is there, or a folder holds no .csv.
    """
    name, equals, rest = argument.partition("=")
    path = Path(argument)
    if path.exists() or not equals:
        name = path.resolve().stem if path.is_file() else path.resolve().name
    else:
        path = Path(rest)
    if path.is_dir():
        found = sorted(path.rglob("*.csv"))
        if not found:
            raise UserError(f"{path}: a folder without a .csv; give the tables of a tool")
        if len(found) > _MOST_TABLES:
            raise UserError(f"{path}: more than {_MOST_TABLES} tables")
        return name, found
    if not path.exists():
        raise UserError(f"{path}: no such table; give [NAME=]FILE or [NAME=]FOLDER of .csv")
    return name, [path]


def read_tool(
    name: str, tables: Iterable[Path], tested: FramesTested, reading: Reading
) -> ToolAnswers:
    """Reads the tables of a tool.

    Raises:
        UserError: a table that cannot be read, or none of whose rows is of a tested frame; tables
            with other columns than the first.
    """
    faces: dict[Key, _Face] = {}
    passed: Counter[str] = Counter()
    units: Mapping[int, Unit] | None = None
    wanted = set(tested.keys)
    found: list[_Row] = []
    for path in tables:
        table = _Table.open(path, tested, reading)
        stated = {au: (unit.name, unit.kind) for au, unit in table.columns.units.items()}
        if units is not None and stated != {au: (u.name, u.kind) for au, u in units.items()}:
            raise UserError(f"{path}:1: has other units than the tables before; compare them apart")
        units = table.columns.units
        found += table.rows
    shift, numbering = _numbering([where for where, _ in found], tested, reading)
    for where, face in found:
        if isinstance(where, str):
            passed[where] += 1
            continue
        key = _shifted(where, shift, tested)
        if key not in wanted:
            passed["rows of frames that are not tested"] += 1
        elif key not in faces:
            faces[key] = face
        else:
            passed["rows of other faces in a frame"] += 1
            faces[key] = max(faces[key], face, key=lambda one: one.rank)
    if not faces:
        why = ", ".join(f"{count} {reason}" for reason, count in passed.items()) or "no rows"
        raise UserError(f"{name}: no row is of a tested frame ({why}); the {numbering}")
    return _aligned(name, units or {}, faces, tested, passed, numbering)


def _aligned(
    name: str,
    units: Mapping[int, Unit],
    faces: Mapping[Key, _Face],
    tested: FramesTested,
    passed: Mapping[str, int],
    numbering: str,
) -> ToolAnswers:
    aus = tuple(sorted(au for au in units if au in ACTION_UNITS))
    shape = (len(tested.keys), len(aus))
    active, known = np.zeros(shape, bool), np.zeros(shape, bool)
    scores, answered = np.full(shape, np.nan), np.zeros(shape[0], bool)
    reasons: Counter[str] = Counter()
    for row, key in enumerate(tested.keys):
        face = faces.get(key)
        if face is None or face.reason:
            reasons["not in the table" if face is None else face.reason] += 1
            continue
        answered[row] = True
        for column, au in enumerate(aus):
            state, score = face.units[au]
            known[row, column] = state is not None
            active[row, column] = bool(state)
            scores[row, column] = score
    binary = np.isnan(scores) | (scores == 0) | (scores == 1)
    scores[:, binary.all(0)] = np.nan
    columns = {au: f"{units[au].name} ({units[au].kind})" for au in aus}
    intensities = frozenset(au for au in aus if units[au].kind == "intensity")
    return ToolAnswers(
        name, aus, columns, active, known, scores, intensities, answered, reasons, passed, numbering
    )


# Subject, task, number, and whether that is a picture's; or why a row is about no frame.
_Place = tuple[str, int, int, bool] | str
_Row = tuple[_Place, _Face]


@dataclass(frozen=True)
class _Table:
    """One table, its rows matched."""

    columns: ToolColumns
    rows: Sequence[_Row]

    @classmethod
    def open(cls, path: Path, tested: FramesTested, reading: Reading) -> _Table:
        lines = read_rows(path, ",;\t")
        _, header = next(lines, (1, []))
        columns = read_columns(path, header)
        locate = _Locator(path, columns, tested)
        readers = {au: reader(unit, reading.intensity) for au, unit in columns.units.items()}
        found: list[_Row] = []
        for line, cells in lines:
            place = f"{path}:{line}"
            if len(cells) != len(header):
                raise FileError(place, f"{len(cells)} cells; the header has {len(header)}")
            units = {
                au: read(place, cells[columns.units[au].place]) for au, read in readers.items()
            }
            found.append((locate(place, cells), _face(place, cells, columns, units, reading)))
        return cls(columns, found)


def _shifted(where: tuple[str, int, int, bool], shift: int | None, tested: FramesTested) -> Key:
    subject, task, number, picture = where
    if picture and shift is None:
        return subject, task, number - tested.frame_offset
    return subject, task, number + (shift or 0)


def _numbering(
    places: Sequence[_Place], tested: FramesTested, reading: Reading
) -> tuple[int | None, str]:
    """What is added to a tool's frame numbers, None for as they are, and that in words.

    A tool counts one way: a table that lacks the frame 0 that its others have counts from 0, too.
    """
    if reading.frames_from is not None:
        shift = 1 - reading.frames_from
        return shift, f"frames are counted from {reading.frames_from}, as --frames_from says"
    counted = [where[2] for where in places if not isinstance(where, str) and not where[3]]
    from_zero = bool(counted) and min(counted) == 0
    if from_zero and min(frame for _, _, frame in tested.keys) > 0:
        return 1, "frames are counted from 0, as its lowest number says, and the labels' from 1"
    return None, "frames have the labels' numbers"


def _face(
    place: str,
    cells: Sequence[str],
    columns: ToolColumns,
    units: Mapping[int, tuple[bool | None, float]],
    reading: Reading,
) -> _Face:
    def value(purpose: str) -> float:
        where = columns.places.get(purpose)
        return math.nan if where is None else read_cell_number(place, purpose, cells[where])

    success, confidence = value("success"), value("confidence")
    reason = ""
    if success == 0:
        reason = "success is 0"
    elif confidence < reading.min_confidence:
        reason = f"confidence below {reading.min_confidence:g}"
    elif all(state is None for state, _ in units.values()):
        reason = "all units are blank"
    area = value("width") * value("height")
    least = [-math.inf if math.isnan(number) else number for number in (confidence, area)]
    return _Face(*least, reason, units)


class _Locator:
    """Finds the frame that a row is of: (subject, task, number, whether it is a picture's)."""

    def __init__(self, path: Path, columns: ToolColumns, tested: FramesTested) -> None:
        self._columns, self._tasks, self._people = columns, tested.tasks(), tested.people
        # Of a name, the part without the ending may be a subject's: SN001.csv.
        self._table, self._stem = self._named(path.with_suffix("").as_posix()), path.stem
        # Folders repeat from row to row.
        self._folder = lru_cache(maxsize=4096)(self._named)

    def __call__(self, place: str, cells: Sequence[str]) -> _Place:
        places = self._columns.places
        picture = (
            PurePosixPath(cells[places["path"]].replace("\\", "/")) if "path" in places else None
        )
        if "subject" in places:
            subject = cells[places["subject"]]
            if subject not in self._people:
                return "rows of people who are not of the set"
            task = self._number(place, "task", cells) if "task" in places else None
        else:
            subject, task = self._table
            if picture is not None:
                inner, its = self._folder(picture.parent.as_posix())
                if inner is None:  # the digits at the end are the frame's
                    inner, its = self._named(_FRAME.sub("", picture.stem))
                if inner is not None:
                    task = its if its is not None else task if inner == subject else None
                    subject = inner
            if subject is None:
                return "rows whose path names nobody of the set"
        if subject not in self._tasks:
            return "rows of people who are not tested"
        if task is None:
            if len(self._tasks[subject]) > 1:
                return "rows that name no task, of people with several"
            (task,) = self._tasks[subject]
        if "frame" in places and "subject" in places:
            return subject, task, self._number(place, "frame", cells), False
        if picture is not None and picture.suffix.casefold() in _PICTURES:
            match = _NUMBERED.fullmatch(picture.stem)
            if match:
                return subject, task, int(match[1]), True
            return "rows of pictures without a number"
        if "frame" not in places:
            if is_number(self._stem):
                return subject, task, int(self._stem), True
            return "rows without a frame"
        return subject, task, self._number(place, "frame", cells), False

    def _number(self, place: str, purpose: str, cells: Sequence[str]) -> int:
        cell = cells[self._columns.places[purpose]].removesuffix(".0")
        digits = cell.removeprefix("T") if purpose == "task" else cell
        if not is_number(digits):
            raise UserError(f"{place}: {purpose} is {cell[:40]!r}; expected a number")
        return int(digits)

    def _named(self, text: str) -> tuple[str | None, int | None]:
        """The subject and the task that a path names, each None where it names none.

        A name is a whole word of the path; one that is a number alone, as frames have them, too, a
        whole folder; one of letters and a number, such as SN001, may stand within a longer word.
        """
        whole = [(subject, _FOLDER if subject.isdigit() else _WORD) for subject in self._people]
        coded = [(subject, _WITHIN) for subject in self._people if _CODED.fullmatch(subject)]
        for names in (whole, coded):
            ends = {}
            for subject, pattern in names:
                for match in re.finditer(pattern.format(re.escape(subject)), text):
                    ends[subject] = (match.end(), len(subject))
            if ends:
                subject = max(ends, key=ends.__getitem__)
                break
        else:
            subject = None
        tasks = _TASK.findall(text)
        return subject, int(tasks[-1]) if tasks else None
