"""What a raw tree held, what was lost on the way and why: kept beside every prepared set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# What costs a frame. Anything that could corrupt a label is a UserError instead.
LOSSES = {
    "image_missing": "labelled frames without an image",
    "image_unreadable": "images that end early or cannot be decoded",
    "no_face": "images in which the crop rule found no face",
}
# What costs nothing, but a reader may want to know.
REMARKS = {
    "sequence_without_labels": "image folders without a label file",
    "labels_without_sequence": "label files without an image folder",
    "subject_unexpected": "subjects that the published data set does not have",
    "subject_missing": "subjects of the published data set that are not here",
    "subject_unusable": "subjects left out, because no labelled frame of theirs is usable",
    "gap": "gaps inside a coded run",
    "name_ignored": "names that are neither a subject, a task nor a numbered image",
    "intensity_missing": "absent intensity files: their levels are unknown",
    "intensity_frame_unlabelled": "intensity rows for frames without occurrence labels",
}


@dataclass
class SequenceFacts:
    """One sequence as found: counts of frames, first and last labelled frame, number padding."""

    subject: str
    task: int
    images: int
    labelled: int
    first_frame: int
    last_frame: int
    unlabelled_images: int
    padding: str
    unknown_labels: int
    written: int = 0


@dataclass
class LabelCounts:
    """Counts over written frames: `positives`, `known` per action unit, and `frames`."""

    positives: list[int]
    known: list[int]
    frames: int = 0

    @classmethod
    def zero(cls, units: int) -> LabelCounts:
        """Counts of nothing for a number of units."""
        return cls([0] * units, [0] * units)

    def add(self, occurrence: Sequence[int]) -> None:
        """Counts one frame's codes: 1 active, 0 not, -1 unknown."""
        self.frames += 1
        for i, code in enumerate(occurrence):
            self.positives[i] += int(code == 1)
            self.known[i] += int(code >= 0)


@dataclass
class IntegrityReport:
    """Everything `prepare` can say about a raw tree; `losses` and `remarks` list places by kind."""

    dataset: str
    raw_dir: str
    synthetic: bool
    aus: tuple[int, ...]
    crop: dict[str, Any] = field(default_factory=dict)
    sequences: list[SequenceFacts] = field(default_factory=list)
    losses: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in LOSSES})
    remarks: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in REMARKS})
    subjects: dict[str, LabelCounts] = field(default_factory=dict)

    def facts(self, subject: str, task: int) -> SequenceFacts:
        """The facts of one sequence."""
        return next(s for s in self.sequences if (s.subject, s.task) == (subject, task))

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
        losses = [f"{len(places)} {LOSSES[kind]}" for kind, places in self.losses.items() if places]
        unlabelled = sum(sequence.unlabelled_images for sequence in self.sequences)
        unknown = sum(sequence.unknown_labels for sequence in self.sequences)
        return (
            f"{self.dataset}{' (synthetic)' if self.synthetic else ''}: {self.written} frames of "
            f"{len(self.subjects)} subjects in {len(self.sequences)} sequences; lost {self.lost}"
            f"{' (' + ', '.join(losses) + ')' if losses else ''}; {unlabelled} images carry no "
            f"label; {unknown} labels are unknown and stay so"
        )

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {"written": self.written, "lost": self.lost, **asdict(self)}

    def as_text(self) -> str:
        """The report as a table for readers."""
        lines = [self.summary(), "", f"raw tree  {self.raw_dir}", f"crop      {self.crop}", ""]
        lines.append(f"{'unit':>6} {'active':>8} {'known':>8} {'rate %':>7}")
        for i, au in enumerate(self.aus):
            active = sum(counts.positives[i] for counts in self.subjects.values())
            known = sum(counts.known[i] for counts in self.subjects.values())
            rate = f"{100 * active / known:.2f}" if known else "-"
            lines.append(f"{'AU' + str(au):>6} {active:>8} {known:>8} {rate:>7}")
        for table, found in ((LOSSES, self.losses), (REMARKS, self.remarks)):
            for kind, places in found.items():
                if places:
                    lines += ["", f"{len(places)} {table[kind]}", *(f"    {p}" for p in places)]
        names = "subject task images labelled first last unlabelled padding unknown written"
        lines += ["", " ".join(f"{name:>10}" for name in names.split())]
        for facts in self.sequences:
            lines.append(" ".join(f"{value!s:>10}" for value in asdict(facts).values()))
        return "\n".join(lines) + "\n"

    def save(self, folder: str | Path) -> None:
        """Writes integrity.json and integrity.txt into `folder`."""
        folder = Path(folder)
        text = json.dumps(self.as_json(), indent=1)
        (folder / "integrity.json").write_text(text + "\n", encoding="utf-8")
        (folder / "integrity.txt").write_text(self.as_text(), encoding="utf-8")
