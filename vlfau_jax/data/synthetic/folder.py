"""Rendered faces as a user's own data set: pictures and labels.csv, see raw/folder.py.

All fifteen units that the renderer draws are coded, occurrence rates are twice BP4D's (at most one
half). Every fourth subject's sex is left blank.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vlfau_jax.data.raw.folder import NAME, TABLE
from vlfau_jax.data.synthetic.dynamics import BP4D_BEHAVIOUR, RATE_FACTOR, raised
from vlfau_jax.data.synthetic.identity import draw_identity
from vlfau_jax.data.synthetic.jobs import Job, Placed, Traps
from vlfau_jax.data.synthetic.pictures import (
    UNKNOWN,
    draw_plan,
    first_number,
    place_traps,
    whole_levels,
    write_csv,
    write_pictures,
)
from vlfau_jax.data.synthetic.renderer import RENDERED_AUS
from vlfau_jax.data.synthetic.trees import Layout

TASKS = ("1", "2")
INTENSITY_AUS = (6, 12, 26)  # AU 26 has no occurrence column: its intensity decides
OCCURRENCE_AUS = tuple(au for au in RENDERED_AUS if au != 26)
BEHAVIOUR = raised(replace(BP4D_BEHAVIOUR, coded=RENDERED_AUS), RATE_FACTOR)


def _subjects(number: int) -> tuple[str, ...]:
    """F01, M02, F03, ..."""
    return tuple(f"{'FM'[k % 2]}{k + 1:02d}" for k in range(number))


def _traps(subjects: Sequence[str], seed: int, drops_frames: bool) -> Traps:
    return place_traps(subjects, TASKS, seed, drops_frames)


def _write_table(root: Path, jobs: Sequence[Job]) -> None:
    write_csv(root / TABLE, _rows(jobs))


def _rows(jobs: Sequence[Job]) -> Iterator[Sequence[int | str]]:
    """The rows of labels.csv; a label that is not known is a blank."""
    yield (
        *("image", "subject", "task", "frame", "sex", "fold"),
        *(f"AU{au}" for au in OCCURRENCE_AUS),
        *(f"AU{au}_intensity" for au in INTENSITY_AUS),
    )
    subjects = list(dict.fromkeys(job.subject for job in jobs))
    for job in jobs:
        plan, levels = draw_plan(job, RENDERED_AUS), job.sequence(BEHAVIOUR).levels
        place = subjects.index(job.subject)
        sex = "" if place % 4 == 3 else draw_identity(job.seed, job.subject).sex
        codes = (levels >= BEHAVIOUR.on_level).astype(np.int64)
        unknown = slice(plan.unknown_rows.start, plan.unknown_rows.stop)
        codes[unknown, RENDERED_AUS.index(plan.unknown_au)] = UNKNOWN
        whole = whole_levels(levels, codes)
        columns = [codes[:, RENDERED_AUS.index(au)] for au in OCCURRENCE_AUS]
        columns += [whole[:, RENDERED_AUS.index(au)] for au in INTENSITY_AUS]
        for number, cells in zip(plan.numbers, np.stack(columns, 1).tolist(), strict=True):
            image = plan.picture(_folder_of(job), number)
            labels = ("" if code == UNKNOWN else code for code in cells)
            yield (image, job.subject, job.task, number, sex, place % 3 + 1, *labels)


def _folder_of(job: Job) -> str:
    return f"{job.subject}/{job.task}"


def _write_sequence(job: Job) -> Placed:
    plan = draw_plan(job, RENDERED_AUS)
    pictures = write_pictures(job, job.sequence(BEHAVIOUR), plan, _folder_of(job))
    return plan.unknown_codes(TABLE) + pictures


FOLDER_LAYOUT = Layout(
    name=NAME,
    tasks=TASKS,
    choose_subjects=_subjects,
    place_traps=_traps,
    behaviour=BEHAVIOUR,
    first_number=first_number,
    write_sequence=_write_sequence,
    write_table=_write_table,
    counts={"tasks": len(TASKS), "rate_factor": RATE_FACTOR},
)
