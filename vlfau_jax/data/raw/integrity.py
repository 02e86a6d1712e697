"""What a raw tree held, what was lost on the way and why: kept beside every prepared set."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from vlfau_jax.data.raw.codes import by_occurrence, decide, excluded
from vlfau_jax.data.raw.label_counts import LEVELS, LabelCounts
from vlfau_jax.data.raw.places import by_folder, counted, indented
from vlfau_jax.data.raw.published import PUBLISHED, Published
from vlfau_jax.data.read.folds import PARTS

MOST_LINES = 50  # of one kind in integrity.txt; integrity.json has them all
ALIGNED_BY = ("eyes", "neighbours", "box", "none")

# What costs a frame. Anything that could corrupt a label is a UserError instead.
DROP_REASONS = {
    "image_missing": "labelled frames without an image",
    "image_unreadable": "images that end early or cannot be decoded",
    "no_face": "images in which the crop rule found no face",
    "not_in_table": "pictures without a row in the crop rule's table",
}
# What costs nothing, but a reader may want to know.
REMARKS = {
    "sequence_without_labels": "sequences without a label file",
    "labels_without_sequence": "label files without images or a video",
    "subject_unexpected": "subjects that the published data set does not have",
    "subject_missing": "subjects of the published data set that are not here",
    "sequence_missing": "sequences of the published data set that are not here, subjects who are",
    "subject_unusable": "subjects left out, because no labelled frame of theirs is usable",
    "columns_unexpected": "headers with other columns than the published ones",
    "gap": "gaps inside a coded run",
    "name_ignored": "names, or kinds of them, that are no subject, task, label file or picture",
    "name_differs": "pictures whose files are spelt in another way than the table spells them",
    "label_unknown": "units that a label file codes as unknown in some frames",
    "unit_missing": "absent label files: their unit is unknown for that subject",
    "label_length_differs": "label files shorter than others of their subject: the rest is unknown",
    "video_length_differs": "videos longer or shorter than their labels: paired from the start",
    "intensity_missing": "absent intensity files: their levels are unknown",
    "intensity_unknown": "intensity files that leave coded frames without a level",
    "intensity_frame_unlabelled": "intensity files with rows for frames without occurrence labels",
    "contradiction": "occurrence against intensity; in many frames: a shifted or swapped file",
}


@dataclass
class SequenceFacts:
    """One sequence as found.

    Attributes:
        subject: whose face.
        task: the sequence's number.
        images: pictures, or frames that the video's header promises.
        labelled: frames that have a label.
        first_frame: the first of them, -1 without any.
        last_frame: the last of them.
        published: first and last coded frame as published, "2440-2992"; "" where nothing is.
        unlabelled_images: images without a label.
        padding: how numbers are written: "none", the padded width, "mixed", or "" for a video.
        unknown_labels: cells of labelled frames that say nothing about their unit.
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
        telling: shown to a reader even if they are.
    """

    what: str
    found: Any
    published: Any
    agrees: bool
    telling: bool = False


@dataclass
class IntegrityReport:
    """Everything `prepare` can say about a raw tree; `losses` and `remarks` list places by kind.

    A tree reader makes it, adds every sequence and compares with what is published. The builder
    completes it, in the order of `sequences`: it sets `crop`; appends the source of every frame
    that it loses to `losses[kind]`; counts the frames it writes in the sequence's `written`;
    counts their labels in `subjects[name]`, a `LabelCounts` for every subject that is written;
    names in `remarks["subject_unusable"]` those of whom nothing is; and adds up `aligned_by`.

    Attributes:
        dataset: bp4d, disfa or folder.
        raw_dir: the raw tree.
        synthetic: whether our own renderer wrote it.
        aus: the n units of every label vector.
        layout: raw, me_graphau or folder.
        crop: the crop rule, described.
        sequences: sorted by subject and task.
        losses: key of `LOSSES` -> places.
        remarks: key of `REMARKS` -> places.
        columns: header of an occurrence file, such as "0-39" -> number of files that have it.
        comparisons: found against published.
        labelled: subject -> the labels of all labelled frames of the raw tree.
        subjects: subject -> the labels of the frames in the prepared set.
        aligned_by: "eyes", "neighbours", "box" or "none" -> number of crops, see faces.Crop.
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
    columns: dict[str, int] = field(default_factory=dict)
    comparisons: list[Comparison] = field(default_factory=list)
    labelled: dict[str, LabelCounts] = field(default_factory=dict)
    subjects: dict[str, LabelCounts] = field(default_factory=dict)
    aligned_by: dict[str, int] = field(default_factory=dict)

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
        """Notes one sequence with all its labelled frames, whether they have a picture or not.

        Every sequence of which the tree has anything is noted, labels or pictures.

        Args:
            subject: whose face.
            task: the sequence's number.
            frames: the f labelled frames, ascending.
            occurrence: int8 [f, n], 1, 0 or -1.
            intensity: int8 [f, n], 0 to 5 or -1.
            images: see `SequenceFacts`.
            unlabelled_images: see `SequenceFacts`.
            padding: see `SequenceFacts`.
            labels: where the labels are, if they should be one run: its gaps are remarked on.
        """
        published = self._published.runs.get((subject, task))
        one = np.zeros(len(frames), np.int64)  # one sequence, one subject
        coded = by_occurrence(self.dataset, occurrence)
        _, known = decide(occurrence, intensity, coded, self._published.threshold)
        left_out = excluded(self.dataset, (subject,), one, np.array(frames, np.int64))
        self.sequences.append(
            SequenceFacts(
                subject=subject,
                task=task,
                images=images,
                labelled=len(frames),
                first_frame=frames[0] if frames else -1,
                last_frame=frames[-1] if frames else -1,
                published="{}-{}".format(*published) if published else "",
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
            said
            for i, au in enumerate(self.aus)
            if (said := _contradictions(f"AU{au} of {subject}_T{task}", codes[:, :, i]))
        ]

    @property
    def _published(self) -> Published:
        return PUBLISHED.get(self.dataset, Published({}, {}))

    def compare(self) -> None:
        """Holds what was found against what is published: subjects, runs, folds, headers, rates.

        A partial or rendered tree deviates, which stops nothing.
        """
        published = self._published
        if not published.runs:
            return
        found, there = set(self.labelled), {(s.subject, s.task) for s in self.sequences}
        self.remarks["subject_unexpected"] += sorted(found - set(published.subjects))
        self.remarks["subject_missing"] += sorted(set(published.subjects) - found)
        self.remarks["sequence_missing"] += [
            f"{subject}_T{task}"
            for subject, task in sorted(published.runs.keys() - there)
            if subject in found
        ]
        labelled = [s for s in self.sequences if s.labelled]
        subjects = len({s.subject for s in labelled})
        self._compare("subjects", subjects, len(published.subjects), telling=True)
        self._compare("sequences", len(labelled), len(published.runs), telling=True)
        same = sum(s.run == s.published for s in labelled)
        self._compare("runs as published", same, len(published.runs), telling=True)
        self._compare_frames(published)
        for columns, files in self.columns.items():
            what = f"columns of {counted(files, 'label file')}"
            self._compare(what, columns, published.columns)
        counts = LabelCounts.total(self.labelled.values(), len(self.aus))
        for au, rate in published.rates.items():
            active, known = counts.active(self.aus.index(au), published.threshold)
            percent = round(100 * active / known, 2) if known else None
            # Rates are published to two decimals.
            self._compare(f"AU{au} active, %", percent, rate, tolerance=0.011)
        self._compare_weights(published)

    def _compare(
        self, what: str, found: Any, published: Any, tolerance: float = 0, telling: bool = False
    ) -> None:
        if tolerance and found is not None:
            agrees = abs(found - published) <= tolerance
        else:
            agrees = found == published
        self.comparisons.append(Comparison(what, found, published, agrees, telling))

    def _compare_frames(self, published: Published) -> None:
        """Labelled frames in all and of every fold, and without the stretches left out."""
        parts = PARTS[self.dataset]
        groups = {"labelled frames": published.subjects}
        # Fold 1 tests the last part.
        groups |= {f"tested in fold {k}": part for k, part in enumerate(parts[::-1], start=1)}
        for what, subjects in groups.items():
            theirs = [s for s in self.sequences if s.subject in subjects]
            found, expected = sum(s.labelled for s in theirs), published.frames_of(subjects)
            self._compare(what, found, expected, telling=True)
            if published.excluded:
                found -= sum(s.excluded for s in theirs)
                expected -= published.excluded_of(subjects)
                self._compare(f"{what}, less excluded", found, expected, telling=True)

    def _compare_weights(self, published: Published) -> None:
        """ME-GraphAU's class weights, where all subjects that it trains fold 1 on are here."""
        trained = {s for part in PARTS.get(self.dataset, ())[:-1] for s in part}  # 1 tests the last
        if not published.weights or not trained <= set(self.labelled):
            return
        counts = LabelCounts.total((self.labelled[s] for s in sorted(trained)), len(self.aus))
        shares = [counts.active(self.aus.index(au), published.threshold) for au in published.rates]
        if not all(active for active, _ in shares):
            return
        inverse = np.array([known / active for active, known in shares])
        weights = len(inverse) * inverse / inverse.sum()
        for (au, expected), weight in zip(published.weights.items(), weights, strict=True):
            found = round(float(weight), 6)
            self._compare(f"AU{au} class weight, fold 1", found, expected, tolerance=1.1e-6)

    @property
    def written(self) -> int:
        """Frames in the prepared set."""
        return sum(sequence.written for sequence in self.sequences)

    @property
    def lost(self) -> int:
        """Labelled frames that are not in the prepared set."""
        return sum(len(places) for places in self.losses.values())

    def summary(self) -> str:
        """One paragraph for the screen."""
        losses = [
            f"{DROP_REASONS[kind]}: {len(places)}" for kind, places in self.losses.items() if places
        ]
        unlabelled = sum(sequence.unlabelled_images for sequence in self.sequences)
        unknown = sum(sequence.unknown_labels for sequence in self.sequences)
        written = sum(sequence.written > 0 for sequence in self.sequences)
        return (
            f"{self.dataset}{' (synthetic)' if self.synthetic else ''}: "
            f"{counted(self.written, 'frame')} of {counted(len(self.subjects), 'subject')} in "
            f"{counted(written, 'sequence')}; lost {self.lost}"
            f"{' (' + ', '.join(losses) + ')' if losses else ''}; "
            f"{counted(unlabelled, 'image')} without a label; "
            f"{counted(unknown, 'unknown label')}, kept as unknown"
        )

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {"written": self.written, "lost": self.lost, **asdict(self)}

    def as_text(self) -> str:
        """The report as tables for readers."""
        parts = (self._head(), self._units(), self._compared(), self._places(), self._sequences())
        return "\n".join(line for part in parts for line in part) + "\n"

    def _head(self) -> Iterator[str]:
        yield from textwrap.wrap(self.summary(), width=100)
        yield ""
        yield f"raw tree  {self.raw_dir} ({self.layout})"
        rule = {**self.crop, **self.crop.get("parameters", {})}
        told = [f"{k} {v}" for k, v in rule.items() if k not in ("name", "parameters")]
        about = ", ".join([rule.get("name", "-"), *told])
        yield from textwrap.wrap(
            about, width=100, initial_indent="crop      ", subsequent_indent=" " * 10
        )
        if self.aligned_by:
            by = ", ".join(f"{kind} {self.aligned_by.get(kind, 0)}" for kind in ALIGNED_BY)
            yield f"aligned   by {by}"

    def _units(self) -> Iterator[str]:
        """Labels of the frames that were written."""
        counts = LabelCounts.total(self.subjects.values(), len(self.aus))
        threshold = self._published.threshold
        levels = any(map(any, counts.levels))
        yield ""
        names = [f"level {k}" for k in range(LEVELS)] if levels else []
        yield _row(["unit", "active", "known", "rate %", *names])
        for i, au in enumerate(self.aus):
            active, known = counts.active(i, threshold)
            rate = f"{100 * active / known:.2f}" if known else "-"
            yield _row([f"AU{au}", active, known, rate, *(counts.levels[i] if levels else [])])
        if levels and not all(counts.known):
            yield f"    active: at level {threshold} and above where no occurrence is coded"

    def _compared(self) -> Iterator[str]:
        if not self.comparisons:
            return
        agree = sum(row.agrees for row in self.comparisons)
        shown = [row for row in self.comparisons if row.telling or not row.agrees]
        yield ""
        yield f"{agree} of {len(self.comparisons)} published facts are found here"
        width = max(len(row.what) for row in shown)
        yield f"{'':>{width}} {'found':>12} {'published':>12}"
        for row in shown:
            found = "-" if row.found is None else row.found
            mark = "" if row.agrees else "   differs"
            yield f"{row.what:>{width}} {found:>12} {row.published:>12}{mark}"

    def _places(self) -> Iterator[str]:
        for table, found in ((DROP_REASONS, self.losses), (REMARKS, self.remarks)):
            for kind, places in found.items():
                if places:
                    yield ""
                    yield f"{table[kind]} ({len(places)})"
                    yield from indented(
                        by_folder(places) if table is DROP_REASONS else places, MOST_LINES
                    )

    def _sequences(self) -> Iterator[str]:
        blind = self._blind()
        listed = [
            s
            for s in self.sequences
            if not (self._whole(s, len(blind)) and s.published in ("", s.run))
        ]
        paddings = Counter(facts.padding for facts in self.sequences if facts.padding)
        yield ""
        if blind:
            yield f"unknown in every frame: {', '.join(f'AU{au}' for au in blind)}"
        if paddings:
            forms = ", ".join(
                f"{form} in {counted(paddings[form], 'sequence')}" for form in sorted(paddings)
            )
            yield f"padding of picture numbers: {forms}"
        yield (
            f"{len(self.sequences) - len(listed)} of {len(self.sequences)} sequences were written "
            f"whole, with every {'other ' if blind else ''}label known"
            + (" and their runs as published" if self._published.runs else "")
        )
        if listed:
            yield from self._table(listed, len(blind))

    def _table(self, listed: list[SequenceFacts], blind: int) -> Iterator[str]:
        """Those that lose a frame or a label first; columns that say nothing are left out."""
        listed = sorted(listed, key=lambda s: self._whole(s, blind))
        rows = [list(asdict(facts).values()) for facts in listed]
        names = "subject task images labelled first last published unlabelled padding unknown"
        columns = zip([*names.split(), "excluded", "written"], *rows, strict=True)
        kept = [column for column in columns if set(column[1:]) - {0, ""} or column[0] == "written"]
        for row in list(zip(*kept, strict=True))[: 1 + MOST_LINES]:
            yield " ".join(f"{'-' if cell == '' else cell!s:>10}" for cell in row)
        if len(listed) > MOST_LINES:
            more = counted(len(listed) - MOST_LINES, "sequence")
            yield f"    and {more} more, see integrity.json"

    def _blind(self) -> list[int]:
        """Units that no labelled frame says anything about."""
        counts = LabelCounts.total(self.labelled.values(), len(self.aus))
        return [au for i, au in enumerate(self.aus) if not counts.active(i, 1)[1]]

    @staticmethod
    def _whole(facts: SequenceFacts, blind: int) -> bool:
        """Whether nothing is lost or unknown but the `blind` units."""
        known = facts.unknown_labels == blind * facts.labelled
        return known and facts.written == facts.labelled > 0

    def save(self, folder: str | Path) -> None:
        """Writes integrity.json and integrity.txt into `folder`."""
        folder = Path(folder)
        text = json.dumps(self.as_json(), indent=1)
        (folder / "integrity.json").write_text(text + "\n", encoding="utf-8")
        # A folder's own name may hold bytes that are no UTF-8.
        table = self.as_text().encode("utf-8", "backslashreplace")
        (folder / "integrity.txt").write_bytes(table)


def _row(cells: Sequence[object]) -> str:
    return " ".join(f"{cell!s:>{6 if i == 0 else 8}}" for i, cell in enumerate(cells))


def _contradictions(what: str, codes: np.ndarray) -> str:
    """How often a unit's occurrence and intensity, int8 [2, f], contradict each other; "" if never.

    FACS level A (1) is the least that is visible, so a unit with any level is active. A set that
    calls units active from B on has absent ones at level 1, but none above.
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
    """First and last of the numbers that are missing between ascending ones."""
    for before, after in pairwise(frames):
        if after > before + 1:
            yield before + 1, after - 1
