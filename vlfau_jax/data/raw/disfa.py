"""Reads a raw DISFA tree: one video and twelve label files a subject, all in task 1.

Layout: `Videos_LeftCamera/LeftVideoSN001_comp.avi` or `Video_RightCamera/RightVideoSN001_comp.avi`,
and `ActionUnit_Labels/SN001/SN001_au1.txt`, whatever the upper and lower case. Label frame 1 is the
video's first frame.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from vlfau_jax.data.raw.disfa_labels import CODED_AUS, read_levels
from vlfau_jax.data.raw.disfa_published import DISFA_PUBLISHED
from vlfau_jax.data.raw.frames import decoded_length, video_length
from vlfau_jax.data.raw.integrity import IntegrityReport
from vlfau_jax.data.raw.label_options import STRICT, LabelOptions
from vlfau_jax.data.raw.listing import (
    SYNTHETIC_MARK,
    add_once,
    entries,
    folder_named,
    raw_folder,
    relative,
)
from vlfau_jax.data.raw.me_graphau import (
    ListLayout,
    index_prepared,
    is_prepared_tree,
    refuse_options,
)
from vlfau_jax.data.raw.places import format_count
from vlfau_jax.data.raw.tree import RawSequence, RawTree, Video, finished_tree
from vlfau_jax.errors import UserError
from vlfau_jax.facs import DISFA_AUS

NAME = "disfa"
CAMERAS = ("left", "right")
LABELS = "ActionUnit_Labels"
TASK = 1

_SUBJECT = re.compile(r"SN(\d{3})", re.ASCII | re.IGNORECASE)
_LABEL_FILE = re.compile(r"SN(\d{3})_AU(\d{1,2})\.txt", re.ASCII | re.IGNORECASE)
_VIDEO = re.compile(r"(left|right)VideoSN(\d{3})_comp\.avi", re.ASCII | re.IGNORECASE)

ME_GRAPHAU = ListLayout(
    dataset=NAME,
    prefix="DISFA",
    aus=CODED_AUS,
    benchmark=DISFA_AUS,
    path=re.compile(
        r"(?:img/)?(?P<subject>SN\d{3})(?P<task>)/(?P<number>\d{1,9})\.(?:jpe?g|png|bmp)",
        re.ASCII,
    ),
    example="SN001/0.png",
    first_frame=1,
    published=DISFA_PUBLISHED,
)


def index_disfa(
    raw_dir: str | Path,
    *,
    camera: str = "left",
    frame_offset: int = 0,
    options: LabelOptions = STRICT,
) -> RawTree:
    """Lists a raw DISFA tree and reads all its labels; no frame is decoded.

    Args:
        raw_dir: the raw tree, or one prepared for ME-GraphAU (see raw/me_graphau.py).
        camera: left or right.
        frame_offset: label frame n is shown by the video's frame n + frame_offset, counted from 1.
        options: none of those about labels.csv.

    Raises:
        UserError: no such folder or camera, a folder of another layout, nothing labelled in it, or
            a label file that cannot be trusted.
    """
    if camera not in CAMERAS:
        raise UserError(f"--camera={camera!r} is unknown; expected one of {', '.join(CAMERAS)}")
    options.refuse_those_of_tables(NAME)
    root = raw_folder(raw_dir, "a raw DISFA tree")
    if is_prepared_tree(root):
        refuse_options(frame_offset=frame_offset, camera=camera, default_camera=CAMERAS[0])
        return index_prepared(root, ME_GRAPHAU)
    labels = folder_named(root, LABELS)
    if labels is None:
        raise UserError(f"--raw_dir={raw_dir} holds no {LABELS}/; expected a raw DISFA tree")
    report = IntegrityReport(
        dataset=NAME,
        raw_dir=str(root),
        synthetic=(root / SYNTHETIC_MARK).is_file(),
        aus=CODED_AUS,
        published=DISFA_PUBLISHED,
    )
    videos = _videos(root, camera, report)
    files = _label_files(labels, root, report)
    for subject in sorted(videos.keys() - files.keys()):
        report.remarks["sequence_without_labels"].append(relative(videos[subject], root))
    for subject in sorted(files.keys() - videos.keys()):
        first = next(iter(files[subject].values()))
        report.remarks["labels_without_sequence"].append(relative(first.parent, root))
    sequences = [
        _read_sequence(
            root,
            subject,
            videos.get(subject) or root / _video_place(subject, camera),
            files.get(subject, {}),
            frame_offset,
            report,
        )
        for subject in sorted(videos.keys() | files.keys())
    ]
    first = min(videos.keys() | files.keys(), default="SN001")
    looked_for = _video_place(first, camera), f"{LABELS}/{first}/{first}_au{CODED_AUS[0]}.txt"
    return finished_tree(
        root,
        sequences,
        report,
        CODED_AUS,
        DISFA_AUS,
        tables=(path for units in files.values() for path in units.values()),
        looked_for=looked_for,
    )


def _video_place(subject: str, camera: str) -> str:
    """Where a subject's video is expected, below the root."""
    side = camera.capitalize()
    return f"Videos_{side}Camera/{side}Video{subject}_comp.avi"


def _videos(root: Path, camera: str, report: IntegrityReport) -> dict[str, Path]:
    """Subject -> video. The folder of either camera may be called `Video_` or `Videos_`."""
    side = camera.capitalize()
    names = (f"Videos_{side}Camera", f"Video_{side}Camera")
    folders = [folder for folder in (folder_named(root, name) for name in names) if folder]
    if not folders:
        raise UserError(f"--raw_dir={root} holds no {names[0]}/; expected a raw DISFA tree")
    videos: dict[str, Path] = {}
    for path in (path for folder in folders for path in entries(folder)):
        match = _VIDEO.fullmatch(path.name)
        if match is None or match[1].lower() != camera:
            report.remarks["name_ignored"].append(relative(path, root))
        else:
            add_once(videos, f"SN{match[2]}", path)
    return videos


def _label_files(labels: Path, root: Path, report: IntegrityReport) -> dict[str, dict[int, Path]]:
    """Subject -> unit -> file, for subjects that have any."""
    folders: dict[str, Path] = {}
    for folder in entries(labels):
        match = _SUBJECT.fullmatch(folder.name)
        if match is None or not folder.is_dir():
            report.remarks["name_ignored"].append(relative(folder, root))
        else:
            add_once(folders, f"SN{match[1]}", folder)
    found: dict[str, dict[int, Path]] = {}
    for subject, folder in folders.items():
        for path in entries(folder):
            match = _LABEL_FILE.fullmatch(path.name)
            if match is None or f"SN{match[1]}" != subject or int(match[2]) not in CODED_AUS:
                report.remarks["name_ignored"].append(relative(path, root))
            else:
                add_once(found.setdefault(subject, {}), int(match[2]), path)
    return found


def _read_sequence(
    root: Path,
    subject: str,
    video: Path,
    files: dict[int, Path],
    offset: int,
    report: IntegrityReport,
) -> RawSequence:
    """Reads one sequence and adds it to the report; without its video it has no frame."""
    intensity = _intensities(root, files, report)
    labelled = len(intensity)
    occurrence = np.full_like(intensity, -1)
    place = relative(video, root)
    there = os.path.lexists(video)
    promised, length, reason = 0, 0, "image_missing"
    try:
        length = promised = video_length(video) if there else 0
        if there and promised < labelled + max(
            0, offset
        ):  # there may be more than the header knows of
            length = max(promised, decoded_length(video))
    except UserError:  # one damaged video must not stop the preparation of the others
        reason = "image_unreadable"
    if there and files and length != labelled:
        report.remarks["video_length_differs"].append(
            f"{place}: {format_count(length, 'frame')}, {labelled} labelled"
        )
    if length != promised:
        report.remarks["video_header_differs"].append(
            f"{place}: {format_count(length, 'frame')} decode, its header promises {promised}"
        )
    positions = [i + offset for i in range(labelled)]
    has_image = [0 <= position < length for position in positions]
    report.losses[reason] += [
        f"{place}#{p}" for p, ok in zip(positions, has_image, strict=True) if not ok
    ]
    report.add_sequence(
        subject,
        TASK,
        range(1, labelled + 1),
        occurrence,
        intensity,
        images=length,
        unlabelled_images=length - sum(has_image),
    )
    usable = [i for i, ok in enumerate(has_image) if ok]
    return RawSequence(
        subject=subject,
        task=TASK,
        frames=tuple(i + 1 for i in usable),
        pictures=Video(str(video), tuple(positions[i] for i in usable)),
        occurrence=occurrence[usable],
        intensity=intensity[usable],
    )


def _intensities(root: Path, files: dict[int, Path], report: IntegrityReport) -> np.ndarray:
    """Levels int8 [f, n], f frames of the longest file; -1 where a unit has no file or no line."""
    columns = {au: read_levels(path) for au, path in files.items()}
    longest = max((len(column) for column in columns.values()), default=0)
    levels = np.full((longest, len(CODED_AUS)), -1, np.int8)
    for i, au in enumerate(CODED_AUS if files else ()):
        if au not in columns:
            folder = next(iter(files.values())).parent
            report.remarks["unit_missing"].append(f"{relative(folder, root)}: no file of AU{au}")
            continue
        levels[: len(columns[au]), i] = columns[au]
        if len(columns[au]) < longest:
            report.remarks["label_length_differs"].append(
                f"{relative(files[au], root)}: {format_count(len(columns[au]), 'line')}; others "
                f"have {longest}"
            )
    return levels
