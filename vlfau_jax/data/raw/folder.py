"""Reads a user's own data set: a folder with pictures and one table, `labels.csv`.

The table is UTF-8 with commas, or with semicolons or tabs throughout; its first row names the
columns, in any order:

    image     path of the picture below the folder, with `/`; each picture once. Required.
    subject   whose face: letters, digits and `_`. Required.
    task      number of the recording within the subject; 1 without this column.
    frame     number of the frame within subject and task. With this column the pictures are a
              recording, and the crop is smoothed along it; without it they are unrelated stills,
              numbered by the order of their rows, from 1.
    sex       female or male, or f or m, in any case; may be blank. The same in all rows of a
              subject.
    fold      1, 2 or 3: the fold that tests this subject. The same in all rows of a subject.
    AU1 ...   (or AU01) 1 where the unit is active, 0 where it is not, blank where unknown.
    AU12_intensity ...   0 to 5, or blank.

A unit may have either column or both. Cells are also read as pandas writes a column with blanks:
1.0 is 1, and nan or NA is blank. For example:

    image,subject,sex,AU1,AU12,AU12_intensity
    anna/001.jpg,anna,F,0,1,3
    anna/002.jpg,anna,F,,1,

No path in the table may lead out of the folder; a symbolic link in the folder may.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

import numpy as np

from vlfau_jax.data.raw.integrity import IntegrityReport
from vlfau_jax.data.raw.label_rows import read_code, read_new_frame, read_number, read_rows
from vlfau_jax.data.raw.listing import SYNTHETIC_MARK, raw_folder, relative
from vlfau_jax.data.raw.tree import ImageFiles, RawSequence, RawTree, finished_tree
from vlfau_jax.errors import UserError
from vlfau_jax.facs import ACTION_UNITS

NAME = "folder"
TABLE = "labels.csv"
COLUMNS = ("image", "subject", "task", "frame", "sex", "fold")
REQUIRED = ("image", "subject")
OCCURRENCE_CODES = {"0": 0, "1": 1, "": -1}
INTENSITY_CODES = {"0": 0, "1": 1, "2": 2, "3": 3, "4": 4, "5": 5, "": -1}
SEXES = {"female": "female", "male": "male", "f": "female", "m": "male", "": ""}
FOLDS = {"1": 1, "2": 2, "3": 3}
SEPARATORS = ",;\t"
UNKNOWN = ("", "nan", "na")

_UNIT = re.compile(r"AU(\d{1,2})(_intensity)?", re.ASCII)
_SUBJECT = re.compile(r"\w{1,40}", re.ASCII)
_INTEGER = re.compile(r"(\d+)\.0", re.ASCII)  # not 1.000, which may mean a thousand


@dataclass
class _Rows:
    """The rows of one subject and task: frame -> picture and codes."""

    images: dict[int, str]
    occurrence: dict[int, list[int]]
    intensity: dict[int, list[int]]


@dataclass
class _Table:
    """The table, filled row by row.

    Attributes:
        path: its file.
        columns: name -> column, of `COLUMNS`.
        units: (unit, whether its intensity) -> column.
        sequences: (subject, task) -> rows.
        sexes: subject -> "female", "male" or "".
        folds: subject -> the fold that tests them.
        lines: picture -> line of the file.
    """

    path: Path
    columns: dict[str, int]
    units: dict[tuple[int, bool], int]
    sequences: dict[tuple[str, int], _Rows]
    sexes: dict[str, str]
    folds: dict[str, int]
    lines: dict[str, int]

    @property
    def aus(self) -> tuple[int, ...]:
        """All units of the table, ascending."""
        return tuple(sorted({au for au, _ in self.units}))


def index_folder(raw_dir: str | Path, *, camera: str = "", frame_offset: int = 0) -> RawTree:
    """Reads `labels.csv` and checks which of its pictures exist; none is opened.

    All units of the table are the benchmark: what an experiment learns by default.

    Args:
        raw_dir: the folder.
        camera: "", because a folder has none.
        frame_offset: 0, because the table names each label's picture.

    Raises:
        UserError: a frame offset, no folder, no table, a column or a cell that cannot be trusted,
            a picture or a frame that occurs twice, or none of the pictures exists.
    """
    if frame_offset:
        raise UserError(
            f"--frame_offset={frame_offset} has no place in a folder, whose {TABLE} names each "
            "label's picture; expected 0"
        )
    root = raw_folder(raw_dir, f"a folder with pictures and {TABLE}")
    if not (root / TABLE).is_file():
        raise UserError(f"--raw_dir={raw_dir} holds no {TABLE}; expected pictures and {TABLE}")
    table = _read_table(root / TABLE)
    report = IntegrityReport(
        dataset=NAME,
        raw_dir=str(root),
        synthetic=(root / SYNTHETIC_MARK).is_file(),
        aus=table.aus,
        layout=NAME,
    )
    sequences = [_sequence(root, table, key, report) for key in sorted(table.sequences)]
    report.remarks["name_differs"] += _spelt_differently(root, report.losses["image_missing"])
    return finished_tree(
        root,
        sequences,
        report,
        table.aus,
        table.aus,
        table.folds,
        looked_for=(next(iter(table.lines)), TABLE),
    )


def _read_table(path: Path) -> _Table:
    rows = read_rows(path, SEPARATORS)
    _, header = next(rows, (1, []))
    if not header:
        raise UserError(f"{path}:1: empty; expected a header like image,subject,AU1,AU12")
    columns, units = _columns(path, header)
    table = _Table(path, columns, units, {}, {}, {}, {})
    for line, row in rows:
        if len(row) != len(header):
            raise UserError(f"{path}:{line}: {len(row)} cells; the header has {len(header)}")
        _read_row(table, line, row)
    if not table.lines:
        raise UserError(f"{path}:2: no row; expected one for each picture")
    return table


def _columns(path: Path, header: list[str]) -> tuple[dict[str, int], dict[tuple[int, bool], int]]:
    columns: dict[str, int] = {}
    units: dict[tuple[int, bool], int] = {}
    for i, name in enumerate(header):
        match = _UNIT.fullmatch(name)
        if match and int(match[1]) not in ACTION_UNITS:
            raise UserError(
                f"{path}:1: {name} is no unit that has a description; expected units among "
                f"{', '.join(map(str, ACTION_UNITS))}"
            )
        if not match and name not in COLUMNS:
            raise UserError(f"{path}:1: unknown column {name[:40]!r}; {_suggestion(name)}")
        key = (int(match[1]), bool(match[2])) if match else name
        found = units if match else columns
        if key in found:
            raise UserError(f"{path}:1: column {name} comes twice; expected each once")
        found[key] = i
    for name in REQUIRED:
        if name not in columns:
            raise UserError(f"{path}:1: no column {name}; expected {' and '.join(REQUIRED)}")
    if not units:
        raise UserError(f"{path}:1: no action unit; expected columns such as AU1 and AU12")
    return columns, units


def _suggestion(name: str) -> str:
    """The likely column for a misspelt one, which is refused: ignored, it would lose its unit."""
    units = [f"AU{au}{suffix}" for au in ACTION_UNITS for suffix in ("", "_intensity")]
    known = {column.casefold(): column for column in (*COLUMNS, *units)}
    near = get_close_matches(name.casefold(), known, n=1, cutoff=0.7)
    if near:
        return f"did you mean {known[near[0]]}?"
    expected = f"expected {', '.join(COLUMNS)}, and units such as AU12 and AU12_intensity"
    return expected if name else f"{expected} (pandas leaves out its index with index=False)"


def _read_row(table: _Table, line: int, row: list[str]) -> None:
    path = table.path
    cells = {name: row[i] for name, i in table.columns.items()}
    image = _image(table, line, cells["image"])
    subject = cells["subject"]
    if not _SUBJECT.fullmatch(subject) or subject == "all":  # tfds reads "all" as every split
        raise UserError(
            f"{path}:{line}: subject {subject[:40]!r}; expected up to 40 of the letters A-Z and "
            "a-z, digits and _, and not all"
        )
    task = read_number(path, line, "task", _as_integer(cells["task"])) if "task" in cells else 1
    rows = table.sequences.setdefault((subject, task), _Rows({}, {}, {}))
    frame = len(rows.images) + 1
    if "frame" in cells:
        frame = read_new_frame(path, line, _as_integer(cells["frame"]), rows.images)
    if "sex" in cells:
        sex = read_code(path, line, "sex", _blank_if_unknown(cells["sex"].casefold()), SEXES)
        _constant(table, line, "sex", subject, sex, table.sexes)
    if "fold" in cells:
        fold = read_code(path, line, "fold", _as_integer(cells["fold"]), FOLDS)
        _constant(table, line, "fold", subject, fold, table.folds)
    rows.images[frame] = image
    rows.occurrence[frame] = _unit_codes(table, line, row, False)
    rows.intensity[frame] = _unit_codes(table, line, row, True)


def _as_integer(cell: str) -> str:
    """Removes the ".0" that pandas writes after integers in a column with blanks."""
    match = _INTEGER.fullmatch(cell)
    return match[1] if match else cell


def _blank_if_unknown(cell: str) -> str:
    """The cell, or "" if it is one of `UNKNOWN`."""
    return "" if cell.casefold() in UNKNOWN else cell


def _image(table: _Table, line: int, cell: str) -> str:
    place = f"{table.path}:{line}: image {cell[:60]!r}"
    path = PurePosixPath(cell)
    if "\\" in cell:
        raise UserError(f"{place} has a backslash; write / between folders, as in anna/001.jpg")
    inside = cell.isprintable() and path.as_posix() == cell
    if not cell or cell == "." or not inside or path.is_absolute() or ".." in path.parts:
        raise UserError(f"{place}; expected a path below the folder, such as anna/001.jpg")
    if cell in table.lines:
        raise UserError(f"{place} is in line {table.lines[cell]} too; expected each picture once")
    table.lines[cell] = line
    return cell


def _constant(
    table: _Table, line: int, what: str, subject: str, value: object, known: dict
) -> None:
    if known.setdefault(subject, value) != value:
        raise UserError(
            f"{table.path}:{line}: {what} of {subject} is {value!r} and was {known[subject]!r} "
            "before; expected the same in every row"
        )


def _unit_codes(table: _Table, line: int, row: list[str], intensity: bool) -> list[int]:
    """Reads one row's codes of all units; -1 for a unit without such a column."""
    codes = INTENSITY_CODES if intensity else OCCURRENCE_CODES
    found = []
    for au in table.aus:
        column = table.units.get((au, intensity))
        what = f"AU{au}_intensity" if intensity else f"AU{au}"
        cell = "" if column is None else _blank_if_unknown(_as_integer(row[column]))
        found.append(read_code(table.path, line, what, cell, codes))
    return found


def _sequence(
    root: Path, table: _Table, key: tuple[str, int], report: IntegrityReport
) -> RawSequence:
    subject, task = key
    rows = table.sequences[key]
    frames = sorted(rows.images)
    occurrence = _matrix(rows.occurrence[n] for n in frames)
    intensity = _matrix(rows.intensity[n] for n in frames)
    has_image = [os.path.isfile(root / rows.images[n]) for n in frames]
    report.losses["image_missing"] += [
        rows.images[n] for n, ok in zip(frames, has_image, strict=True) if not ok
    ]
    report.add_sequence(
        subject,
        task,
        frames,
        occurrence,
        intensity,
        images=sum(has_image),
        unlabelled_images=0,
    )
    usable = [n for n, ok in zip(frames, has_image, strict=True) if ok]
    return RawSequence(
        subject=subject,
        task=task,
        frames=tuple(usable),
        pictures=ImageFiles(tuple(str(root / rows.images[n]) for n in usable)),
        occurrence=occurrence[has_image],
        intensity=intensity[has_image],
        sex=table.sexes.get(subject, ""),
        recording="frame" in table.columns,
    )


def _spelt_differently(root: Path, missing: Iterable[str]) -> Iterator[str]:
    """Yields a remark for each missing picture whose file differs in case or Unicode form only."""
    there: dict[str, str] = {}
    for folder, _, names in os.walk(root) if missing else ():
        for path in (relative(Path(folder, name), root) for name in names):
            there[_composed(path).casefold()] = path
    for image in missing:
        path = there.get(_composed(image).casefold())
        if path and _composed(path) == _composed(image):
            yield f"{image}: its file has the same letters in another Unicode form (NFC, NFD)"
        elif path:
            yield f"{image}: its file is {path}"


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _matrix(rows: Iterable[list[int]]) -> np.ndarray:
    return np.array(list(rows), np.int8)
