"""Rendered faces in the layout of a raw BP4D tree, see raw/bp4d.py.

With the published coded runs there are 146,847 frames of the 41 subjects.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, count

import numpy as np

from vlfau_jax.data.raw.bp4d import INTENSITY, INTENSITY_AUS, NAME, OCCURRENCE, SEQUENCES
from vlfau_jax.data.raw.bp4d_published import BP4D_PUBLISHED
from vlfau_jax.data.synthetic.dynamics import BP4D_BEHAVIOUR
from vlfau_jax.data.synthetic.jobs import Job, Placed, Traps
from vlfau_jax.data.synthetic.pictures import (
    UNKNOWN,
    Plan,
    draw_plan,
    first_number,
    place_traps,
    whole_levels,
    write_csv,
    write_pictures,
)
from vlfau_jax.data.synthetic.renderer import RENDERED_AUS
from vlfau_jax.data.synthetic.scenes import DrawnSequence
from vlfau_jax.data.synthetic.trees import Layout, in_turn
from vlfau_jax.facs import BP4D_AUS

TASKS = tuple(f"T{k}" for k in range(1, 9))
COLUMNS = 28  # the frame number and AU 1 to 27


def _subjects(number: int) -> tuple[str, ...]:
    """BP4D's subjects, then F024, M019, F025, ..."""
    extra = chain.from_iterable((f"F{k:03d}", f"M{k - 5:03d}") for k in count(24))
    return in_turn(BP4D_PUBLISHED.parts, extra, number)


def _traps(subjects: Sequence[str], seed: int, drops_frames: bool) -> Traps:
    return place_traps(subjects, TASKS, seed, drops_frames)


def _write_sequence(job: Job) -> Placed:
    sequence = job.sequence(BP4D_BEHAVIOUR)
    plan = draw_plan(job, BP4D_AUS)
    placed = _write_labels(job, sequence, plan)
    return placed + write_pictures(job, sequence, plan, f"{SEQUENCES}/{job.subject}/{job.task}")


def _write_labels(job: Job, sequence: DrawnSequence, plan: Plan) -> Placed:
    name = f"{job.subject}_{job.task}"
    codes = np.full((job.frames, COLUMNS), UNKNOWN, np.int64)
    codes[:, 0] = plan.numbers
    for au in BP4D_AUS:
        codes[:, au] = sequence.levels[:, RENDERED_AUS.index(au)] >= BP4D_BEHAVIOUR.on_level
    codes[plan.unknown_rows.start : plan.unknown_rows.stop, plan.unknown_au] = UNKNOWN
    write_csv(job.root / OCCURRENCE / f"{name}.csv", [range(COLUMNS), *codes.tolist()])
    for au in INTENSITY_AUS:
        levels = whole_levels(sequence.levels[:, RENDERED_AUS.index(au)], codes[:, au])
        write_csv(
            job.root / INTENSITY[1] / f"AU{au:02d}" / f"{name}_AU{au:02d}.csv",
            zip(plan.numbers, levels.tolist(), strict=True),
        )
    return plan.unknown_codes(f"{name}.csv")


BP4D_LAYOUT = Layout(
    name=NAME,
    tasks=TASKS,
    choose_subjects=_subjects,
    place_traps=_traps,
    behaviour=BP4D_BEHAVIOUR,
    first_number=first_number,
    write_sequence=_write_sequence,
    coded_runs={(s, f"T{task}"): run for (s, task), run in BP4D_PUBLISHED.runs.items()},
    counts={"tasks": len(TASKS)},
)
