"""The types of raw data: what the reader of every layout returns to the builders."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vlfau_jax.data.raw.comparison import compare
from vlfau_jax.data.raw.integrity import IntegrityReport
from vlfau_jax.data.raw.list_folds import Sides
from vlfau_jax.data.raw.places import group_by_ending
from vlfau_jax.errors import UserError


@dataclass(frozen=True)
class ImageFiles:
    """One picture file per frame."""

    paths: tuple[str, ...]


@dataclass(frozen=True)
class Video:
    """Frames of one video file: `positions` are 0-based and ascending."""

    path: str
    positions: tuple[int, ...]


@dataclass(frozen=True)
class RawSequence:
    """The labelled frames of one sequence that have a picture: f frames, n action units.

    Attributes:
        subject: whose face.
        task: the sequence's number within the subject.
        frames: the labels' frame numbers, ascending.
        pictures: where the frames' pictures are, in the same order.
        occurrence: int8 [f, n], 1, 0 or -1 where unknown or not coded.
        intensity: int8 [f, n], 0 to 5 or -1 where unknown or not coded.
        sex: "female", "male", or "" if the data set does not state it.
        recording: whether the pictures follow each other in time. If not, they are unrelated
            stills, and no picture's crop may depend on its neighbours.
    """

    subject: str
    task: int
    frames: tuple[int, ...]
    pictures: ImageFiles | Video
    occurrence: np.ndarray
    intensity: np.ndarray
    sex: str = ""
    recording: bool = True

    @property
    def name(self) -> str:
        """Subject and task, as BP4D names its files: `F001_T1`."""
        return f"{self.subject}_T{self.task}"


@dataclass(frozen=True)
class RawTree:
    """All usable sequences of a raw tree, and the report that `prepare` completes.

    Attributes:
        root: the raw tree's folder.
        sequences: sorted by (subject, task); each has at least one frame.
        report: what was found so far.
        aus: the n units of every label vector.
        benchmark: those of `aus` that the field scores; what an experiment learns by default.
        folds: subject -> the fold that tests them, where the layout states it (`folder`).
        list_folds: fold -> who trains and who is tested, where lists state it (ME-GraphAU's).
        tables: the label files that were read.
    """

    root: Path
    sequences: tuple[RawSequence, ...]
    report: IntegrityReport
    aus: tuple[int, ...]
    benchmark: tuple[int, ...]
    folds: dict[str, int] = field(default_factory=dict)
    list_folds: dict[int, Sides] = field(default_factory=dict)
    tables: frozenset[str] = frozenset()


def finished_tree(
    root: Path,
    sequences: Iterable[RawSequence],
    report: IntegrityReport,
    aus: tuple[int, ...],
    benchmark: tuple[int, ...],
    folds: dict[str, int] | None = None,
    list_folds: dict[int, Sides] | None = None,
    *,
    tables: Iterable[Path],
    looked_for: tuple[str, str],
) -> RawTree:
    """Builds a tree of the sequences that have a frame, and compares its report with the published.

    `tables` are the label files that were read; `looked_for` is where the first image and the first
    labels should be, below the root.

    Raises:
        UserError: not one frame has both a picture and a label.
    """
    usable = sorted((s for s in sequences if s.frames), key=lambda s: (s.subject, s.task))
    if not usable:
        image, labels = looked_for
        missing = report.losses["image_missing"] + report.losses["image_unreadable"]
        parts = [
            f"--raw_dir={root} holds no frame with both an image and a label",
            f"looked first for the image {(missing or [image])[0]} and the labels {labels}",
            *report.remarks["name_differs"][:1],
        ]
        raise UserError("; ".join(parts))
    report.sequences.sort(key=lambda facts: (facts.subject, facts.task))
    with_frames = {sequence.subject for sequence in usable}
    report.remarks["subject_unusable"] += sorted(report.labelled.keys() - with_frames)
    report.remarks["name_ignored"] = group_by_ending(report.remarks["name_ignored"])
    # Each begins with its number of frames; the largest comes first.
    report.remarks["contradiction"].sort(key=lambda remark: -int(remark.split()[0]))
    compare(report)
    return RawTree(
        root,
        tuple(usable),
        report,
        aus,
        benchmark,
        folds or {},
        list_folds or {},
        frozenset(map(str, tables)),
    )
