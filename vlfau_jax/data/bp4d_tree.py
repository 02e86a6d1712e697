"""Finds what a raw BP4D tree holds: lists folders, parses numbers, formats no name.

Layout: `Sequences(2D+3D)/F001/T1/2440.jpg`, `AUCoding/AU_OCC/F001_T1.csv`, and intensities in
`AU Intensity Codes3.0/AU06/F001_T1_AU06.csv` or `AUCoding/AU_INT/AU06/F001_T1_AU06.csv`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from vlfau_jax.data.bp4d_labels import read_intensity, read_occurrence
from vlfau_jax.data.folds import PARTS
from vlfau_jax.data.integrity import IntegrityReport, SequenceFacts
from vlfau_jax.errors import UserError
from vlfau_jax.facs import BP4D_AUS

SEQUENCES = "Sequences(2D+3D)"
OCCURRENCE = "AUCoding/AU_OCC"
INTENSITY = ("AU Intensity Codes3.0", "AUCoding/AU_INT")
INTENSITY_AUS = (6, 10, 12, 14, 17)
SYNTHETIC_MARK = "SYNTHETIC.json"  # our own renderer leaves it in the trees it writes

_SUBJECT = re.compile(r"[FM]\d{3}")
_TASK = re.compile(r"T(\d{1,3})")
_LABELS = re.compile(r"([FM]\d{3})_T(\d{1,3})\.csv")
_IMAGE = re.compile(r"(\d{1,9})\.jpe?g", re.IGNORECASE)


@dataclass(frozen=True)
class RawSequence:
    """Labelled frames of one sequence that have an image: f frames, n action units."""

    subject: str
    task: int
    frames: tuple[int, ...]
    paths: tuple[str, ...]
    occurrence: np.ndarray  # int8 [f, n], 1, 0 or -1
    intensity: np.ndarray  # int8 [f, n], 0 to 5 or -1


@dataclass(frozen=True)
class RawTree:
    """All usable sequences, by subject and task, and the report that `prepare` completes."""

    root: Path
    sequences: tuple[RawSequence, ...]
    report: IntegrityReport


def index_tree(raw_dir: str | Path) -> RawTree:
    """Lists a raw BP4D tree and reads all its labels; no image is opened.

    Raises:
        UserError: no such folder, a folder of another layout, nothing labelled in it, or a label
            file that cannot be trusted.
    """
    root = Path(raw_dir)
    if not root.is_dir():
        raise UserError(f"--raw_dir={raw_dir} is not a folder; expected a raw BP4D tree")
    for part in (SEQUENCES, OCCURRENCE):
        if not (root / part).is_dir():
            raise UserError(f"--raw_dir={raw_dir} holds no {part}/; expected a raw BP4D tree")
    report = IntegrityReport(
        dataset="bp4d",
        raw_dir=str(root),
        synthetic=(root / SYNTHETIC_MARK).is_file(),
        aus=BP4D_AUS,
    )
    folders = _sequence_folders(root, report)
    label_files = _label_files(root, report)
    for key in sorted(folders.keys() - label_files.keys()):
        report.remarks["sequence_without_labels"].append(_relative(folders[key], root))
    for key in sorted(label_files.keys() - folders.keys()):
        report.remarks["labels_without_sequence"].append(_relative(label_files[key], root))
    levels = _intensity_folders(root, report)
    sequences = [
        _read_sequence(root, key, folders[key], label_files[key], levels, report)
        for key in sorted(folders.keys() & label_files.keys())
    ]
    sequences = [sequence for sequence in sequences if sequence.frames]
    if not sequences:
        raise UserError(f"--raw_dir={raw_dir} holds no frame with both an image and a label")
    labelled = {facts.subject for facts in report.sequences}
    usable = {sequence.subject for sequence in sequences}
    report.remarks["subject_unusable"] += sorted(labelled - usable)
    _compare_subjects(labelled, report)
    return RawTree(root, tuple(sequences), report)


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _entries(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _sequence_folders(root: Path, report: IntegrityReport) -> dict[tuple[str, int], Path]:
    folders: dict[tuple[str, int], Path] = {}
    for subject in _entries(root / SEQUENCES):
        if not (subject.is_dir() and _SUBJECT.fullmatch(subject.name)):
            report.remarks["name_ignored"].append(_relative(subject, root))
            continue
        for task in _entries(subject):
            match = _TASK.fullmatch(task.name)
            if match is None or not task.is_dir():
                report.remarks["name_ignored"].append(_relative(task, root))
            else:
                _once(folders, (subject.name, int(match[1])), task)
    return folders


def _label_files(root: Path, report: IntegrityReport) -> dict[tuple[str, int], Path]:
    files: dict[tuple[str, int], Path] = {}
    for path in _entries(root / OCCURRENCE):
        match = _LABELS.fullmatch(path.name)
        if match is None:
            report.remarks["name_ignored"].append(_relative(path, root))
        else:
            _once(files, (match[1], int(match[2])), path)
    return files


def _once(found: dict, key: object, path: Path) -> None:
    """Two names for one thing (1.jpg and 0001.jpg, T1 and T01) leave open which one is labelled."""
    if key in found:
        raise UserError(f"{path} and {found[key].name} have the same number; expected only one")
    found[key] = path


def _images(folder: Path, root: Path, report: IntegrityReport) -> dict[int, Path]:
    images: dict[int, Path] = {}
    for path in _entries(folder):
        match = _IMAGE.fullmatch(path.name)
        if match is None:
            report.remarks["name_ignored"].append(_relative(path, root))
        else:
            _once(images, int(match[1]), path)
    return images


def _read_sequence(
    root: Path,
    key: tuple[str, int],
    folder: Path,
    labels: Path,
    levels: dict[int, list[Path]],
    report: IntegrityReport,
) -> RawSequence:
    subject, task = key
    images = _images(folder, root, report)
    occurrence = read_occurrence(labels, BP4D_AUS)
    intensity = _intensities(root, f"{subject}_{folder.name}", occurrence, levels, report)
    coded = sorted(occurrence)
    place = _relative(folder, root)
    report.losses["image_missing"] += [f"{place}/{n}.jpg" for n in coded if n not in images]
    report.remarks["gap"] += [
        f"{_relative(labels, root)}: {first} to {last}" for first, last in _gaps(coded)
    ]
    usable = [n for n in coded if n in images]
    report.sequences.append(
        SequenceFacts(
            subject=subject,
            task=task,
            images=len(images),
            labelled=len(coded),
            first_frame=coded[0] if coded else -1,
            last_frame=coded[-1] if coded else -1,
            unlabelled_images=len(images.keys() - occurrence.keys()),
            padding=_padding([path.stem for path in images.values()]),
            unknown_labels=sum(int((codes < 0).sum()) for codes in occurrence.values()),
        )
    )
    n = len(BP4D_AUS)
    return RawSequence(
        subject=subject,
        task=task,
        frames=tuple(usable),
        paths=tuple(str(images[frame]) for frame in usable),
        occurrence=np.array([occurrence[f] for f in usable], np.int8).reshape(-1, n),
        intensity=np.array([intensity[f] for f in usable], np.int8).reshape(-1, n),
    )


def _intensity_folders(root: Path, report: IntegrityReport) -> dict[int, list[Path]]:
    """Per unit the folders of its intensity files; a unit without one is remarked on once."""
    found: dict[int, list[Path]] = {}
    for au in INTENSITY_AUS:
        places = [root / folder / f"AU{au:02d}" for folder in INTENSITY]
        found[au] = [place for place in places if place.is_dir()]
        if not found[au]:
            where = " and ".join(_relative(place, root) for place in places)
            report.remarks["intensity_missing"].append(f"{where}: no such folder")
    return found


def _intensities(
    root: Path,
    sequence: str,
    occurrence: dict[int, np.ndarray],
    places: dict[int, list[Path]],
    report: IntegrityReport,
) -> dict[int, np.ndarray]:
    """Levels int8 [n] of every labelled frame, -1 where no file or no row says any."""
    levels = {frame: np.full(len(BP4D_AUS), -1, np.int8) for frame in occurrence}
    for au, folders in places.items():
        paths = [folder / f"{sequence}_AU{au:02d}.csv" for folder in folders]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            report.remarks["intensity_missing"] += [_relative(path, root) for path in paths[:1]]
            continue
        for frame, level in read_intensity(path).items():
            if frame in levels:
                levels[frame][BP4D_AUS.index(au)] = level
            else:
                where = f"{_relative(path, root)}: frame {frame}"
                report.remarks["intensity_frame_unlabelled"].append(where)
    return levels


def _gaps(coded: list[int]) -> Iterator[tuple[int, int]]:
    for before, after in pairwise(coded):
        if after > before + 1:
            yield before + 1, after - 1


def _padding(stems: list[str]) -> str:
    """How numbers are written: "none", the padded width, or both kinds."""
    widths = {len(stem) for stem in stems if stem.startswith("0") and len(stem) > 1}
    if not widths:
        return "none"
    lengths = {len(stem) for stem in stems}
    uniform = len(widths) == 1 and min(lengths) == min(widths)
    return str(widths.pop()) if uniform else "mixed"


def _compare_subjects(found: set[str], report: IntegrityReport) -> None:
    published = {subject for part in PARTS["bp4d"] for subject in part}
    report.remarks["subject_unexpected"] += sorted(found - published)
    report.remarks["subject_missing"] += sorted(published - found)
