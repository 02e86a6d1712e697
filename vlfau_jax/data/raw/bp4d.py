"""Reads a raw BP4D tree: lists its folders and parses the numbers in their names.

No name is formatted, because trees differ in how they pad numbers.

Layout: `Sequences(2D+3D)/F001/T1/2440.jpg`, `AUCoding/AU_OCC/F001_T1.csv`, and intensities in
`AU Intensity Codes3.0/AU06/F001_T1_AU06.csv` or `AUCoding/AU_INT/AU06/F001_T1_AU06.csv`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain, pairwise
from pathlib import Path

import numpy as np

from vlfau_jax.data.raw.bp4d_labels import read_intensity, read_occurrence
from vlfau_jax.data.raw.bp4d_published import BP4D_PUBLISHED
from vlfau_jax.data.raw.frame_numbers import shift
from vlfau_jax.data.raw.integrity import IntegrityReport
from vlfau_jax.data.raw.label_options import STRICT, LabelOptions
from vlfau_jax.data.raw.listing import SYNTHETIC_MARK, add_once, entries, raw_folder, relative
from vlfau_jax.data.raw.me_graphau import (
    ListLayout,
    index_prepared,
    is_prepared_tree,
    refuse_options,
)
from vlfau_jax.data.raw.places import format_count
from vlfau_jax.data.raw.tree import ImageFiles, RawSequence, RawTree, finished_tree
from vlfau_jax.errors import UserError
from vlfau_jax.facs import BP4D_AUS

NAME = "bp4d"
SEQUENCES = "Sequences(2D+3D)"
OCCURRENCE = "AUCoding/AU_OCC"
INTENSITY = ("AU Intensity Codes3.0", "AUCoding/AU_INT")
INTENSITY_AUS = (6, 10, 12, 14, 17)
SEXES = {"F": "female", "M": "male"}

_SUBJECT = re.compile(r"[FM]\d{3}", re.ASCII)
_TASK = re.compile(r"T(\d{1,3})", re.ASCII)
_LABEL_FILE = re.compile(r"([FM]\d{3})_T(\d{1,3})\.csv", re.ASCII)
_LEVELS = re.compile(r"([FM]\d{3})_T(\d{1,3})_AU(\d{1,2})\.csv", re.ASCII)
_UNIT = re.compile(r"AU(\d{1,2})", re.ASCII)
_IMAGE = re.compile(r"(\d{1,9})\.jpe?g", re.ASCII | re.IGNORECASE)

Key = tuple[str, int]  # subject and task

ME_GRAPHAU = ListLayout(
    dataset=NAME,
    prefix="BP4D",
    aus=BP4D_AUS,
    benchmark=BP4D_AUS,
    path=re.compile(
        r"(?:img/)?(?P<subject>[FM]\d{3})/T(?P<task>\d{1,3})/(?P<number>\d{1,9})"
        r"\.(?:jpe?g|png|bmp)",
        re.ASCII,
    ),
    example="F001/T1/2440.jpg",
    first_frame=0,
    published=BP4D_PUBLISHED,
    sexes=SEXES,
)


def index_bp4d(
    raw_dir: str | Path,
    *,
    camera: str = "",
    frame_offset: int = 0,
    options: LabelOptions = STRICT,
) -> RawTree:
    """Lists a raw BP4D tree and reads all its labels; no image is opened.

    Args:
        raw_dir: the raw tree, or one prepared for ME-GraphAU (see raw/me_graphau.py).
        camera: "", because BP4D has one only.
        frame_offset: label frame n is shown by image n + frame_offset.
        options: none of those about labels.csv.

    Raises:
        UserError: no such folder, a folder of another layout, nothing labelled in it, or a label
            file that cannot be trusted.
    """
    options.refuse_those_of_tables(NAME)
    root = raw_folder(raw_dir, "a raw BP4D tree")
    if is_prepared_tree(root):
        refuse_options(frame_offset=frame_offset)
        return index_prepared(root, ME_GRAPHAU)
    for part in (SEQUENCES, OCCURRENCE):
        if not (root / part).is_dir():
            raise UserError(f"--raw_dir={raw_dir} holds no {part}/; expected a raw BP4D tree")
    report = IntegrityReport(
        dataset=NAME,
        raw_dir=str(root),
        synthetic=(root / SYNTHETIC_MARK).is_file(),
        aus=BP4D_AUS,
        published=BP4D_PUBLISHED,
    )
    folders = _sequence_folders(root, report)
    label_files = _label_files(root, report)
    for key in sorted(folders.keys() - label_files.keys()):
        report.remarks["sequence_without_labels"].append(relative(folders[key], root))
    for key in sorted(label_files.keys() - folders.keys()):
        report.remarks["labels_without_sequence"].append(relative(label_files[key], root))
    levels = _intensity_files(root, report)
    for au, key, path in ((a, k, p) for a, files in levels.items() for k, p in files.items()):
        if key not in label_files:
            where = f"{relative(path[0], root)}: AU{au}, a sequence without a label file"
            report.remarks["intensity_frame_unlabelled"].append(where)
    sequences = [
        _read_sequence(
            root, key, folders.get(key), label_files.get(key), levels, frame_offset, report
        )
        for key in sorted(folders.keys() | label_files.keys())
    ]
    subject, task = min(folders.keys() | label_files.keys(), default=("F001", 1))
    looked_for = f"{SEQUENCES}/{subject}/T{task}/1.jpg", f"{OCCURRENCE}/{subject}_T{task}.csv"
    level_files = (
        path
        for files in levels.values()
        for key, paths in files.items()
        if key in label_files
        for path in paths
    )
    return finished_tree(
        root,
        sequences,
        report,
        BP4D_AUS,
        BP4D_AUS,
        tables=chain(label_files.values(), level_files),
        looked_for=looked_for,
    )


def _sequence_folders(root: Path, report: IntegrityReport) -> dict[Key, Path]:
    folders: dict[Key, Path] = {}
    for subject in entries(root / SEQUENCES):
        if not (subject.is_dir() and _SUBJECT.fullmatch(subject.name)):
            report.remarks["name_ignored"].append(relative(subject, root))
            continue
        for task in entries(subject):
            match = _TASK.fullmatch(task.name)
            if match is None or not task.is_dir():
                report.remarks["name_ignored"].append(relative(task, root))
            else:
                add_once(folders, (subject.name, int(match[1])), task)
    return folders


def _label_files(root: Path, report: IntegrityReport) -> dict[Key, Path]:
    files: dict[Key, Path] = {}
    for path in entries(root / OCCURRENCE):
        match = _LABEL_FILE.fullmatch(path.name)
        if match is None:
            report.remarks["name_ignored"].append(relative(path, root))
        else:
            add_once(files, (match[1], int(match[2])), path)
    return files


def _images(folder: Path, root: Path, report: IntegrityReport) -> dict[int, Path]:
    images: dict[int, Path] = {}
    for path in entries(folder):
        match = _IMAGE.fullmatch(path.name)
        if match is None:
            report.remarks["name_ignored"].append(relative(path, root))
        else:
            add_once(images, int(match[1]), path)
    return images


def _read_sequence(
    root: Path,
    key: Key,
    folder: Path | None,
    labels: Path | None,
    levels: dict[int, dict[Key, list[Path]]],
    offset: int,
    report: IntegrityReport,
) -> RawSequence:
    """Reads one sequence and adds it to the report; without a picture folder it has no frame."""
    subject, task = key
    images = _images(folder, root, report) if folder else {}
    codes = _occurrence(labels, root, report) if labels else {}
    coded = sorted(codes)
    from_0 = 0 in codes or 0 in images
    one_off = shift(coded, images) if from_0 and not offset else 0
    if one_off:
        raise UserError(
            f"{labels}: frames {coded[0]} to {coded[-1]}, but the pictures in {folder} are "
            f"{min(images)} to {max(images)}: one of them counts from 0; give "
            f"--frame_offset={-one_off} to pair them, or number them alike"
        )
    occurrence = np.array([codes[n] for n in coded], np.int8).reshape(-1, len(BP4D_AUS))
    intensity = _intensities(root, key, coded, levels, report)
    has_image = [n + offset in images for n in coded]
    place = relative(folder, root) if folder else f"{SEQUENCES}/{subject}/T{task}"
    report.losses["image_missing"] += [
        f"{place}/{n + offset}.jpg" for n, ok in zip(coded, has_image, strict=True) if not ok
    ]
    report.add_sequence(
        subject,
        task,
        coded,
        occurrence,
        intensity,
        images=len(images),
        unlabelled_images=len(images) - sum(has_image),
        padding=_padding([path.stem for path in images.values()]) if images else "",
        labels=relative(labels, root) if labels else "",
    )
    usable = [n for n, ok in zip(coded, has_image, strict=True) if ok]
    return RawSequence(
        subject=subject,
        task=task,
        frames=tuple(usable),
        pictures=ImageFiles(tuple(str(images[n + offset]) for n in usable)),
        occurrence=occurrence[has_image],
        intensity=intensity[has_image],
        sex=SEXES[subject[0]],
    )


def _occurrence(labels: Path, root: Path, report: IntegrityReport) -> dict[int, np.ndarray]:
    """Reads one label file, frame -> int8 [n]; remarks on its header and its unknown codes."""
    columns, codes = read_occurrence(labels, BP4D_AUS)
    _count_columns(columns, labels, root, report)
    unknown = sum((row < 0 for row in codes.values()), np.zeros(len(BP4D_AUS), int))
    report.remarks["label_unknown"] += [
        f"{relative(labels, root)}: AU{au} in {format_count(int(count), 'frame')}"
        for au, count in zip(BP4D_AUS, unknown, strict=True)
        if count
    ]
    return codes


def _count_columns(
    columns: Iterable[int], labels: Path, root: Path, report: IntegrityReport
) -> None:
    """Counts each header; the first file with an unpublished one becomes a remark."""
    header = _ranges(sorted(columns))
    if header not in report.columns and header != BP4D_PUBLISHED.columns:
        where = f"{relative(labels, root)} and others like it: columns {header}"
        report.remarks["columns_unexpected"].append(where)
    report.columns[header] = report.columns.get(header, 0) + 1


def _ranges(numbers: list[int]) -> str:
    """Formats ascending numbers as "0-24,27"."""
    starts = [numbers[0], *(b for a, b in pairwise(numbers) if b != a + 1)]
    ends = [*(a for a, b in pairwise(numbers) if b != a + 1), numbers[-1]]
    pairs = zip(starts, ends, strict=True)
    return ",".join(f"{first}-{last}" if first < last else f"{first}" for first, last in pairs)


def _intensity_files(root: Path, report: IntegrityReport) -> dict[int, dict[Key, list[Path]]]:
    """Unit -> sequence -> its files, one per place; a unit without a folder becomes one remark."""
    found: dict[int, dict[Key, list[Path]]] = {}
    for place in INTENSITY:
        units: dict[int, Path] = {}
        for folder in entries(root / place) if (root / place).is_dir() else ():
            match = _UNIT.fullmatch(folder.name)
            if match is None or int(match[1]) not in INTENSITY_AUS or not folder.is_dir():
                report.remarks["name_ignored"].append(relative(folder, root))
            else:
                add_once(units, int(match[1]), folder)
        for au, folder in units.items():
            for key, path in _level_files(au, folder, root, report).items():
                found.setdefault(au, {}).setdefault(key, []).append(path)
            found.setdefault(au, {})
    for au in INTENSITY_AUS:
        if au not in found:
            where = " and ".join(f"{place}/AU{au:02d}" for place in INTENSITY)
            report.remarks["intensity_missing"].append(f"{where}: no such folder")
    return found


def _level_files(au: int, folder: Path, root: Path, report: IntegrityReport) -> dict[Key, Path]:
    files: dict[Key, Path] = {}
    for path in entries(folder):
        match = _LEVELS.fullmatch(path.name)
        if match is None or int(match[3]) != au:
            report.remarks["name_ignored"].append(relative(path, root))
        else:
            add_once(files, (match[1], int(match[2])), path)
    return files


def _intensities(
    root: Path,
    key: Key,
    coded: list[int],
    files: dict[int, dict[Key, list[Path]]],
    report: IntegrityReport,
) -> np.ndarray:
    """Levels int8 [f, n] of the `coded` frames, -1 without a file or a row."""
    levels = np.full((len(coded), len(BP4D_AUS)), -1, np.int8)
    rows = {frame: i for i, frame in enumerate(coded)}
    for au in (au for au in INTENSITY_AUS if au in files and coded):
        paths = files[au].get(key)
        if not paths:
            missing = f"AU{au:02d} of {key[0]}_T{key[1]}: no file"
            report.remarks["intensity_missing"].append(missing)
            continue
        found = _agreeing_levels(paths)
        if shift(found, coded):
            raise UserError(
                f"{paths[0]}: frames {min(found)} to {max(found)}, but the occurrences are of "
                f"{coded[0]} to {coded[-1]}; expected the same numbers"
            )
        for frame in found.keys() & rows.keys():
            levels[rows[frame], BP4D_AUS.index(au)] = found[frame]
        place = relative(paths[0], root)
        others = found.keys() - rows.keys()
        if others:
            report.remarks["intensity_frame_unlabelled"].append(
                f"{place}: {format_count(len(others), 'frame')}, first {min(others)}, "
                f"last {max(others)}"
            )
        unknown = int((levels[:, BP4D_AUS.index(au)] < 0).sum())
        if unknown:
            absent = len(rows.keys() - found.keys())
            why = f"{absent} have no row, {unknown - absent} are coded as unknown"
            report.remarks["intensity_unknown"].append(
                f"{place}: {unknown} of {len(coded)} frames; {why if found else 'an empty file'}"
            )
    return levels


def _agreeing_levels(paths: list[Path]) -> dict[int, int]:
    """Reads the levels of one sequence and unit, which a tree may hold at both places."""
    levels = read_intensity(paths[0])
    for other in paths[1:]:
        found = read_intensity(other)
        differing = sorted(
            frame for frame in levels.keys() | found.keys() if levels.get(frame) != found.get(frame)
        )
        if differing:
            raise UserError(
                f"{other} and {paths[0]} differ, first in frame {differing[0]}; expected the same "
                "intensities or only one of the files"
            )
    return levels


def _padding(stems: list[str]) -> str:
    """How numbers are written: "none", the padded width, or both kinds."""
    widths = {len(stem) for stem in stems if stem.startswith("0") and len(stem) > 1}
    if not widths:
        return "none"
    lengths = {len(stem) for stem in stems}
    uniform = len(widths) == 1 and min(lengths) == min(widths)
    return str(widths.pop()) if uniform else "mixed"
