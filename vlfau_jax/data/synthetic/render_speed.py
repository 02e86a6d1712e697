"""Measures how many faces a core renders in a second.

python -m vlfau_jax.data.synthetic.render_speed --renderer=mesh --people=8 --frames=12

The time is that of the processor, not of the clock: other programs matter less.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import cv2
from pydantic import Field

from vlfau_jax.data.raw.frames import encode_jpeg
from vlfau_jax.data.set_record import MESH, RENDERERS
from vlfau_jax.data.synthetic.dynamics import BP4D_BEHAVIOUR
from vlfau_jax.data.synthetic.identity import draw_identity
from vlfau_jax.data.synthetic.jobs import Job, check
from vlfau_jax.data.synthetic.pictures import JPEG_QUALITY
from vlfau_jax.errors import UserError, outcome
from vlfau_jax.options import checked


@dataclass(frozen=True)
class Cost:
    """Seconds of one core for the sequence of one person.

    Attributes:
        frames: of the sequence.
        first: drawing the sequence and its first frame, for which the person is built.
        others: the frames after it.
        encoding: all frames as JPEG.
    """

    frames: int
    first: float
    others: float
    encoding: float

    @property
    def drawing(self) -> float:
        """Seconds of one frame of a person that has been built."""
        return self.others / (self.frames - 1)

    @property
    def rates(self) -> tuple[float, float, float]:
        """Frames a second: drawing alone, with building the person, and with JPEG, too."""
        whole = self.first + self.others
        seconds = (self.drawing * self.frames, whole, whole + self.encoding)
        return tuple(self.frames / s for s in seconds)


def measure(renderer: str, person: int, frames: int, size: int) -> Cost:
    """Renders one sequence of a person who was not rendered before; frames from 2."""
    subject = f"{'FM'[person % 2]}{person:03d}"
    job = Job(Path(), subject, "T1", person, frames, size, (), renderer=renderer)
    noise = job.stream("noise")
    start = time.process_time()
    sequence = job.sequence(BP4D_BEHAVIOUR)
    face = draw_identity(job.seed, subject)
    pictures = [sequence.picture(face, 0, size, noise)]
    built = time.process_time()
    pictures += [sequence.picture(face, k, size, noise) for k in range(1, frames)]
    drawn = time.process_time()
    for picture in pictures:
        encode_jpeg(picture, JPEG_QUALITY)
    return Cost(frames, built - start, drawn - built, time.process_time() - drawn)


def report(costs: Sequence[Cost]) -> str:
    """Lines of text: the medians over people."""
    drawing, people, encoding = (
        median(rates) for rates in zip(*(c.rates for c in costs), strict=True)
    )
    building = 1000 * median(cost.first - cost.drawing for cost in costs)
    return "\n".join(
        (
            f"{drawing:7.1f} frames per second of a core: drawing alone",
            f"{people:7.1f} with building people, one per {costs[0].frames} frames",
            f"{encoding:7.1f} with JPEG encoding, too",
            f"{building:7.1f} ms before a first frame: its person and scene",
        )
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Renders, and prints the frames per second; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--renderer", choices=RENDERERS, default=MESH)
    parser.add_argument("--frames", type=int, default=12, help="of each person")
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--size", type=int, default=160, help="pixels of a side")
    given = parser.parse_args(argv)
    try:
        checked("--people", given.people, Annotated[int, Field(ge=1, le=1000)])
        check(subjects=given.people, frames=given.frames, seed=0, size=given.size, workers=1)
    except UserError as error:
        line, code = outcome(error)
        print(line, file=sys.stderr)
        return code
    cv2.setNumThreads(1)
    measure(given.renderer, 0, 4, given.size)  # compiles
    costs = [measure(given.renderer, 1 + k, given.frames, given.size) for k in range(given.people)]
    print(report(costs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
