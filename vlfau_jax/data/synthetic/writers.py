"""Raw BP4D and DISFA trees of rendered faces, with traps of the kind a licence holder meets."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, count, islice, zip_longest
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
from tqdm import tqdm

from vlfau_jax.data.bp4d_tree import (
    INTENSITY,
    INTENSITY_AUS,
    OCCURRENCE,
    SEQUENCES,
    SYNTHETIC_MARK,
)
from vlfau_jax.data.faces import encode_jpeg
from vlfau_jax.data.folders import absolute_folder
from vlfau_jax.data.folds import PARTS
from vlfau_jax.data.synthetic.dynamics import BP4D_BEHAVIOUR, DISFA_BEHAVIOUR, raised
from vlfau_jax.data.synthetic.identity import draw_identity
from vlfau_jax.data.synthetic.renderer import RENDERED_AUS
from vlfau_jax.data.synthetic.scenes import Sequence as Scene
from vlfau_jax.data.synthetic.scenes import draw_sequence
from vlfau_jax.data.workers import Workers
from vlfau_jax.errors import UserError
from vlfau_jax.facs import BP4D_AUS

GENERATOR = "vlfau_jax embedded faces"
VERSION = 1
NOTICE = "rendered faces; scores on them say nothing about BP4D or DISFA"

BP4D_TASKS = tuple(f"T{k}" for k in range(1, 9))
BP4D_COLUMNS = 28  # the frame number and AU 1 to 27
UNKNOWN = 9
NUMBER_FORMS = ("{}", "{:03d}", "{:04d}")
JPEG_QUALITY = 92
NINES_SHARE = 1 / 24  # of the sequences

DISFA_LABELS = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)
DISFA_FPS = 20.0
DISFA_SHORT = 3  # frames by which the short subject's labels end before its video
RATE_FACTOR = 2.0  # DISFA's own rates leave a small tree with almost no positives

# A task's traps are placed among the first subjects, so that adding subjects moves none of them.
TRAP_SUBJECTS = 4


@dataclass(frozen=True)
class Job:
    """One sequence to draw: everything a worker process needs."""

    root: Path
    subject: str
    task: str
    seed: int
    frames: int
    size: int
    traps: tuple[str, ...]
    rate_factor: float = 1.0

    def stream(self, purpose: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, _digest(f"{self.subject}/{self.task}/{purpose}")])


def _digest(name: str) -> int:
    return crc32(name.encode())


def _by_sex(part: Sequence[str], first: str) -> list[str]:
    """The part's subjects with the sexes in turn; ids without a sex letter keep their order."""
    if not {s[0] for s in part} <= {"F", "M"}:
        return list(part)
    women, men = ([s for s in part if s[0] == sex] for sex in "FM")
    turns = zip_longest(*((women, men) if first == "F" else (men, women)))
    return [s for s in chain.from_iterable(turns) if s is not None]


def choose_subjects(dataset: str, number: int) -> tuple[str, ...]:
    """The first `number` subject ids, fold parts and sexes in turn.

    After the data set's own come ids that it does not have (F024, M019, ... or SN033, ...); they
    are in no fold.
    """
    parts = [_by_sex(part, "FM"[k % 2]) for k, part in enumerate(PARTS[dataset])]
    own = [s for s in chain.from_iterable(zip_longest(*parts)) if s is not None]
    extra: Iterator[str]
    if dataset == "bp4d":
        extra = chain.from_iterable((f"F{k:03d}", f"M{k - 5:03d}") for k in count(24))
    else:
        extra = (f"SN{k:03d}" for k in count(33))
    return tuple(islice(chain(own, extra), number))


def write_bp4d(
    out: Path, *, subjects: int, frames: int, seed: int, size: int = 160, workers: int = 1
) -> None:
    """Write a raw BP4D tree: `subjects` x 8 tasks x `frames` coded frames, JPEG of `size` px.

    Raises:
        UserError: an argument out of range, or `out` is not empty or cannot be created.
        RunError: a worker process was killed.
    """
    _check(subjects=subjects, frames=frames, seed=seed, size=size, workers=workers)
    out = _new_folder(out)
    people = choose_subjects("bp4d", subjects)
    traps = _bp4d_traps(people, seed)
    with _finished_tree(out) as root:
        jobs = [
            Job(root, s, t, seed, frames, size, traps.get((s, t), ()))
            for s in people
            for t in BP4D_TASKS
        ]
        placed = _run(_write_bp4d_sequence, jobs, workers)
        _write_manifest(root, "bp4d", people, jobs, placed, {"tasks": len(BP4D_TASKS)})


def write_disfa(
    out: Path, *, subjects: int, frames: int, seed: int, size: int = 160, workers: int = 1
) -> None:
    """Write a raw DISFA tree: a left-camera video of `frames` frames and 12 label files a subject.

    Occurrence rates are twice DISFA's (at most one half).

    Raises:
        UserError: an argument out of range, or `out` is not empty or cannot be created.
        RunError: a worker process was killed.
    """
    _check(subjects=subjects, frames=frames, seed=seed, size=size, workers=workers)
    out = _new_folder(out)
    people = choose_subjects("disfa", subjects)
    traps = _disfa_traps(people, seed)
    with _finished_tree(out) as root:
        jobs = [
            Job(root, s, "video", seed, frames, size, traps.get(s, ()), RATE_FACTOR) for s in people
        ]
        placed = _run(_write_disfa_video, jobs, workers)
        _write_manifest(root, "disfa", people, jobs, placed, {"rate_factor": RATE_FACTOR})


def _check(*, subjects: int, frames: int, seed: int, size: int, workers: int) -> None:
    for name, value, least in (
        ("subjects", subjects, 1),
        ("frames", frames, 4),
        ("seed", seed, 0),
        ("size", size, 64),
        ("workers", workers, 1),
    ):
        if value < least:
            raise UserError(f"--{name}={value} is too small; it must be at least {least}")


def _new_folder(out: Path) -> Path:
    folder = absolute_folder("--out", out)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"--out={out} exists and is not an empty folder; name a new one")
    if folder == Path.cwd() or folder.is_mount():
        # The finished tree takes the folder's place: a shell would be left in a deleted one.
        raise UserError(f"--out={out} is in use and cannot be replaced; name a folder in it")
    return folder


@contextmanager
def _finished_tree(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its name only when everything in it is written."""
    partial = out.with_name(out.name + ".partial")
    if partial.exists():
        raise UserError(f"{partial} is left from an interrupted run; delete it and start again")
    partial.mkdir(parents=True)
    try:
        yield partial
        os.replace(partial, out)
    except BaseException:
        shutil.rmtree(partial)
        raise


def _run(
    write: Callable[[Job], list[dict[str, str]]], jobs: list[Job], workers: int
) -> list[dict[str, str]]:
    """Draw every job, in `workers` processes; the traps that were placed."""
    placed: list[dict[str, str]] = []
    processes = min(workers, len(jobs)) if workers > 1 else 0
    with (
        Workers(processes) as pool,
        tqdm(total=sum(job.frames for job in jobs), unit="frame", desc="faces") as bar,
    ):
        results = pool.starmap(partial(_draw_alone, write), ((job,) for job in jobs))
        for job, traps in zip(jobs, results, strict=True):
            placed += traps
            bar.update(job.frames)
    return placed


def _draw_alone(write: Callable[[Job], list[dict[str, str]]], job: Job) -> list[dict[str, str]]:
    cv2.setNumThreads(1)  # a process per core already
    return write(job)


def _write_manifest(
    root: Path,
    layout: str,
    people: Sequence[str],
    jobs: list[Job],
    placed: list[dict[str, str]],
    more: dict[str, float],
) -> None:
    job = jobs[0]
    manifest = {
        "notice": NOTICE,
        "generator": GENERATOR,
        "version": VERSION,
        "layout": layout,
        "arguments": {
            "subjects": len(people),
            "frames": job.frames,
            "seed": job.seed,
            "size": job.size,
        },
        "counts": {
            "subjects": len(people),
            "sequences": len(jobs),
            "frames": sum(j.frames for j in jobs),
            **more,
        },
        "subjects": list(people),
        "traps": placed,
    }
    (root / SYNTHETIC_MARK).write_text(json.dumps(manifest, indent=1) + "\n")


def _bp4d_traps(people: Sequence[str], seed: int) -> dict[tuple[str, str], tuple[str, ...]]:
    traps: dict[tuple[str, str], tuple[str, ...]] = {(people[0], "T1"): ("unknown_codes",)}
    if len(people) >= TRAP_SUBJECTS:
        rng = np.random.default_rng([seed, _digest("traps")])
        for trap, subject in zip(
            ("missing_image", "truncated_image"),
            rng.permutation(np.arange(1, TRAP_SUBJECTS)),
            strict=False,
        ):
            traps[people[subject], BP4D_TASKS[rng.integers(len(BP4D_TASKS))]] = (trap,)
    return traps


@dataclass(frozen=True)
class _Plan:
    """What a BP4D sequence's files look like, drawn before any is written.

    Attributes:
        numbers: the frames' numbers.
        form: how the pictures' names write them.
        unknown_au: the unit that is coded 9 in `unknown_rows`; no row in most sequences.
        spoiled: the row whose picture is missing or cut off, if the job has such a trap.
    """

    numbers: range
    form: str
    unknown_au: int
    unknown_rows: range
    spoiled: int


def _plan_bp4d(job: Job) -> _Plan:
    rng = job.stream("files")
    form = NUMBER_FORMS[rng.integers(len(NUMBER_FORMS))]
    first = 1 if rng.random() < 0.2 else int(rng.integers(40, 2600))
    nines = rng.random() < NINES_SHARE
    spoiled = int(rng.integers(job.frames))
    unknown_au = BP4D_AUS[rng.integers(len(BP4D_AUS))]
    unknown_from = int(rng.integers(job.frames - 3))
    trapped = nines or "unknown_codes" in job.traps
    unknown_rows = range(unknown_from, min(unknown_from + 6, job.frames)) if trapped else range(0)
    return _Plan(range(first, first + job.frames), form, unknown_au, unknown_rows, spoiled)


def _write_bp4d_sequence(job: Job) -> list[dict[str, str]]:
    sequence = draw_sequence(
        BP4D_BEHAVIOUR, (job.seed, _digest(f"{job.subject}/{job.task}/scene")), job.frames
    )
    plan = _plan_bp4d(job)
    placed = _write_bp4d_labels(job, sequence, plan)
    return placed + _write_bp4d_pictures(job, sequence, plan)


def _write_bp4d_labels(job: Job, sequence: Scene, plan: _Plan) -> list[dict[str, str]]:
    name = f"{job.subject}_{job.task}"
    codes = np.full((job.frames, BP4D_COLUMNS), UNKNOWN, np.int64)
    codes[:, 0] = plan.numbers
    for au in BP4D_AUS:
        codes[:, au] = sequence.levels[:, RENDERED_AUS.index(au)] >= BP4D_BEHAVIOUR.on_level
    codes[plan.unknown_rows.start : plan.unknown_rows.stop, plan.unknown_au] = UNKNOWN
    _write_csv(job.root / OCCURRENCE / f"{name}.csv", [range(BP4D_COLUMNS), *codes.tolist()])
    for au in INTENSITY_AUS:
        levels = _bp4d_intensity(sequence.levels[:, RENDERED_AUS.index(au)], codes[:, au])
        _write_csv(
            job.root / INTENSITY[1] / f"AU{au:02d}" / f"{name}_AU{au:02d}.csv",
            zip(plan.numbers, levels.tolist(), strict=True),
        )
    if not plan.unknown_rows:
        return []
    detail = f"AU{plan.unknown_au} is 9 in {len(plan.unknown_rows)} rows"
    return [{"trap": "unknown_codes", "file": f"{name}.csv", "detail": detail}]


def _write_bp4d_pictures(job: Job, sequence: Scene, plan: _Plan) -> list[dict[str, str]]:
    folder = job.root / SEQUENCES / job.subject / job.task
    folder.mkdir(parents=True)
    face, noise = draw_identity(job.seed, job.subject), job.stream("noise")
    placed = []
    for k, number in enumerate(plan.numbers):
        path = folder / (plan.form.format(number) + ".jpg")
        blob = encode_jpeg(sequence.picture(face, k, job.size, noise), JPEG_QUALITY)
        where = str(path.relative_to(job.root))
        if k == plan.spoiled and "missing_image" in job.traps:
            detail = "coded, but there is no picture"
            placed.append({"trap": "missing_image", "file": where, "detail": detail})
            continue
        if k == plan.spoiled and "truncated_image" in job.traps:
            detail = "the second half of the file is cut off"
            placed.append({"trap": "truncated_image", "file": where, "detail": detail})
            blob = blob[: len(blob) // 2]
        path.write_bytes(blob)
    return placed


def _bp4d_intensity(levels: np.ndarray, occurrence: np.ndarray) -> np.ndarray:
    """Whole levels that agree with the codes: 0 when absent, 1-5 when present, 9 when unknown."""
    whole = np.clip(np.rint(levels), 1, 5).astype(np.int64) * (occurrence == 1)
    return np.where(occurrence == UNKNOWN, UNKNOWN, whole)


def _write_csv(path: Path, rows: Sequence[Sequence[int]] | Iterator[Sequence[int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def _disfa_traps(people: Sequence[str], seed: int) -> dict[str, tuple[str, ...]]:
    if len(people) < TRAP_SUBJECTS:
        return {}
    missing, short = np.random.default_rng([seed, _digest("traps")]).permutation(TRAP_SUBJECTS)[:2]
    return {people[missing]: ("missing_labels",), people[short]: ("short_labels",)}


def _write_disfa_video(job: Job) -> list[dict[str, str]]:
    behaviour = raised(DISFA_BEHAVIOUR, job.rate_factor)
    sequence = draw_sequence(
        behaviour, (job.seed, _digest(f"{job.subject}/{job.task}/scene")), job.frames
    )
    rng = job.stream("files")
    absent = DISFA_LABELS[rng.integers(len(DISFA_LABELS))]
    coded = job.frames - DISFA_SHORT * ("short_labels" in job.traps)
    folder = Path("ActionUnit_Labels") / job.subject
    (job.root / folder).mkdir(parents=True)
    placed = []
    if coded < job.frames:
        placed.append(
            {
                "trap": "short_labels",
                "file": str(folder),
                "detail": f"labels end {DISFA_SHORT} frames before the video",
            }
        )
    for au in DISFA_LABELS:
        file = folder / f"{job.subject}_au{au}.txt"
        if au == absent and "missing_labels" in job.traps:
            placed.append(
                {
                    "trap": "missing_labels",
                    "file": str(file),
                    "detail": f"AU{au} is unknown for this subject",
                }
            )
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
    video = cv2.VideoWriter(
        str(path), cv2.VideoWriter.fourcc(*"MJPG"), DISFA_FPS, (job.size, job.size)
    )
    if not video.isOpened():
        raise RuntimeError(f"OpenCV cannot write MJPG videos to {path}")
    face, noise = draw_identity(job.seed, job.subject), job.stream("noise")
    for k in range(job.frames):
        video.write(np.ascontiguousarray(picture(face, k, job.size, noise)[..., ::-1]))
    video.release()
