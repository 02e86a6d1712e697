"""Renders a raw tree sequence by sequence, in processes, into a folder that appears when whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from zlib import crc32

import cv2
import numpy as np
from pydantic import Field
from tqdm import tqdm

from vlfau_jax.data.raw.listing import SYNTHETIC_MARK
from vlfau_jax.data.set_record import MESH, RELIEF, Rendering
from vlfau_jax.data.synthetic.dynamics import Behaviour
from vlfau_jax.data.synthetic.scenes import DrawnSequence, draw_sequence
from vlfau_jax.data.workers import Workers
from vlfau_jax.errors import FileError, UserError
from vlfau_jax.files import (
    RECORD_LIMIT,
    absolute_folder,
    created,
    named,
    read_bytes,
    replaced_folder,
)
from vlfau_jax.options import Seed, checked

GENERATOR = "vlfau_jax embedded faces"
VERSION = 1
NOTICE = "rendered faces; scores on them say nothing about BP4D or DISFA"

# Traps are placed among so many first subjects of a layout: more subjects move none of them.
TRAP_SUBJECTS = 4

Key = tuple[str, str]  # subject and task
Traps = dict[Key, tuple[str, ...]]
Placed = list[dict[str, str]]  # traps as SYNTHETIC.json lists them: trap, file, detail


@dataclass(frozen=True)
class Job:
    """One sequence to render: everything a worker process needs.

    `first` is the number of its first frame, or 0 if that is drawn at random; `renderer` is one of
    RENDERERS.
    """

    root: Path
    subject: str
    task: str
    seed: int
    frames: int
    size: int
    traps: tuple[str, ...]
    first: int = 0
    renderer: str = RELIEF

    def stream(self, purpose: str) -> np.random.Generator:
        """The random generator for one purpose, independent of all others."""
        return np.random.default_rng([self.seed, self._digest(purpose)])

    def sequence(self, behaviour: Behaviour) -> DrawnSequence:
        """Draws the movements and surroundings of this sequence."""
        draw = draw_sequence
        if self.renderer == MESH:
            # Imported here: only this renderer needs numba, which takes a second to import.
            from vlfau_jax.data.synthetic.mesh.sequence import draw_mesh_sequence as draw
        return draw(behaviour, (self.seed, self._digest("scene")), self.frames)

    def _digest(self, purpose: str) -> int:
        return digest(f"{self.subject}/{self.task}/{purpose}")


def digest(name: str) -> int:
    """CRC-32 of a name, the same on every machine."""
    return crc32(name.encode())


def check(*, subjects: int, frames: int | None, seed: int, size: int, workers: int) -> None:
    """Raises UserError for the first argument of `synthesize` that is out of range."""
    checked("--subjects", subjects, Annotated[int, Field(ge=1, le=100_000)])
    if frames is not None:
        checked("--frames", frames, Annotated[int, Field(ge=4, le=100_000)])
    checked("--seed", seed, Seed)
    checked("--size", size, Annotated[int, Field(ge=64, le=4096)])
    checked("--workers", workers, Annotated[int, Field(ge=1, le=256)])


def new_folder(out: Path) -> Path:
    """Makes `out` absolute. Raises UserError unless it can be created, or is empty and unused."""
    folder = absolute_folder("--out", out)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"--out={out} exists and is not an empty folder; name a new one")
    if folder == Path.cwd() or folder.is_mount():
        # The finished tree replaces the folder: a shell in it would be left in a deleted one.
        raise UserError(f"--out={out} is in use and cannot be replaced; name a folder in it")
    return folder


@contextmanager
def finished_tree(out: Path) -> Iterator[Path]:
    """Yields a folder beside `out` that is renamed to it once everything in it is written.

    Raises:
        UserError: another process is writing it, or `out` has become one with files.
        OSError: it names `out`, where a write that failed has no name.
    """
    with (
        created("--out", out.parent),
        replaced_folder(out, lambda folder: next((p.name for p in folder.iterdir()), None)) as root,
        named(out),
    ):
        yield root


def run(write: Callable[[Job], Placed], jobs: Sequence[Job], workers: int) -> Placed:
    """Renders every job, in `workers` processes; returns the traps that were placed."""
    placed: Placed = []
    processes = min(workers, len(jobs)) if workers > 1 else 0
    with (
        Workers(processes) as pool,
        tqdm(total=sum(job.frames for job in jobs), unit="frame", desc="faces") as bar,
    ):
        results = pool.starmap(partial(_write_single_threaded, write), ((job,) for job in jobs))
        for job, traps in zip(jobs, results, strict=True):
            placed += traps
            bar.update(job.frames)
    return placed


def _write_single_threaded(write: Callable[[Job], Placed], job: Job) -> Placed:
    cv2.setNumThreads(1)  # a process per core already
    return write(job)


def write_manifest(
    root: Path,
    layout: str,
    subjects: Sequence[str],
    jobs: Sequence[Job],
    placed: Placed,
    *,
    frames: dict[str, Any],
    more: dict[str, Any],
) -> None:
    """Writes SYNTHETIC.json: generator and arguments of the tree, and the traps in it.

    `frames` is the argument that set the sequences' lengths, `more` what else is counted.
    """
    job = jobs[0]
    manifest = {
        "notice": NOTICE,
        "generator": GENERATOR,
        "version": VERSION,
        "layout": layout,
        "arguments": {
            "subjects": len(subjects),
            **frames,
            "seed": job.seed,
            "size": job.size,
            # Left out for the relief, whose trees stay as they were, byte for byte.
            **({} if job.renderer == RELIEF else {"renderer": job.renderer}),
        },
        "counts": {
            "subjects": len(subjects),
            "sequences": len(jobs),
            "frames": sum(j.frames for j in jobs),
            **more,
        },
        "subjects": list(subjects),
        "traps": placed,
    }
    (root / SYNTHETIC_MARK).write_text(json.dumps(manifest, indent=1) + "\n")


def read_rendering(root: Path, layout: str) -> Rendering | None:
    """What the manifest of a raw tree says its frames were drawn with.

    None where there is none, or where it is not of this renderer and layout.
    """
    try:
        manifest = json.loads(read_bytes(root / SYNTHETIC_MARK, RECORD_LIMIT))
        given = manifest["arguments"]
        if (manifest["version"], manifest["layout"]) != (VERSION, layout):
            return None
        return Rendering(
            version=VERSION,
            seed=given["seed"],
            size=given["size"],
            frames=None if given.get("coded_runs") else given["frames"],
            renderer=given.get("renderer", RELIEF),
        )
    except (FileError, ValueError, KeyError, TypeError, AttributeError):
        return None
