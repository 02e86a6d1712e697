"""Writes raw trees of rendered faces, with traps of the kind that a licence holder meets.

What the layouts of all data sets share: synthetic/<name>.py has what is special to each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

from vlfau_jax.data.set_record import RELIEF
from vlfau_jax.data.synthetic.dynamics import Behaviour
from vlfau_jax.data.synthetic.jobs import (
    Job,
    Key,
    Placed,
    Traps,
    check,
    finished_tree,
    new_folder,
    run,
    write_manifest,
)
from vlfau_jax.data.synthetic.people import write_people
from vlfau_jax.errors import UserError


def _no_table(root: Path, jobs: Sequence[Job]) -> None:
    pass


@dataclass(frozen=True)
class Layout:
    """How a raw tree of one data set is written.

    Attributes:
        name: the data set's name.
        tasks: one sequence of every subject each.
        choose_subjects: the first so many subject ids.
        place_traps: (subjects, seed, whether a trap may cost a frame) -> which sequences have which
            traps.
        behaviour: how its people move.
        first_number: the number of the first picture of a sequence.
        write_sequence: writes the files of one sequence and returns its traps; runs in a worker
            process.
        write_table: writes what the whole tree has once, before the sequences.
        coded_runs: (subject, task) -> published first and last frame; empty if none are.
        counts: what else SYNTHETIC.json counts.
    """

    name: str
    tasks: tuple[str, ...]
    choose_subjects: Callable[[int], tuple[str, ...]]
    place_traps: Callable[[Sequence[str], int, bool], Traps]
    behaviour: Behaviour
    first_number: Callable[[Job], int]
    write_sequence: Callable[[Job], Placed]
    write_table: Callable[[Path, Sequence[Job]], None] = _no_table
    coded_runs: Mapping[Key, tuple[int, int]] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)


def write_tree(
    layout: Layout,
    out: Path,
    *,
    subjects: int,
    frames: int | None,
    seed: int,
    size: int = 160,
    workers: int = 1,
    renderer: str = RELIEF,
) -> None:
    """Writes a raw tree: `subjects` x tasks x `frames` coded frames of `size` x `size` pixels.

    `renderer` is one of RENDERERS. Where `frames` is None, every sequence has the frame numbers of
    its published coded run, and every frame its picture.

    Raises:
        UserError: an argument out of range, a subject without a published run, or `out` is not
            empty or cannot be created.
        RunError: a worker process was killed.
    """
    check(subjects=subjects, frames=frames, seed=seed, size=size, workers=workers)
    names = layout.choose_subjects(subjects)
    runs = frame_runs(layout, names, frames)
    out = new_folder(out)
    traps = layout.place_traps(names, seed, frames is not None)
    with finished_tree(out) as root:
        jobs = [
            Job(root, s, t, seed, length, size, traps.get((s, t), ()), first, renderer)
            for (s, t), (first, length) in runs.items()
        ]
        layout.write_table(root, jobs)
        write_people(root, names, seed, renderer)
        placed = run(layout.write_sequence, jobs, workers)
        asked = {"coded_runs": True} if frames is None else {"frames": frames}
        more = dict(layout.counts)
        write_manifest(root, layout.name, names, jobs, placed, frames=asked, more=more)


def frame_runs(
    layout: Layout, subjects: Sequence[str], frames: int | None
) -> dict[Key, tuple[int, int]]:
    """(subject, task) -> number of the first frame (0 to draw it) and how many frames there are.

    Raises:
        UserError: `frames` is None, and a subject has no published run.
    """
    sequences = [(subject, task) for subject in subjects for task in layout.tasks]
    if frames is not None:
        return dict.fromkeys(sequences, (0, frames))
    own = len({subject for subject, _ in layout.coded_runs})
    if len(subjects) > own:
        raise UserError(
            f"--subjects={len(subjects)}: the published coded runs of {layout.name} are of {own} "
            f"subjects; give at most {own}, or --frames instead of --coded_runs"
        )
    coded = {s: layout.coded_runs[s] for s in sequences}
    return {s: (first, last - first + 1) for s, (first, last) in coded.items()}


def in_turn(parts: Sequence[Sequence[str]], extra: Iterable[str], number: int) -> tuple[str, ...]:
    """The first `number` subject ids: fold parts and sexes in turn, then `extra` ones.

    The extra ids are those that a data set does not have; they are in no fold.
    """
    sorted_parts = [_by_sex(part, "FM"[k % 2]) for k, part in enumerate(parts)]
    own = (s for s in chain.from_iterable(zip_longest(*sorted_parts)) if s is not None)
    return tuple(islice(chain(own, extra), number))


def _by_sex(part: Sequence[str], first: str) -> list[str]:
    """The part's subjects with the sexes in turn; ids without a sex letter keep their order."""
    if not {s[0] for s in part} <= {"F", "M"}:
        return list(part)
    women, men = ([s for s in part if s[0] == sex] for sex in "FM")
    turns = zip_longest(*((women, men) if first == "F" else (men, women)))
    return [s for s in chain.from_iterable(turns) if s is not None]
