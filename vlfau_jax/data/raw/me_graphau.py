"""Finds what a tree holds that was prepared for ME-GraphAU, for BP4D or DISFA.

Layout: `img/F001/T1/2440.jpg` or `img/SN001/0.png` (named by the 0-based line of DISFA's labels),
`list/BP4D_train_img_path_fold1.txt` with one path below `img` a line, and
`list/BP4D_train_label_fold1.txt` with the codes 0 and 1 of the benchmark's units, in its order and
separated by spaces, in the same lines; likewise `test`, any fold, and `DISFA`. The lists say
nothing about intensities, nor about DISFA's four other units: these are unknown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vlfau_jax.data.raw.disfa_labels import CODED_AUS
from vlfau_jax.data.raw.integrity import IntegrityReport
from vlfau_jax.data.raw.label_rows import read_rows
from vlfau_jax.data.raw.listing import SYNTHETIC_MARK, entries, once, relative
from vlfau_jax.data.raw.tree import ImageFiles, RawSequence, RawTree, finished_tree
from vlfau_jax.errors import UserError
from vlfau_jax.facs import BP4D_AUS, DISFA_AUS

IMAGES, LISTS = "img", "list"
CODES = {"0": 0, "1": 1}

_WEIGHTS = re.compile(r"(BP4D|DISFA)_(train|test)_weight_fold\d+\.txt", re.ASCII)


@dataclass(frozen=True)
class _Layout:
    """What differs between the two data sets: file names, units, and what a path says."""

    prefix: str
    aus: tuple[int, ...]
    benchmark: tuple[int, ...]
    path: re.Pattern[str]  # groups: folder, subject, task (DISFA has none), number
    example: str
    first: int  # the frame whose picture has the number 0


_LAYOUTS = {
    "bp4d": _Layout(
        prefix="BP4D",
        aus=BP4D_AUS,
        benchmark=BP4D_AUS,
        path=re.compile(
            r"(?:img/)?((?P<subject>[FM]\d{3})/T(?P<task>\d{1,3}))/(?P<number>\d{1,9})"
            r"\.(?:jpe?g|png|bmp)",
            re.ASCII,
        ),
        example="F001/T1/2440.jpg",
        first=0,
    ),
    "disfa": _Layout(
        prefix="DISFA",
        aus=CODED_AUS,
        benchmark=DISFA_AUS,
        path=re.compile(
            r"(?:img/)?((?P<subject>SN\d{3})(?P<task>))/(?P<number>\d{1,9})\.(?:jpe?g|png|bmp)",
            re.ASCII,
        ),
        example="SN001/0.png",
        first=1,
    ),
}


class _Entry(NamedTuple):
    """One line of the lists: the picture's path below `img`, its codes, and where they stand."""

    path: str
    codes: tuple[int, ...]
    place: str


def is_prepared_tree(raw_dir: str | Path) -> bool:
    """Whether a folder has ME-GraphAU's layout."""
    return all(os.path.isdir(Path(raw_dir) / part) for part in (IMAGES, LISTS))


def refuse_options(frame_offset: int, camera: str = "left") -> None:
    """Raises UserError for options that choose pictures: here the lists have chosen them."""
    if frame_offset:
        raise UserError(
            f"--frame_offset={frame_offset} has no place in a tree prepared for ME-GraphAU, whose "
            "lists name each label's picture; expected 0"
        )
    if camera != "left":
        raise UserError(
            f"--camera={camera} has no place in a tree prepared for ME-GraphAU, whose pictures "
            "are there already; expected left"
        )


def index_prepared(raw_dir: str | Path, dataset: str) -> RawTree:
    """Reads all lists of a tree prepared for ME-GraphAU; no image is opened.

    Args:
        raw_dir: the folder that holds `img` and `list`.
        dataset: bp4d or disfa.

    Raises:
        UserError: no list of the data set, a path without labels, a line that cannot be trusted,
            or a picture with other labels in another list.
    """
    root, layout = Path(raw_dir), _LAYOUTS[dataset]
    report = IntegrityReport(
        dataset=dataset,
        raw_dir=str(root),
        synthetic=(root / SYNTHETIC_MARK).is_file(),
        aus=layout.aus,
        layout="me_graphau",
    )
    sequences: dict[tuple[str, int], dict[int, _Entry]] = {}
    for paths, labels in _lists(root, layout, report):
        _read_lists(paths, labels, layout, sequences)
    _unlisted(root, layout, sequences, report)
    read = [_sequence(root, layout, key, sequences[key], report) for key in sorted(sequences)]
    looked_for = f"{IMAGES}/{layout.example}", f"{LISTS}/{layout.prefix}_train_label_fold1.txt"
    return finished_tree(root, read, report, layout.aus, layout.benchmark, looked_for=looked_for)


def _lists(root: Path, layout: _Layout, report: IntegrityReport) -> list[tuple[Path, Path]]:
    """Pairs of a list of paths and a list of labels; what else is there is remarked on."""
    name = re.compile(
        rf"{layout.prefix}_(train|test)_(img_path|label)_fold(\d{{1,2}})\.txt", re.ASCII
    )
    found: dict[tuple[str, int, str], Path] = {}
    for path in entries(root / LISTS):
        match = name.fullmatch(path.name)
        if match:
            once(found, (match[1], int(match[3]), match[2]), path)
        elif not _WEIGHTS.fullmatch(path.name):
            report.remarks["name_ignored"].append(relative(path, root))
    if not found:
        raise UserError(
            f"{root / LISTS} holds no {layout.prefix}_train_img_path_fold1.txt or the like; "
            "expected ME-GraphAU's lists of paths and labels"
        )
    pairs = []
    for part, fold in sorted({(part, fold) for part, fold, _ in found}):
        paths, labels = (found.get((part, fold, kind)) for kind in ("img_path", "label"))
        if paths is None or labels is None:
            raise UserError(
                f"{paths or labels} has no counterpart; expected a list of paths and one of labels"
            )
        pairs.append((paths, labels))
    return pairs


def _read_lists(
    paths: Path,
    labels: Path,
    layout: _Layout,
    sequences: dict[tuple[str, int], dict[int, _Entry]],
) -> None:
    """Adds the lines of one pair of lists to `sequences`, (subject, task) -> frame -> entry."""
    names, rows = _lines(paths), _lines(labels)
    if len(names) != len(rows):
        raise UserError(
            f"{paths} has {len(names)} lines and {labels.name} has {len(rows)}; expected as many "
            "labels as paths"
        )
    parsed: dict[str, tuple[int, ...]] = {}  # few of the many lines differ
    for (line, name), (_, row) in zip(names, rows, strict=True):
        match = layout.path.fullmatch(name)
        if match is None:
            raise UserError(
                f"{paths}:{line}: {name[:60]!r} is no path of this data set; expected one like "
                f"{layout.example}"
            )
        if row not in parsed:
            parsed[row] = _codes(labels, line, row, layout)
        entry = _Entry(name.removeprefix(f"{IMAGES}/"), parsed[row], f"{labels}:{line}")
        key = match["subject"], int(match["task"] or 1)
        frame = int(match["number"]) + layout.first
        known = sequences.setdefault(key, {}).setdefault(frame, entry)
        if known.path != entry.path:
            raise UserError(
                f"{paths}:{line}: {entry.path} and {known.path} are the same frame; expected only "
                "one of them"
            )
        if known.codes != entry.codes:
            raise UserError(
                f"{known.place} and {entry.place} label {entry.path} differently; expected the "
                "same codes"
            )


def _lines(path: Path) -> list[tuple[int, str]]:
    """All lines with their numbers; no good path or code has a comma."""
    return [(line, ",".join(row)) for line, row in read_rows(path)]


def _codes(labels: Path, line: int, row: str, layout: _Layout) -> tuple[int, ...]:
    cells = row.split()
    if len(cells) != len(layout.benchmark):
        raise UserError(
            f"{labels}:{line}: {len(cells)} codes; expected {len(layout.benchmark)}, one for each "
            f"of AU {', '.join(map(str, layout.benchmark))}"
        )
    for au, cell in zip(layout.benchmark, cells, strict=True):
        if cell not in CODES:
            raise UserError(f"{labels}:{line}: AU {au} is {cell[:40]!r}; expected 0 or 1")
    return tuple(CODES[cell] for cell in cells)


def _sequence(
    root: Path,
    layout: _Layout,
    key: tuple[str, int],
    listed: dict[int, _Entry],
    report: IntegrityReport,
) -> RawSequence:
    subject, task = key
    coded = sorted(listed)
    codes = np.array([listed[n].codes for n in coded], np.int8)
    occurrence = np.full((len(coded), len(layout.aus)), -1, np.int8)
    occurrence[:, [layout.aus.index(au) for au in layout.benchmark]] = codes
    intensity = np.full_like(occurrence, -1)
    paths = [f"{IMAGES}/{listed[n].path}" for n in coded]
    folders = {path.rpartition("/")[0] for path in paths}
    there = set().union(*(_pictures(root, folder, layout, report) for folder in sorted(folders)))
    shown = [path in there for path in paths]
    report.losses["image_missing"] += [p for p, ok in zip(paths, shown, strict=True) if not ok]
    report.add_sequence(
        subject,
        task,
        coded,
        occurrence,
        intensity,
        images=len(there),
        unlabelled_images=len(there - set(paths)),
        labels=f"{LISTS}: {subject} T{task}",
    )
    usable = [i for i, ok in enumerate(shown) if ok]
    return RawSequence(
        subject=subject,
        task=task,
        frames=tuple(coded[i] for i in usable),
        pictures=ImageFiles(tuple(str(root / paths[i]) for i in usable)),
        occurrence=occurrence[usable],
        intensity=intensity[usable],
        sex={"F": "female", "M": "male"}.get(subject[0], ""),
    )


def _pictures(root: Path, folder: str, layout: _Layout, report: IntegrityReport) -> set[str]:
    """The pictures that a folder holds, as paths below the root; none if there is no such."""
    found = entries(root / folder) if os.path.isdir(root / folder) else []
    pictures = set()
    for entry in found:
        if layout.path.fullmatch(f"{folder}/{entry.name}"):
            pictures.add(f"{folder}/{entry.name}")
        else:
            report.remarks["name_ignored"].append(relative(entry, root))
    return pictures


def _unlisted(
    root: Path, layout: _Layout, listed: Collection[tuple[str, int]], report: IntegrityReport
) -> None:
    """Notes the sequences that have pictures, but no line in any list."""
    depth = layout.example.count("/")
    folders = [IMAGES]
    for _ in range(depth):
        folders = [
            f"{folder}/{entry.name}"
            for folder in folders
            for entry in entries(root / folder)
            if os.path.isdir(entry)
        ]
    none = np.zeros((0, len(layout.aus)), np.int8)
    for folder in folders:
        match = layout.path.fullmatch(f"{folder}/0.png")
        key = (match["subject"], int(match["task"] or 1)) if match else None
        if key is not None and key not in listed:
            images = len(_pictures(root, folder, layout, report))
            report.remarks["sequence_without_labels"].append(folder)
            report.add_sequence(*key, (), none, none, images=images, unlabelled_images=images)
