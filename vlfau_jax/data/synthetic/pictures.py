"""What the layouts with one picture file per frame share: numbers, traps, pictures, intensities."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlfau_jax.data.raw.frames import encode_jpeg
from vlfau_jax.data.synthetic.identity import draw_identity
from vlfau_jax.data.synthetic.jobs import TRAP_SUBJECTS, Job, Placed, Traps, digest
from vlfau_jax.data.synthetic.scenes import DrawnSequence

UNKNOWN = 9
NUMBER_FORMS = ("{}", "{:03d}", "{:04d}")
JPEG_QUALITY = 92
NINES_SHARE = 1 / 24  # of the sequences


def place_traps(
    subjects: Sequence[str], tasks: Sequence[str], seed: int, drops_frames: bool
) -> Traps:
    """Which sequences have which traps; those that cost a frame only if `drops_frames`."""
    traps: Traps = {(subjects[0], tasks[0]): ("unknown_codes",)}
    if drops_frames and len(subjects) >= TRAP_SUBJECTS:
        rng = np.random.default_rng([seed, digest("traps")])
        for trap, subject in zip(
            ("missing_image", "truncated_image"),
            rng.permutation(np.arange(1, TRAP_SUBJECTS)),
            strict=False,
        ):
            traps[subjects[subject], tasks[rng.integers(len(tasks))]] = (trap,)
    return traps


@dataclass(frozen=True)
class Plan:
    """The numbers and traps of a sequence, drawn before any file is written.

    Attributes:
        numbers: the frames' numbers.
        form: how the pictures' names write them.
        unknown_au: the unit that is coded 9 in `unknown_rows`; no row in most sequences.
        unknown_rows: rows in which that unit is unknown.
        spoiled: the row whose picture is missing or cut off, if the job has such a trap.
    """

    numbers: range
    form: str
    unknown_au: int
    unknown_rows: range
    spoiled: int

    def picture(self, folder: str, number: int) -> str:
        """The path of a frame's picture, below the tree's root."""
        return f"{folder}/{self.form.format(number)}.jpg"

    def unknown_codes(self, file: str) -> Placed:
        """The trap of unknown codes in `file`, if this sequence has it."""
        if not self.unknown_rows:
            return []
        detail = f"AU{self.unknown_au} is unknown in {len(self.unknown_rows)} rows"
        return [{"trap": "unknown_codes", "file": file, "detail": detail}]


def draw_plan(job: Job, aus: Sequence[int]) -> Plan:
    """Draws a sequence's plan; `aus` are the units of which one may be unknown."""
    rng = job.stream("files")
    form = NUMBER_FORMS[rng.integers(len(NUMBER_FORMS))]
    first = 1 if rng.random() < 0.2 else int(rng.integers(40, 2600))
    first = job.first or first
    nines = rng.random() < NINES_SHARE
    spoiled = int(rng.integers(job.frames))
    unknown_au = aus[rng.integers(len(aus))]
    unknown_from = int(rng.integers(job.frames - 3))
    trapped = nines or "unknown_codes" in job.traps
    unknown_rows = range(unknown_from, min(unknown_from + 6, job.frames)) if trapped else range(0)
    return Plan(range(first, first + job.frames), form, unknown_au, unknown_rows, spoiled)


def first_number(job: Job) -> int:
    """The number of the first picture of a sequence with a picture file per frame."""
    return draw_plan(job, (UNKNOWN,)).numbers.start


def write_pictures(job: Job, sequence: DrawnSequence, plan: Plan, folder: str) -> Placed:
    """Writes a JPEG per frame into `folder`, below the tree's root; returns the traps."""
    (job.root / folder).mkdir(parents=True)
    face, noise = draw_identity(job.seed, job.subject), job.stream("noise")
    placed = []
    for k, number in enumerate(plan.numbers):
        path = plan.picture(folder, number)
        blob = encode_jpeg(sequence.picture(face, k, job.size, noise), JPEG_QUALITY)
        if k == plan.spoiled and "missing_image" in job.traps:
            detail = "coded, but there is no picture"
            placed.append({"trap": "missing_image", "file": path, "detail": detail})
            continue
        if k == plan.spoiled and "truncated_image" in job.traps:
            detail = "the second half of the file is cut off"
            placed.append({"trap": "truncated_image", "file": path, "detail": detail})
            blob = blob[: len(blob) // 2]
        (job.root / path).write_bytes(blob)
    return placed


def whole_levels(levels: np.ndarray, occurrence: np.ndarray) -> np.ndarray:
    """Whole levels that agree with the codes: 0 when absent, 1-5 when present, 9 when unknown."""
    whole = np.clip(np.rint(levels), 1, 5).astype(np.int64) * (occurrence == 1)
    return np.where(occurrence == UNKNOWN, UNKNOWN, whole)


def write_csv(path: Path, rows: Iterable[Sequence[int | str]]) -> None:
    """Writes rows to a new file, and its folder if that is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
