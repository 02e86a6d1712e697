"""Raw trees of rendered faces, with traps of the kind a licence holder meets.

Three layouts: BP4D's, DISFA's, and `folder`, a data set of one's own (raw/folder.py).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count, islice, zip_longest
from pathlib import Path

import cv2
import numpy as np

from vlfau_jax.data.raw.bp4d import INTENSITY, INTENSITY_AUS, OCCURRENCE, SEQUENCES
from vlfau_jax.data.raw.folder import TABLE
from vlfau_jax.data.raw.frames import encode_jpeg
from vlfau_jax.data.raw.published import BP4D_RUNS
from vlfau_jax.data.read.folds import PARTS
from vlfau_jax.data.synthetic.dynamics import BP4D_BEHAVIOUR, DISFA_BEHAVIOUR, raised
from vlfau_jax.data.synthetic.identity import draw_identity
from vlfau_jax.data.synthetic.jobs import (
    Job,
    Placed,
    check,
    digest,
    finished_tree,
    new_folder,
    run,
    write_manifest,
)
from vlfau_jax.data.synthetic.renderer import RENDERED_AUS
from vlfau_jax.data.synthetic.scenes import Sequence as Scene
from vlfau_jax.errors import UserError
from vlfau_jax.facs import BP4D_AUS

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

FOLDER_TASKS = ("1", "2")
FOLDER_INTENSITY_AUS = (6, 12, 26)  # AU 26 has no occurrence column: its intensity decides
FOLDER_OCCURRENCE_AUS = tuple(au for au in RENDERED_AUS if au != 26)
FOLDER_BEHAVIOUR = raised(replace(BP4D_BEHAVIOUR, coded=RENDERED_AUS), RATE_FACTOR)

# A task's traps are placed among the first subjects, so that adding subjects moves none of them.
TRAP_SUBJECTS = 4


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
    out: Path, *, subjects: int, frames: int | None, seed: int, size: int = 160, workers: int = 1
) -> None:
    """Write a raw BP4D tree: `subjects` x 8 tasks x `frames` coded frames, JPEG of `size` px.

    Where `frames` is None, every sequence has the frame numbers that the published coded run of
    this subject and task has, and every frame its picture: 146,847 for the 41 subjects.

    Raises:
        UserError: an argument out of range, a subject without a published run, or `out` is not
            empty or cannot be created.
        RunError: a worker process was killed.
    """
    check(subjects=subjects, frames=frames, seed=seed, size=size, workers=workers)
    people = choose_subjects("bp4d", subjects)
    runs = _runs(people, frames)
    out = new_folder(out)
    traps = _traps(people, BP4D_TASKS, seed, pictures=frames is not None)
    with finished_tree(out) as root:
        jobs = [
            Job(root, s, t, seed, length, size, traps.get((s, t), ()), first)
            for (s, t), (first, length) in runs.items()
        ]
        placed = run(_write_bp4d_sequence, jobs, workers)
        asked = {"coded_runs": True} if frames is None else {"frames": frames}
        more = {"tasks": len(BP4D_TASKS)}
        write_manifest(root, "bp4d", people, jobs, placed, frames=asked, more=more)


def _runs(people: Sequence[str], frames: int | None) -> dict[tuple[str, str], tuple[int, int]]:
    """(subject, task) -> number of the first frame (0 to draw it) and how many there are."""
    sequences = [(subject, task) for subject in people for task in BP4D_TASKS]
    if frames is not None:
        return dict.fromkeys(sequences, (0, frames))
    own = sum(map(len, PARTS["bp4d"]))
    if len(people) > own:
        raise UserError(
            f"--subjects={len(people)}: BP4D's coded runs are of {own} subjects; give at most "
            f"{own}, or --frames instead of --coded_runs"
        )
    coded = {s: BP4D_RUNS[s[0], int(s[1].removeprefix("T"))] for s in sequences}
    return {s: (first, last - first + 1) for s, (first, last) in coded.items()}


def write_disfa(
    out: Path, *, subjects: int, frames: int, seed: int, size: int = 160, workers: int = 1
) -> None:
    """Write a raw DISFA tree: a left-camera video of `frames` frames and 12 label files a subject.

    Occurrence rates are twice DISFA's (at most one half).

    Raises:
        UserError: an argument out of range, or `out` is not empty or cannot be created.
        RunError: a worker process was killed.
    """
    check(subjects=subjects, frames=frames, seed=seed, size=size, workers=workers)
    out = new_folder(out)
    people = choose_subjects("disfa", subjects)
    traps = _disfa_traps(people, seed)
    with finished_tree(out) as root:
        jobs = [Job(root, s, "video", seed, frames, size, traps.get(s, ())) for s in people]
        placed = run(_write_disfa_video, jobs, workers)
        more = {"rate_factor": RATE_FACTOR}
        write_manifest(root, "disfa", people, jobs, placed, frames={"frames": frames}, more=more)


def write_folder(
    out: Path, *, subjects: int, frames: int, seed: int, size: int = 160, workers: int = 1
) -> None:
    """Write a tree of the `folder` layout: two tasks of `frames` pictures a subject, labels.csv.

    All fifteen units of facs.py are coded, occurrence rates are twice BP4D's (at most one half).
    Every fourth subject's sex is left blank.

    Raises:
        UserError: an argument out of range, or `out` is not empty or cannot be created.
        RunError: a worker process was killed.
    """
    check(subjects=subjects, frames=frames, seed=seed, size=size, workers=workers)
    out = new_folder(out)
    people = tuple(f"{'FM'[k % 2]}{k + 1:02d}" for k in range(subjects))
    traps = _traps(people, FOLDER_TASKS, seed)
    with finished_tree(out) as root:
        jobs = [
            Job(root, s, t, seed, frames, size, traps.get((s, t), ()))
            for s in people
            for t in FOLDER_TASKS
        ]
        _write_csv(root / TABLE, _folder_rows(jobs, people))
        placed = run(_write_folder_sequence, jobs, workers)
        more = {"tasks": len(FOLDER_TASKS), "rate_factor": RATE_FACTOR}
        write_manifest(root, "folder", people, jobs, placed, frames={"frames": frames}, more=more)


def _folder_rows(jobs: Sequence[Job], people: Sequence[str]) -> Iterator[Sequence[int | str]]:
    """The rows of labels.csv; a label that is not known is a blank."""
    yield (
        *("image", "subject", "task", "frame", "sex", "fold"),
        *(f"AU{au}" for au in FOLDER_OCCURRENCE_AUS),
        *(f"AU{au}_intensity" for au in FOLDER_INTENSITY_AUS),
    )
    for job in jobs:
        plan, levels = _plan(job, RENDERED_AUS), job.scene(FOLDER_BEHAVIOUR).levels
        place = people.index(job.subject)
        sex = "" if place % 4 == 3 else draw_identity(job.seed, job.subject).sex
        codes = (levels >= FOLDER_BEHAVIOUR.on_level).astype(np.int64)
        unknown = slice(plan.unknown_rows.start, plan.unknown_rows.stop)
        codes[unknown, RENDERED_AUS.index(plan.unknown_au)] = UNKNOWN
        strong = _intensity(levels, codes)
        columns = [codes[:, RENDERED_AUS.index(au)] for au in FOLDER_OCCURRENCE_AUS]
        columns += [strong[:, RENDERED_AUS.index(au)] for au in FOLDER_INTENSITY_AUS]
        for number, cells in zip(plan.numbers, np.stack(columns, 1).tolist(), strict=True):
            image = plan.picture(_folder_of(job), number)
            labels = ("" if code == UNKNOWN else code for code in cells)
            yield (image, job.subject, job.task, number, sex, place % 3 + 1, *labels)


def _folder_of(job: Job) -> str:
    return f"{job.subject}/{job.task}"


def _write_folder_sequence(job: Job) -> Placed:
    plan = _plan(job, RENDERED_AUS)
    pictures = _write_pictures(job, job.scene(FOLDER_BEHAVIOUR), plan, _folder_of(job))
    return _unknown_codes(plan, TABLE) + pictures


def _traps(
    people: Sequence[str], tasks: Sequence[str], seed: int, *, pictures: bool = True
) -> dict[tuple[str, str], tuple[str, ...]]:
    """Which sequences have which traps; those that lose a frame only if `pictures`."""
    traps: dict[tuple[str, str], tuple[str, ...]] = {(people[0], tasks[0]): ("unknown_codes",)}
    if pictures and len(people) >= TRAP_SUBJECTS:
        rng = np.random.default_rng([seed, digest("traps")])
        for trap, subject in zip(
            ("missing_image", "truncated_image"),
            rng.permutation(np.arange(1, TRAP_SUBJECTS)),
            strict=False,
        ):
            traps[people[subject], tasks[rng.integers(len(tasks))]] = (trap,)
    return traps


@dataclass(frozen=True)
class _Plan:
    """What a sequence's pictures and codes look like, drawn before any is written.

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

    def picture(self, folder: str, number: int) -> str:
        """Where the picture of a frame goes."""
        return f"{folder}/{self.form.format(number)}.jpg"


def _plan(job: Job, aus: Sequence[int]) -> _Plan:
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
    return _Plan(range(first, first + job.frames), form, unknown_au, unknown_rows, spoiled)


def _write_bp4d_sequence(job: Job) -> Placed:
    sequence = job.scene(BP4D_BEHAVIOUR)
    plan = _plan(job, BP4D_AUS)
    placed = _write_bp4d_labels(job, sequence, plan)
    return placed + _write_pictures(job, sequence, plan, f"{SEQUENCES}/{job.subject}/{job.task}")


def _write_bp4d_labels(job: Job, sequence: Scene, plan: _Plan) -> Placed:
    name = f"{job.subject}_{job.task}"
    codes = np.full((job.frames, BP4D_COLUMNS), UNKNOWN, np.int64)
    codes[:, 0] = plan.numbers
    for au in BP4D_AUS:
        codes[:, au] = sequence.levels[:, RENDERED_AUS.index(au)] >= BP4D_BEHAVIOUR.on_level
    codes[plan.unknown_rows.start : plan.unknown_rows.stop, plan.unknown_au] = UNKNOWN
    _write_csv(job.root / OCCURRENCE / f"{name}.csv", [range(BP4D_COLUMNS), *codes.tolist()])
    for au in INTENSITY_AUS:
        levels = _intensity(sequence.levels[:, RENDERED_AUS.index(au)], codes[:, au])
        _write_csv(
            job.root / INTENSITY[1] / f"AU{au:02d}" / f"{name}_AU{au:02d}.csv",
            zip(plan.numbers, levels.tolist(), strict=True),
        )
    return _unknown_codes(plan, f"{name}.csv")


def _unknown_codes(plan: _Plan, file: str) -> Placed:
    if not plan.unknown_rows:
        return []
    detail = f"AU{plan.unknown_au} is unknown in {len(plan.unknown_rows)} rows"
    return [{"trap": "unknown_codes", "file": file, "detail": detail}]


def _write_pictures(job: Job, sequence: Scene, plan: _Plan, folder: str) -> Placed:
    """Writes a JPEG per frame into `folder`, below the tree's root."""
    (job.root / folder).mkdir(parents=True)
    face, noise = draw_identity(job.seed, job.subject), job.stream("noise")
    placed = []
    for k, number in enumerate(plan.numbers):
        where = plan.picture(folder, number)
        blob = encode_jpeg(sequence.picture(face, k, job.size, noise), JPEG_QUALITY)
        if k == plan.spoiled and "missing_image" in job.traps:
            detail = "coded, but there is no picture"
            placed.append({"trap": "missing_image", "file": where, "detail": detail})
            continue
        if k == plan.spoiled and "truncated_image" in job.traps:
            detail = "the second half of the file is cut off"
            placed.append({"trap": "truncated_image", "file": where, "detail": detail})
            blob = blob[: len(blob) // 2]
        (job.root / where).write_bytes(blob)
    return placed


def _intensity(levels: np.ndarray, occurrence: np.ndarray) -> np.ndarray:
    """Whole levels that agree with the codes: 0 when absent, 1-5 when present, 9 when unknown."""
    whole = np.clip(np.rint(levels), 1, 5).astype(np.int64) * (occurrence == 1)
    return np.where(occurrence == UNKNOWN, UNKNOWN, whole)


def _write_csv(path: Path, rows: Iterable[Sequence[int | str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def _disfa_traps(people: Sequence[str], seed: int) -> dict[str, tuple[str, ...]]:
    if len(people) < TRAP_SUBJECTS:
        return {}
    missing, short = np.random.default_rng([seed, digest("traps")]).permutation(TRAP_SUBJECTS)[:2]
    return {people[missing]: ("missing_labels",), people[short]: ("short_labels",)}


def _write_disfa_video(job: Job) -> Placed:
    sequence = job.scene(raised(DISFA_BEHAVIOUR, RATE_FACTOR))
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
