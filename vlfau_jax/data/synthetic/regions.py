"""Where on the faces of a rendered tree each action unit shows, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vlfau_jax.data.crop.alignment import warp
from vlfau_jax.data.set_record import Rendering
from vlfau_jax.data.synthetic.identity import draw_identity
from vlfau_jax.data.synthetic.jobs import Job
from vlfau_jax.data.synthetic.scenes import DrawnSequence
from vlfau_jax.data.synthetic.trees import Layout, frame_runs

_CHANNELS = 4  # that `warp` takes at once


@dataclass(frozen=True)
class RenderedTree:
    """A raw tree of rendered faces, of which every frame can be drawn again.

    Attributes:
        layout: its layout.
        rendering: the arguments that it was written with.
    """

    layout: Layout
    rendering: Rendering
    _sequences: dict[tuple[str, str], Any] = field(default_factory=dict, repr=False, compare=False)

    def regions(
        self,
        subject: str,
        task: int,
        number: int,
        aus: Sequence[int],
        alignment: np.ndarray,
        size: int,
    ) -> np.ndarray:
        """The regions of units in the crop of one frame.

        Args:
            subject: whose frame it is.
            task: the number of its task, from 1.
            number: the picture's number.
            aus: n units.
            alignment: from picture to crop, as the prepared set has it, float32 [2, 3].
            size: pixels of the crop's side.

        Returns:
            bool [n, size, size]; all False for a unit that the renderer does not move.
        """
        job, first, sequence = self._sequence(subject, task)
        face = draw_identity(job.seed, subject)
        picture = sequence.regions(face, number - first, tuple(aus), job.size)
        crops = [
            warp(np.ascontiguousarray(picture[..., k : k + _CHANNELS]), alignment, size)
            for k in range(0, len(aus), _CHANNELS)
        ]
        crop = np.concatenate([c.reshape(size, size, -1) for c in crops], -1)
        return crop.transpose(2, 0, 1) >= 128

    def _sequence(self, subject: str, task: int) -> tuple[Job, int, DrawnSequence]:
        """The job that wrote a sequence, the number of its first picture, and what it shows."""
        key = (subject, self.layout.tasks[task - 1])
        if key not in self._sequences:
            r = self.rendering
            ((first, frames),) = (
                run
                for (_, name), run in frame_runs(self.layout, [subject], r.frames).items()
                if name == key[1]
            )
            job = Job(Path(), *key, r.seed, frames, r.size, (), first, r.renderer)
            sequence = job.sequence(self.layout.behaviour)
            self._sequences[key] = job, self.layout.first_number(job), sequence
        return self._sequences[key]
