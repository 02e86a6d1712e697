"""Reads a tree that was prepared for ME-GraphAU, of BP4D or DISFA.

Layout: `img/F001/T1/2440.jpg` or `img/SN001/0.png` (named by the 0-based line of DISFA's labels),
`list/BP4D_train_img_path_fold1.txt` with one path below `img` a line, and
`list/BP4D_train_label_fold1.txt` with the codes 0 and 1 of the benchmark's units, in its order and
separated by spaces, in the same lines; likewise `test`, any fold, and `DISFA`. The lists hold no
intensities, and nothing about DISFA's four other units: these are unknown.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vlfau_jax.data.raw.integrity import IntegrityReport
from vlfau_jax.data.raw.label_rows import read_rows
from vlfau_jax.data.raw.list_folds import differences, usable_folds
from vlfau_jax.data.raw.listing import SYNTHETIC_MARK, add_once, entries, relative
from vlfau_jax.data.raw.published import Published
from vlfau_jax.data.raw.tree import ImageFiles, RawSequence, RawTree, finished_tree
from vlfau_jax.errors import UserError

IMAGES, LISTS = "img", "list"
CODES = {"0": 0, "1": 1}

_WEIGHTS = re.compile(r"[A-Z\d]+_(train|test)_weight_fold\d+\.txt", re.ASCII)


@dataclass(frozen=True)
class ListLayout:
    """One data set in this layout.

    Attributes:
        dataset: the data set's name, see data/sets.py.
        prefix: with what the names of its lists begin.
        aus: the n units of a label vector.
        benchmark: those of `aus` that the lists code, in their order.
        path: a path in the lists; its groups are subject, task (may be empty: 1) and number.
        example: such a path, for messages.
        first_frame: the frame whose picture has the number 0.
        published: what is published about the data set.
        sexes: first letter of a subject -> "female" or "male".
    """

    dataset: str
    prefix: str
    aus: tuple[int, ...]
    benchmark: tuple[int, ...]
    path: re.Pattern[str]
    example: str
    first_frame: int
    published: Published
    sexes: Mapping[str, str] = field(default_factory=dict)


class _Entry(NamedTuple):
    """One line of the lists: the picture's path below `img`, its codes, and their file and line."""

    path: str
    codes: tuple[int, ...]
    place: str


def is_prepared_tree(raw_dir: str | Path) -> bool:
    """Whether a folder has ME-GraphAU's layout."""
    return all(os.path.isdir(Path(raw_dir) / part) for part in (IMAGES, LISTS))


def refuse_options(*, frame_offset: int, camera: str = "", default_camera: str = "") -> None:
    """Raises UserError for options that choose pictures, because the lists name the pictures."""
    if frame_offset:
        raise UserError(
            f"--frame_offset={frame_offset} has no place in a tree prepared for ME-GraphAU, whose "
            "lists name each label's picture; expected 0"
        )
    if camera != default_camera:
        raise UserError(
            f"--camera={camera} has no place in a tree prepared for ME-GraphAU, whose pictures "
            f"are there already; expected {default_camera}"
        )


def index_prepared(raw_dir: str | Path, layout: ListLayout) -> RawTree:
    """Reads all lists of a tree prepared for ME-GraphAU; no image is opened.

    Args:
        raw_dir: the folder that holds `img` and `list`.
        layout: what the lists are called and hold.

    Raises:
        UserError: no list of the data set, a path without labels, a line that cannot be trusted,
            or a picture with other labels in another list.
    """
    root = Path(raw_dir)
    report = IntegrityReport(
        dataset=layout.dataset,
        raw_dir=str(root),
        synthetic=(root / SYNTHETIC_MARK).is_file(),
        aus=layout.aus,
        layout="me_graphau",
        published=layout.published,
    )
    sequences: dict[tuple[str, int], dict[int, _Entry]] = {}
    listed: dict[tuple[int, str], set[str]] = {}
    lists = _lists(root, layout, report)
    for (part, fold), (paths, labels) in lists.items():
        listed[fold, part] = _read_lists(paths, labels, layout, sequences)
    folds, report.remarks["folds_unusable"] = usable_folds(listed)
    subjects = sorted({subject for subject, _ in sequences})
    report.remarks["folds_differ"] += [
        text for _, text in differences(layout.published, folds, subjects)
    ]
    _unlisted(root, layout, sequences, report)
    read = [_sequence(root, layout, key, sequences[key], report) for key in sorted(sequences)]
    looked_for = f"{IMAGES}/{layout.example}", f"{LISTS}/{layout.prefix}_train_label_fold1.txt"
    return finished_tree(
        root,
        read,
        report,
        layout.aus,
        layout.benchmark,
        list_folds=folds,
        tables=chain.from_iterable(lists.values()),
        looked_for=looked_for,
    )


def _lists(
    root: Path, layout: ListLayout, report: IntegrityReport
) -> dict[tuple[str, int], tuple[Path, Path]]:
    """(Part, fold) -> a list of paths and a list of labels; other files become remarks."""
    name = re.compile(
        rf"{layout.prefix}_(train|test)_(img_path|label)_fold(\d{{1,2}})\.txt", re.ASCII
    )
    found: dict[tuple[str, int, str], Path] = {}
    for path in entries(root / LISTS):
        match = name.fullmatch(path.name)
        if match:
            add_once(found, (match[1], int(match[3]), match[2]), path)
        elif not _WEIGHTS.fullmatch(path.name):
            report.remarks["name_ignored"].append(relative(path, root))
    if not found:
        raise UserError(
            f"{root / LISTS} holds no {layout.prefix}_train_img_path_fold1.txt or the like; "
            "expected ME-GraphAU's lists of paths and labels"
        )
    pairs = {}
    for part, fold in sorted({(part, fold) for part, fold, _ in found}):
        paths, labels = (found.get((part, fold, kind)) for kind in ("img_path", "label"))
        if paths is None or labels is None:
            raise UserError(
                f"{paths or labels} has no counterpart; expected a list of paths and one of labels"
            )
        pairs[part, fold] = paths, labels
    return pairs


def _read_lists(
    paths: Path,
    labels: Path,
    layout: ListLayout,
    sequences: dict[tuple[str, int], dict[int, _Entry]],
) -> set[str]:
    """Adds one pair of lists to `sequences`, (subject, task) -> frame -> entry.

    Returns:
        The subjects in it.
    """
    subjects: set[str] = set()
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
        key = sys.intern(match["subject"]), int(match["task"] or 1)
        subjects.add(key[0])
        frame = int(match["number"]) + layout.first_frame
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
    return subjects


def _lines(path: Path) -> list[tuple[int, str]]:
    """Reads all lines with their numbers; no valid path or code has a comma."""
    return [(line, sys.intern(",".join(row))) for line, row in read_rows(path)]


def _codes(labels: Path, line: int, row: str, layout: ListLayout) -> tuple[int, ...]:
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
    layout: ListLayout,
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
    found = [path in there for path in paths]
    report.losses["image_missing"] += [p for p, ok in zip(paths, found, strict=True) if not ok]
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
    usable = [i for i, ok in enumerate(found) if ok]
    return RawSequence(
        subject=subject,
        task=task,
        frames=tuple(coded[i] for i in usable),
        pictures=ImageFiles(tuple(str(root / paths[i]) for i in usable)),
        occurrence=occurrence[usable],
        intensity=intensity[usable],
        sex=layout.sexes.get(subject[0], ""),
    )


def _pictures(root: Path, folder: str, layout: ListLayout, report: IntegrityReport) -> set[str]:
    """The pictures in a folder, as paths below the root; none if there is no such folder."""
    found = entries(root / folder) if os.path.isdir(root / folder) else []
    pictures = set()
    for entry in found:
        if layout.path.fullmatch(f"{folder}/{entry.name}"):
            pictures.add(f"{folder}/{entry.name}")
        else:
            report.remarks["name_ignored"].append(relative(entry, root))
    return pictures


def _unlisted(
    root: Path, layout: ListLayout, listed: Collection[tuple[str, int]], report: IntegrityReport
) -> None:
    """Adds the sequences that have pictures but no line in any list to the report."""
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
