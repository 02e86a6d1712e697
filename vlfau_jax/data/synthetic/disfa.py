"""Rendered faces in the layout of a raw DISFA tree, see raw/disfa.py: left-camera videos.

Occurrence rates are twice DISFA's (at most one half).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import cv2
import numpy as np

from vlfau_jax.data.raw.disfa import LABELS, NAME
from vlfau_jax.data.raw.disfa_labels import CODED_AUS
from vlfau_jax.data.raw.disfa_published import DISFA_PUBLISHED
from vlfau_jax.data.synthetic.dynamics import DISFA_BEHAVIOUR, RATE_FACTOR, raised
from vlfau_jax.data.synthetic.identity import draw_identity
from vlfau_jax.data.synthetic.jobs import TRAP_SUBJECTS, Job, Placed, Traps, digest
from vlfau_jax.data.synthetic.renderer import RENDERED_AUS
from vlfau_jax.data.synthetic.trees import Layout, in_turn
from vlfau_jax.errors import RunError

TASK = "video"
FPS = 20.0
BEHAVIOUR = raised(DISFA_BEHAVIOUR, RATE_FACTOR)
SHORT = 3  # frames by which one subject's labels end before the video


def _subjects(number: int) -> tuple[str, ...]:
    """DISFA's subjects, then SN033, SN034, ..."""
    return in_turn(DISFA_PUBLISHED.parts, (f"SN{k:03d}" for k in count(33)), number)


def _traps(subjects: Sequence[str], seed: int, _: bool) -> Traps:
    if len(subjects) < TRAP_SUBJECTS:
        return {}
    missing, short = np.random.default_rng([seed, digest("traps")]).permutation(TRAP_SUBJECTS)[:2]
    return {
        (subjects[missing], TASK): ("missing_labels",),
        (subjects[short], TASK): ("short_labels",),
    }


def _write_sequence(job: Job) -> Placed:
    sequence = job.sequence(BEHAVIOUR)
    rng = job.stream("files")
    absent = CODED_AUS[rng.integers(len(CODED_AUS))]
    coded = job.frames - SHORT * ("short_labels" in job.traps)
    folder = Path(LABELS) / job.subject
    (job.root / folder).mkdir(parents=True)
    placed = []
    if coded < job.frames:
        detail = f"labels end {SHORT} frames before the video"
        placed.append({"trap": "short_labels", "file": str(folder), "detail": detail})
    for au in CODED_AUS:
        file = folder / f"{job.subject}_au{au}.txt"
        if au == absent and "missing_labels" in job.traps:
            detail = f"AU{au} is unknown for this subject"
            placed.append({"trap": "missing_labels", "file": str(file), "detail": detail})
            continue
        # AU 5 and AU 20 have files in DISFA; the renderer does not move them, so they are truly 0.
        levels = (
            np.rint(sequence.levels[:, RENDERED_AUS.index(au)])
            if au in RENDERED_AUS
            else np.zeros(job.frames)
        )
        lines = (f"{k},{int(level)}\n" for k, level in enumerate(levels[:coded], start=1))
        (job.root / file).write_text("".join(lines))
    _write_video(job, sequence.picture)
    return placed


def _write_video(job: Job, picture: Callable[..., np.ndarray]) -> None:
    path = job.root / "Videos_LeftCamera" / f"LeftVideo{job.subject}_comp.avi"
    path.parent.mkdir(exist_ok=True)
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (job.size, job.size))
    if not video.isOpened():
        raise RuntimeError(f"OpenCV cannot write MJPG videos to {path}")
    face, noise = draw_identity(job.seed, job.subject), job.stream("noise")
    for k in range(job.frames):
        video.write(np.ascontiguousarray(picture(face, k, job.size, noise)[..., ::-1]))
    video.release()
    written = cv2.VideoCapture(str(path))  # the writer says nothing of a full disk
    if written.get(cv2.CAP_PROP_FRAME_COUNT) != job.frames:
        raise RunError(f"{path} cannot be written whole; is there room on its disk?")
    written.release()


DISFA_LAYOUT = Layout(
    name=NAME,
    tasks=(TASK,),
    choose_subjects=_subjects,
    place_traps=_traps,
    behaviour=BEHAVIOUR,
    first_number=lambda job: 1,
    write_sequence=_write_sequence,
    counts={"rate_factor": RATE_FACTOR},
)
