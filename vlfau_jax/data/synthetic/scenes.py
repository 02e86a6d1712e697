"""Draws a whole sequence: muscle levels, pose, light, wall, clothes, blinks and gaze."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vlfau_jax.data.synthetic.dynamics import Behaviour, draw_tracks, smooth_noise
from vlfau_jax.data.synthetic.identity import Colour, Identity
from vlfau_jax.data.synthetic.plane_regions import picture_regions
from vlfau_jax.data.synthetic.renderer import Backdrop, Light, Pose, render

BLINK = (0.35, 0.85, 1.0, 0.8, 0.4)  # lid closure over five frames, 0.2 s at 25 a second
BLINKS_A_FRAME = 1 / 60


class DrawnSequence(Protocol):
    """What every renderer's sequences have; shapes as in `RenderedSequence`."""

    @property
    def levels(self) -> np.ndarray:
        """FACS levels of RENDERED_AUS in each frame."""

    def picture(
        self, face: Identity, frame: int, size: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Renders one frame, uint8 [size, size, 3] RGB."""

    def regions(self, face: Identity, frame: int, aus: tuple[int, ...], size: int) -> np.ndarray:
        """Where each unit shows in a frame, uint8 [size, size, len(aus)], 255 inside."""


@dataclass(frozen=True)
class RenderedSequence:
    """One subject's task, ready to render.

    levels: FACS levels float32 [frames, 15], in the order of RENDERED_AUS. poses: one a frame.
    blink: [frames], 0 (open) to 1 (shut). gaze: [frames, 2], see `render`.
    """

    levels: np.ndarray
    poses: tuple[Pose, ...]
    blink: np.ndarray
    gaze: np.ndarray
    light: Light
    backdrop: Backdrop

    def picture(
        self, face: Identity, frame: int, size: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Renders one frame, uint8 [size, size, 3] RGB."""
        return render(
            face,
            self.levels[frame],
            pose=self.poses[frame],
            light=self.light,
            backdrop=self.backdrop,
            blink=float(self.blink[frame]),
            gaze=(float(self.gaze[frame, 0]), float(self.gaze[frame, 1])),
            size=size,
            rng=rng,
        )

    def regions(self, face: Identity, frame: int, aus: tuple[int, ...], size: int) -> np.ndarray:
        """Where each unit shows in a frame, uint8 [size, size, len(aus)], 255 inside."""
        return picture_regions(face, self.poses[frame], aus, size)


def _colour(rng: np.random.Generator, low: float, high: float, vividness: float) -> Colour:
    grey = rng.uniform(low, high)
    r, g, b = (float(x) for x in np.clip(grey + vividness * rng.uniform(-1, 1, 3), 0.03, 0.97))
    return r, g, b


def _light(rng: np.random.Generator) -> Light:
    warmth = float(rng.uniform(-0.10, 0.12))
    return Light(
        azimuth=float(rng.uniform(-50, 50)),
        elevation=float(rng.uniform(5, 45)),
        key=float(rng.uniform(0.60, 1.05)),
        ambient=float(rng.uniform(0.28, 0.50)),
        colour=(1 + warmth, 1.0, 1 - warmth),
    )


def _backdrop(rng: np.random.Generator) -> Backdrop:
    top = _colour(rng, 0.25, 0.85, 0.11)
    r, g, b = (min(0.97, max(0.03, x * float(rng.uniform(0.7, 1.1)))) for x in top)
    return Backdrop(
        top=top,
        bottom=(r, g, b),
        slant=float(rng.uniform(-0.3, 0.3)),
        clothes=_colour(rng, 0.1, 0.8, 0.25),
        collar=float(rng.uniform(0, 0.2)),
        noise=float(rng.uniform(0.8, 3.0)),
    )


def _poses(rng: np.random.Generator, frames: int) -> tuple[Pose, ...]:
    home, spot = np.clip(rng.normal(size=(2, 3)), -1.7, 1.7)
    sway = smooth_noise(rng, frames, 6, 10.0)
    turn = home * (7.0, 4.5, 3.5) + sway[:, :3] * (2.5, 1.8, 1.2)
    turn = np.clip(turn, (-15, -10, -8), (15, 10, 8))
    place = spot * (0.06, 0.04, 0.03) + sway[:, 3:] * (0.015, 0.012, 0.006)
    return tuple(
        Pose(float(a), float(b), float(c), float(x), float(y), float(1 + z))
        for (a, b, c), (x, y, z) in zip(turn, place, strict=True)
    )


def draw_blinks(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Draws how far the lids are shut in each frame, 0-1 [frames]."""
    lid = np.zeros(frames + 2 * len(BLINK))
    for start in np.flatnonzero(rng.random(frames + len(BLINK)) < BLINKS_A_FRAME):
        lid[start : start + len(BLINK)] = np.maximum(lid[start : start + len(BLINK)], BLINK)
    return lid[len(BLINK) : len(BLINK) + frames]


def draw_sequence(behaviour: Behaviour, seed: tuple[int, ...], frames: int) -> RenderedSequence:
    """Draws a task's muscle levels and surroundings; all of it depends on `seed` alone."""
    streams = np.random.default_rng(seed).spawn(6)
    return RenderedSequence(
        levels=draw_tracks(behaviour, streams[0], frames),
        poses=_poses(streams[1], frames),
        blink=draw_blinks(streams[2], frames),
        gaze=np.clip(
            streams[3].normal(0, (0.018, 0.008), 2)
            + smooth_noise(streams[4], frames, 2, 5.0) * (0.012, 0.005),
            -0.05,
            0.05,
        ),
        light=_light(streams[5]),
        backdrop=_backdrop(streams[5]),
    )
