"""The integrity report: what a raw tree holds, which frames were dropped, and why.

It is kept beside every prepared set. See raw/comparison.py for how a tree is compared with what is
published, and raw/integrity_text.py for the files integrity.json and integrity.txt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from vlfau_jax.data.raw.codes import decide, excluded, units_with_occurrence
from vlfau_jax.data.raw.label_counts import LabelCounts
from vlfau_jax.data.raw.published import UNPUBLISHED, Published
from vlfau_jax.data.raw.subject_names import check_similar

# Why a labelled frame is not in the prepared set. Anything that could corrupt a label is a
# UserError instead.
DROP_REASONS = {
    "image_missing": "labelled frames without an image",
    "image_unreadable": "images that end early or cannot be decoded",
    "image_incomplete": "JPEG images that end well and have lost part of their scan data",
    "image_too_large": "images of more bytes, pixels or scans than are read",
    "no_face": "images in which the crop rule found no face",
    "not_in_table": "pictures without a row in the crop rule's table",
}
# What drops no frame, but may interest a reader.
REMARKS = {
    "sequence_without_labels": "sequences without a label file",
    "labels_without_sequence": "label files without images or a video",
    "subject_unexpected": "subjects that the published data set does not have",
    "subject_missing": "subjects of the published data set that are not here",
    "sequence_missing": "sequences of the published data set that are not here, subjects who are",
    "subject_unusable": "subjects left out, because no labelled frame of theirs is usable",
    "subject_similar": "subjects whose names differ in spelling only, accepted as different people",
    "picture_shared": "people under whom the same files stand: one person twice, or a wrong label",
    "folds_differ": "folds of the lists that are not the published ones (data.folds chooses)",
    "folds_unusable": "folds of the lists that cannot be used as data.folds=lists",
    "crop_table": "tables of landmarks or boxes: rows and frames without a counterpart",
    "columns_unread": "columns of labels.csv that are not read as labels",
    "columns_unexpected": "headers with other columns than the published ones",
    "gap": "gaps inside a coded run",
    "name_ignored": "names, or kinds of them, that are no subject, task, label file or picture",
    "name_differs": "pictures whose files are spelt in another way than the table spells them",
    "label_unknown": "units that a label file codes as unknown in some frames",
    "unit_missing": "absent label files: their unit is unknown for that subject",
    "label_length_differs": "label files shorter than others of their subject: the rest is unknown",
    "video_length_differs": "videos longer or shorter than their labels: paired from the start",
    "video_header_differs": "videos with more frames than their headers promise; all are read",
    "intensity_missing": "absent intensity files: their levels are unknown",
    "intensity_unknown": "intensity files that leave coded frames without a level",
    "intensity_frame_unlabelled": "intensity files with rows for frames without occurrence labels",
    "contradiction": "occurrence against intensity; in many frames: a shifted or swapped file",
}


@dataclass
class SequenceFacts:
    """One sequence as found in the raw tree.

    Attributes:
        subject: whose face.
        task: the sequence's number.
        images: pictures, or frames that the video's header promises.
        labelled: frames that have a label.
        first_frame: the first of them, -1 without any.
        last_frame: the last of them.
        published: first and last coded frame as published, "2440-2992"; "" if none are.
        unlabelled_images: images without a label.
        padding: how numbers are written: "none", the padded width, "mixed", or "" for a video.
        unknown_labels: labels of labelled frames that are unknown.
        excluded: labelled frames in stretches that the field leaves out when it scores.
        written: frames in the prepared set; the builder counts them.
    """

    subject: str
    task: int
    images: int
    labelled: int
    first_frame: int
    last_frame: int
    published: str
    unlabelled_images: int
    padding: str
    unknown_labels: int
    excluded: int
    written: int = 0

    @property
    def run(self) -> str:
        """First and last labelled frame as `published` writes them."""
        return f"{self.first_frame}-{self.last_frame}"


@dataclass
class Comparison:
    """One published fact and what the raw tree has in its place.

    Attributes:
        what: the fact.
        found: what the raw tree has.
        published: what it should be.
        agrees: whether they are the same.
        telling: whether integrity.txt lists the fact even if they are.
    """

    what: str
    found: Any
    published: Any
    agrees: bool
    telling: bool = False


@dataclass
class IntegrityReport:
    """Everything `prepare` reports about a raw tree; `losses` and `remarks` list places by kind.

    A tree reader makes it, adds every sequence and compares with what is published. The builder
    completes it, in the order of `sequences`: it sets `crop`; appends the source of every frame
    that is dropped to `losses[reason]`; counts the frames it writes in the sequence's `written`;
    counts their labels in `subjects[name]`, a `LabelCounts` for every subject that is written;
    lists in `remarks["subject_unusable"]` the subjects without a written frame; and adds up
    `aligned_by`.

    Attributes:
        dataset: the data set's name, see data/sets.py.
        raw_dir: the raw tree.
        synthetic: whether our own renderer wrote it.
        aus: the n units of every label vector.
        layout: raw, me_graphau or folder.
        crop: the crop rule, described.
        sequences: sorted by subject and task.
        losses: key of `DROP_REASONS` -> places.
        remarks: key of `REMARKS` -> places.
        label_columns: AU12 or AU12_intensity -> the column of labels.csv that it was read from.
        columns: header of an occurrence file, such as "0-39" -> number of files that have it.
        comparisons: found against published.
        labelled: subject -> the labels of all labelled frames of the raw tree.
        subjects: subject -> the labels of the frames in the prepared set.
        files: how many files the tree holds, were read, or passed over, see file_account.py.
        shared_pictures: files that stand under several people.
        aligned_by: "eyes", "neighbours", "box" or "none" -> number of crops, see crop.Crop.
        published: what is published about the data set; not part of the JSON.
    """

    dataset: str
    raw_dir: str
    synthetic: bool
    aus: tuple[int, ...]
    layout: str = "raw"
    crop: dict[str, Any] = field(default_factory=dict)
    sequences: list[SequenceFacts] = field(default_factory=list)
    losses: dict[str, list[str]] = field(
        default_factory=lambda: {kind: [] for kind in DROP_REASONS}
    )
    remarks: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in REMARKS})
    label_columns: dict[str, str] = field(default_factory=dict)
    columns: dict[str, int] = field(default_factory=dict)
    comparisons: list[Comparison] = field(default_factory=list)
    labelled: dict[str, LabelCounts] = field(default_factory=dict)
    subjects: dict[str, LabelCounts] = field(default_factory=dict)
    aligned_by: dict[str, int] = field(default_factory=dict)
    files: dict[str, Any] = field(default_factory=dict)
    shared_pictures: int = 0
    published: Published = UNPUBLISHED

    def add_sequence(
        self,
        subject: str,
        task: int,
        frames: Sequence[int],
        occurrence: np.ndarray,
        intensity: np.ndarray,
        *,
        images: int,
        unlabelled_images: int,
        padding: str = "",
        labels: str = "",
    ) -> None:
        """Adds one sequence with all its labelled frames, whether they have a picture or not.

        Every sequence of which the tree has labels or pictures is added.

        Args:
            subject: whose face.
            task: the sequence's number.
            frames: the f labelled frames, ascending.
            occurrence: int8 [f, n], 1, 0 or -1.
            intensity: int8 [f, n], 0 to 5 or -1.
            images: see `SequenceFacts`.
            unlabelled_images: see `SequenceFacts`.
            padding: see `SequenceFacts`.
            labels: where the labels are, if they should be one run: its gaps become remarks.
        """
        run = self.published.runs.get((subject, task))
        by_occurrence = units_with_occurrence(occurrence, self.published.codes_occurrence)
        _, known = decide(occurrence, intensity, by_occurrence, self.published.threshold)
        index = np.zeros(len(frames), np.int64)  # one subject
        left_out = excluded(self.published.excluded, (subject,), index, np.array(frames, np.int64))
        self.sequences.append(
            SequenceFacts(
                subject=subject,
                task=task,
                images=images,
                labelled=len(frames),
                first_frame=frames[0] if frames else -1,
                last_frame=frames[-1] if frames else -1,
                published="{}-{}".format(*run) if run else "",
                unlabelled_images=unlabelled_images,
                padding=padding,
                unknown_labels=int((~known).sum()),
                excluded=int(left_out.sum()),
            )
        )
        counts = self.labelled.setdefault(subject, LabelCounts.zero(len(self.aus)))
        counts.count(occurrence, intensity)
        if labels:
            self.remarks["gap"] += [f"{labels}: {first} to {last}" for first, last in gaps(frames)]

        codes = np.stack([occurrence, intensity])
        self.remarks["contradiction"] += [
            remark
            for i, au in enumerate(self.aus)
            if (remark := _contradictions(f"AU{au} of {subject}_T{task}", codes[:, :, i]))
        ]

    def remark_similar(self, places: Mapping[str, str], *, accept: bool) -> None:
        """Adds the subjects who may be one person; `places` is where each subject stands first.

        Raises:
            UserError: there are some, and they are not accepted as different people.
        """
        self.remarks["subject_similar"] += [
            " and ".join(group) for group in check_similar(places, places, accept=accept)
        ]

    @property
    def written(self) -> int:
        """Frames in the prepared set."""
        return sum(sequence.written for sequence in self.sequences)

    @property
    def lost(self) -> int:
        """Labelled frames that are not in the prepared set."""
        return sum(len(places) for places in self.losses.values())

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        values = asdict(self)
        del values["published"]
        labelled = sum(sequence.labelled for sequence in self.sequences)
        return {"labelled_frames": labelled, "written": self.written, "lost": self.lost, **values}


def _contradictions(what: str, codes: np.ndarray) -> str:
    """Counts the frames in which a unit's occurrence and intensity contradict each other.

    FACS level A (1) is the least that is visible, so a unit with any level is active. A set that
    calls units active from B on has absent ones at level 1, but none above.

    Args:
        what: the unit and its sequence, for the remark.
        codes: int8 [2, f], occurrence and intensity.

    Returns:
        The remark; "" if there is no such frame.
    """
    occurrence, intensity = codes
    absent = occurrence == 0
    slight, more = int((absent & (intensity == 1)).sum()), int((absent & (intensity > 1)).sum())
    without = int(((occurrence == 1) & (intensity == 0)).sum())
    if not slight + more + without:
        return ""
    return (
        f"{slight + more + without} of {(codes >= 0).all(0).sum()} frames of {what}: {slight} "
        f"absent at level 1, {more} above, {without} present at level 0"
    )


def gaps(frames: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yields the first and last number of every gap between ascending ones."""
    for before, after in pairwise(frames):
        if after > before + 1:
            yield before + 1, after - 1
