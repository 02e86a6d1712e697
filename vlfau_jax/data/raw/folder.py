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

A unit may have either column or both; folder_columns.py says which others are read as labels, such
as OpenFace's AU12_c. Cells are also read as pandas writes a column with blanks: 1.0 is 1, and nan
or NA is blank. For example:

    image,subject,sex,AU1,AU12,AU12_intensity
    anna/001.jpg,anna,F,0,1,3
    anna/002.jpg,anna,F,,1,

No path in the table may lead out of the folder; a symbolic link in the folder may. Where the
pictures are named by `source` (our predictions.csv) or `input` (py-feat) instead of `image`, a path
may also be absolute, or relative to the current folder, and `frame` is not read, because it counts
the pictures of all subjects.
"""

from __future__ import annotations

import os
import re
import unicodedata
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from vlfau_jax.data.raw.folder_columns import (
    PATHS,
    SUCCESS,
    Columns,
    UnitColumn,
    as_integer,
    blank_if_unknown,
    read_header,
)
from vlfau_jax.data.raw.integrity import IntegrityReport
from vlfau_jax.data.raw.label_options import STRICT, LabelOptions
from vlfau_jax.data.raw.label_rows import read_code, read_new_frame, read_number, read_rows
from vlfau_jax.data.raw.listing import SYNTHETIC_MARK, raw_folder, relative
from vlfau_jax.data.raw.tree import ImageFiles, RawSequence, RawTree, finished_tree
from vlfau_jax.errors import UserError

NAME = "folder"
TABLE = "labels.csv"
SEXES = {"female": "female", "male": "male", "f": "female", "m": "male", "": ""}
FOLDS = {"1": 1, "2": 2, "3": 3}
SEPARATORS = ",;\t"

# With a letter or digit, because tfds takes a split of underscores for none.
_SUBJECT = re.compile(r"(?=_*[^\W_])\w{1,40}", re.ASCII)


@dataclass
class _Rows:
    """The rows of one subject and task: frame -> picture, and codes as int8."""

    images: dict[int, str]
    occurrence: dict[int, bytes]
    intensity: dict[int, bytes]


@dataclass
class _Table:
    """The table, filled row by row.

    Attributes:
        path: its file.
        columns: what its columns hold.
        aus: all units of the table, ascending.
        sequences: (subject, task) -> rows.
        subjects: subject -> line of its first row.
        sexes: subject -> "female", "male" or "".
        folds: subject -> the fold that tests them.
        lines: picture -> line of the file.
    """

    path: Path
    columns: Columns
    aus: tuple[int, ...]
    sequences: dict[tuple[str, int], _Rows]
    subjects: dict[str, int]
    sexes: dict[str, str]
    folds: dict[str, int]
    lines: dict[str, int]


def index_folder(
    raw_dir: str | Path,
    *,
    camera: str = "",
    frame_offset: int = 0,
    options: LabelOptions = STRICT,
) -> RawTree:
    """Reads `labels.csv` and checks which of its pictures exist; none is opened.

    All units of the table are the benchmark: what an experiment learns by default.

    Args:
        raw_dir: the folder.
        camera: "", because a folder has none.
        frame_offset: 0, because the table names each label's picture.
        options: what the table leaves open.

    Raises:
        UserError: a frame offset, no folder, no table, a column or a cell that cannot be trusted,
            a picture or a frame that occurs twice, subjects who may be one person, or none of the
            pictures exists.
    """
    if frame_offset:
        raise UserError(
            f"--frame_offset={frame_offset} has no place in a folder, whose {TABLE} names each "
            "label's picture; expected 0"
        )
    root = raw_folder(raw_dir, f"a folder with pictures and {TABLE}")
    if not (root / TABLE).is_file():
        raise UserError(f"--raw_dir={raw_dir} holds no {TABLE}; expected pictures and {TABLE}")
    table = _read_table(root, options)
    report = IntegrityReport(
        dataset=NAME,
        raw_dir=str(root),
        synthetic=(root / SYNTHETIC_MARK).is_file(),
        aus=table.aus,
        layout=NAME,
    )
    places = {subject: f"{root / TABLE}:{line}" for subject, line in table.subjects.items()}
    report.remark_similar(places, accept=options.accept_similar_subjects)
    report.remarks["columns_unread"] += [f"{TABLE}: {name}" for name in table.columns.unread]
    report.label_columns = table.columns.described()
    sequences = [_sequence(root, table, key, report) for key in sorted(table.sequences)]
    report.remarks["name_differs"] += _spelt_differently(root, report.losses["image_missing"])
    return finished_tree(
        root,
        sequences,
        report,
        table.aus,
        table.aus,
        table.folds,
        tables=[root / TABLE],
        looked_for=(next(iter(table.lines)), TABLE),
    )


def _read_table(root: Path, options: LabelOptions) -> _Table:
    path = root / TABLE
    rows = read_rows(path, SEPARATORS)
    _, header = next(rows, (1, []))
    if not header:
        raise UserError(f"{path}:1: empty; expected a header like image,subject,AU1,AU12")
    columns = read_header(path, header, options)
    table = _Table(path, columns, columns.aus, {}, {}, {}, {}, {})
    for line, row in rows:
        if len(row) != len(header):
            raise UserError(f"{path}:{line}: {len(row)} cells; the header has {len(header)}")
        _read_row(root, table, line, row)
    if not table.lines:
        raise UserError(f"{path}:2: no row; expected one for each picture")
    return table


def _read_row(root: Path, table: _Table, line: int, row: list[str]) -> None:
    path = table.path
    cells = {name: row[i] for name, i in table.columns.places.items()}
    named_by = table.columns.picture
    image = _image(root, table, line, named_by, cells[named_by])
    subject = _subject(table, line, cells.get("subject"), image)
    table.subjects.setdefault(subject, line)
    task = read_number(path, line, "task", as_integer(cells["task"])) if "task" in cells else 1
    rows = table.sequences.setdefault((subject, task), _Rows({}, {}, {}))
    frame = len(rows.images) + 1
    if table.columns.recording:
        frame = read_new_frame(path, line, as_integer(cells["frame"]), rows.images)
    if "sex" in cells:
        sex = read_code(path, line, "sex", blank_if_unknown(cells["sex"].casefold()), SEXES)
        _constant(table, line, "sex", subject, sex, table.sexes)
    if "fold" in cells:
        fold = read_code(path, line, "fold", as_integer(cells["fold"]), FOLDS)
        _constant(table, line, "fold", subject, fold, table.folds)
    found = SUCCESS not in cells or read_code(
        path, line, SUCCESS, as_integer(cells[SUCCESS]), {"0": 0, "1": 1}
    )
    rows.images[frame] = image
    for codes, columns in (
        (rows.occurrence, table.columns.occurrence),
        (rows.intensity, table.columns.intensity),
    ):
        codes[frame] = array(
            "b",
            [
                _code(path, line, row, columns[au]) if found and au in columns else -1
                for au in table.aus
            ],
        ).tobytes()


def _subject(table: _Table, line: int, cell: str | None, image: str) -> str:
    """The subject that a row states, or the first folder of its picture's path."""
    if cell is None:
        cell = image.partition("/")[0] if "/" in image else ""
        if not cell:
            raise UserError(
                f"{table.path}:{line}: image {image[:60]!r} is in no folder, of which "
                "--subjects_from_folders would take the name"
            )
    if not _SUBJECT.fullmatch(cell) or cell == "all":  # tfds reads "all" as every split
        raise UserError(
            f"{table.path}:{line}: subject {cell[:40]!r}; expected up to 40 of the letters A-Z and "
            "a-z, digits and _, not only _, and not all"
        )
    return cell


def _image(root: Path, table: _Table, line: int, column: str, cell: str) -> str:
    place = f"{table.path}:{line}: {column} {cell[:60]!r}"
    if "\\" in cell:
        raise UserError(f"{place} has a backslash; write / between folders, as in anna/001.jpg")
    if column in PATHS:
        cell = _below(root, cell)
    path = PurePosixPath(cell)
    inside = cell.isprintable() and path.as_posix() == cell
    if not cell or cell == "." or not inside or path.is_absolute() or ".." in path.parts:
        raise UserError(f"{place}; expected a path below the folder, such as anna/001.jpg")
    if cell in table.lines:
        raise UserError(f"{place} is in line {table.lines[cell]} too; expected each picture once")
    table.lines[cell] = line
    return cell


def _below(root: Path, cell: str) -> str:
    """A path that another program wrote, as one below the folder where it is one."""
    if not cell or "\0" in cell:
        return cell
    plain = os.path.normpath(cell)
    if not os.path.isabs(plain) and os.path.lexists(root / plain):
        return plain
    folder = os.path.abspath(root)
    path = os.path.abspath(plain)
    return os.path.relpath(path, folder) if path.startswith(folder + os.sep) else plain


def _constant(
    table: _Table, line: int, what: str, subject: str, value: object, known: dict
) -> None:
    if known.setdefault(subject, value) != value:
        raise UserError(
            f"{table.path}:{line}: {what} of {subject} is {value!r} and was {known[subject]!r} "
            "before; expected the same in every row"
        )


def _code(path: Path, line: int, row: list[str], column: UnitColumn) -> int:
    return column.read(path, line, column.name, row[column.place])


def _sequence(
    root: Path, table: _Table, key: tuple[str, int], report: IntegrityReport
) -> RawSequence:
    subject, task = key
    rows = table.sequences[key]
    frames = sorted(rows.images)
    occurrence, intensity = (
        np.frombuffer(b"".join(codes[n] for n in frames), np.int8).reshape(len(frames), -1)
        for codes in (rows.occurrence, rows.intensity)
    )
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
        recording=table.columns.recording,
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
