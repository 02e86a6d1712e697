"""Where on a rendered face each action unit shows, exactly: what its muscles change.

A unit's region is where its contraction changes the picture: every point of the face plane whose
colour, under light from either side, changes between rest and some level of the unit by at least
`LEAST` of the most that any point changes. It is found for each identity, with all other units at
rest, and follows the pose of each frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from vlfau_jax.data.crop.alignment import warp
from vlfau_jax.data.set_record import Rendering
from vlfau_jax.data.synthetic.head import still_head
from vlfau_jax.data.synthetic.identity import Identity, draw_identity
from vlfau_jax.data.synthetic.jobs import Job
from vlfau_jax.data.synthetic.renderer import RENDERED_AUS, Light, Pose, draw_face, project, shade
from vlfau_jax.data.synthetic.trees import Layout, frame_runs

LEAST = 0.1  # of a unit's largest change
_LEVELS = (2.0, 3.5, 5.0)  # a moved brow or lip passes over places that it does not end on
_LIGHTS = (Light(azimuth=-20.0), Light(azimuth=20.0))
_CHANNELS = 4  # that `project` takes at once


@lru_cache(maxsize=64)
def plane_region(face: Identity, au: int, size: int) -> np.ndarray:
    """The region of a unit on the face plane of pictures of `size` pixels, bool [h, w]."""
    rest = _shaded(face, {}, size)
    changed = np.zeros(rest[0].shape[:2], np.float32)
    for level in _LEVELS:
        for before, after in zip(rest, _shaded(face, {au: level}, size), strict=True):
            changed = np.maximum(changed, np.abs(after - before).max(-1))
    return (changed > 0) & (changed >= LEAST * changed.max())


def _shaded(face: Identity, levels: dict[int, float], size: int) -> list[np.ndarray]:
    """The colours of the face plane, 0-1 as displayed, float32 [h, w, 3], in each light."""
    canvas = draw_face(face, levels, 0.0, (0.0, 0.0), size)
    planes = (shade(canvas, light, np.eye(3)) for light in _LIGHTS)
    return [np.sqrt(np.clip(plane[..., :3], 0, 1)) for plane in planes]


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
        job, first, poses = self._sequence(subject, task)
        face = draw_identity(job.seed, subject)
        head, pose = still_head(face, job.size), poses[number - first]
        nowhere = np.zeros((head.v.shape[0], head.u.shape[1]), bool)
        planes = np.stack(
            [plane_region(face, au, job.size) if au in RENDERED_AUS else nowhere for au in aus], -1
        ).astype(np.float32)
        found = []
        for start in range(0, len(aus), _CHANNELS):
            some = np.ascontiguousarray(planes[..., start : start + _CHANNELS])
            picture = project(head, some, pose, job.size)[0]
            picture = np.rint(255 * picture.reshape(job.size, job.size, -1)).astype(np.uint8)
            crop = warp(picture, alignment, size).reshape(size, size, -1)
            found.append(crop.transpose(2, 0, 1) >= 128)
        return np.concatenate(found)

    def _sequence(self, subject: str, task: int) -> tuple[Job, int, tuple[Pose, ...]]:
        """The job that wrote a sequence, the number of its first picture, and its poses."""
        key = (subject, self.layout.tasks[task - 1])
        if key not in self._sequences:
            r = self.rendering
            ((first, frames),) = (
                run
                for (_, name), run in frame_runs(self.layout, [subject], r.frames).items()
                if name == key[1]
            )
            job = Job(Path(), *key, r.seed, frames, r.size, (), first)
            poses = job.sequence(self.layout.behaviour).poses
            self._sequences[key] = job, self.layout.first_number(job), poses
        return self._sequences[key]
