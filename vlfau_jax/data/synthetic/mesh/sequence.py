"""Draws a whole sequence of a head in three dimensions: muscles, pose, gaze, blinks and scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlfau_jax.data.synthetic.dynamics import Behaviour, draw_tracks, smooth_noise
from vlfau_jax.data.synthetic.head import ramp
from vlfau_jax.data.synthetic.identity import Identity
from vlfau_jax.data.synthetic.mesh.head import Expression
from vlfau_jax.data.synthetic.mesh.muscles import UNLABELLED
from vlfau_jax.data.synthetic.mesh.regions import picture_regions
from vlfau_jax.data.synthetic.mesh.renderer import render
from vlfau_jax.data.synthetic.mesh.scene import Scene, draw_scene
from vlfau_jax.data.synthetic.renderer import MAX_LEVEL, RENDERED_AUS, Pose
from vlfau_jax.data.synthetic.scenes import draw_blinks

# Expressions that people pose, as FACS writes them (EMFACS' combinations, Ekman and Friesen 1983);
# of each unit the share of poses that have it.
POSED = (
    ({6: 0.8, 12: 1.0, 25: 0.7, 26: 0.2}, 3),  # joy
    ({1: 1.0, 2: 1.0, 5: 0.8, 25: 0.9, 26: 0.9}, 3),  # surprise
    ({1: 1.0, 2: 0.8, 4: 0.8, 5: 0.8, 20: 0.6, 25: 0.7, 26: 0.4}, 1),  # fear
    ({1: 1.0, 4: 0.8, 15: 0.9, 17: 0.6, 6: 0.2}, 2),  # sadness
    ({4: 1.0, 5: 0.5, 7: 0.8, 10: 0.3, 17: 0.4, 23: 0.7, 24: 0.5, 25: 0.15}, 2),  # anger
    ({9: 0.9, 10: 0.7, 4: 0.5, 7: 0.4, 17: 0.4, 25: 0.4, 16: 0.2}, 2),  # disgust
    ({14: 1.0, 12: 0.3, 10: 0.2}, 1),  # contempt
    ({4: 0.9, 6: 0.6, 7: 0.8, 9: 0.6, 10: 0.4, 25: 0.4}, 1),  # pain
    ({1: 0.8, 2: 1.0}, 1),  # brows raised, in speech
    ({25: 1.0, 26: 0.6, 18: 0.3}, 1),  # speech
)
POSED_SHARE, FREE_SHARE = 0.40, 0.30  # of the sequences; the rest move as the data set's people
WIDE_SHARE = 0.2
CALM = 0.25  # factor of the data set's movements below a posed expression
MOST_TURN = (40.0, 25.0, 25.0)  # yaw, pitch, roll in degrees
TURN, SWAY = (13.0, 8.0, 6.0), (3.0, 2.2, 1.5)


@dataclass(frozen=True)
class MeshSequence:
    """One subject's task, ready to render.

    levels: FACS levels float32 [frames, 15], in the order of RENDERED_AUS. hidden: those of
    UNLABELLED. poses: one a frame. blink: [frames], 0 (open) to 1 (shut). gaze: radians
    [frames, 2].
    """

    levels: np.ndarray
    hidden: np.ndarray
    poses: tuple[Pose, ...]
    blink: np.ndarray
    gaze: np.ndarray
    scene: Scene

    def expression(self, frame: int) -> Expression:
        """What the face does in a frame."""
        levels = np.concatenate([self.levels[frame], self.hidden[frame]]).astype(np.float64)
        right, down = (float(x) for x in self.gaze[frame])
        return Expression(levels, float(self.blink[frame]), (right, down))

    def picture(
        self, face: Identity, frame: int, size: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Renders one frame, uint8 [size, size, 3] RGB."""
        return render(
            face, self.expression(frame), self.scene, pose=self.poses[frame], size=size, rng=rng
        )

    def regions(self, face: Identity, frame: int, aus: tuple[int, ...], size: int) -> np.ndarray:
        """Where each unit shows in a frame, uint8 0 or 255 [size, size, len(aus)]."""
        return picture_regions(
            face,
            self.expression(frame),
            self.poses[frame],
            self.scene.camera.distance,
            aus,
            size,
        )


def draw_mesh_sequence(behaviour: Behaviour, seed: tuple[int, ...], frames: int) -> MeshSequence:
    """Draws a task's movements and surroundings; all of it depends on `seed` alone."""
    streams = np.random.default_rng(seed).spawn(7)
    levels = draw_tracks(behaviour, streams[0], frames)
    hidden = np.zeros((frames, len(UNLABELLED)), np.float32)
    kind = streams[1].random()
    if kind < POSED_SHARE + FREE_SHARE:
        posed = _posed_units(streams[1]) if kind < POSED_SHARE else _free_units(streams[1])
        envelope = _envelope(streams[1], frames)
        levels *= np.float32(CALM)
        for au, level in posed.items():
            track = level * envelope
            if au in UNLABELLED:
                hidden[:, UNLABELLED.index(au)] = track
            else:
                column = levels[:, RENDERED_AUS.index(au)]
                np.maximum(column, track, out=column)
    # Eyes are wide or narrow for many reasons: what opens them says nothing of the brows.
    if streams[1].random() < WIDE_SHARE:
        wide = streams[1].uniform(1.0, MAX_LEVEL) * _envelope(streams[1], frames)
        column = hidden[:, UNLABELLED.index(5)]
        np.maximum(column, wide, out=column)
    gaze = streams[4].normal(0, (0.20, 0.10), 2) + smooth_noise(streams[5], frames, 2, 5.0) * (
        0.08,
        0.05,
    )
    return MeshSequence(
        levels=levels,
        hidden=hidden,
        poses=_poses(streams[2], frames),
        blink=draw_blinks(streams[3], frames),
        gaze=np.clip(gaze, (-0.5, -0.3), (0.5, 0.35)),
        scene=draw_scene(streams[6]),
    )


def _posed_units(rng: np.random.Generator) -> dict[int, float]:
    """Draws the units of a posed expression, and their levels at the apex."""
    weight = np.array([w for _, w in POSED], float)
    shares, _ = POSED[rng.choice(len(POSED), p=weight / weight.sum())]
    strength = rng.uniform(0.5, 1.0)
    return {
        au: float(np.clip(MAX_LEVEL * strength * rng.uniform(0.6, 1.1), 1.2, MAX_LEVEL))
        for au, share in shares.items()
        if rng.random() < share
    }


def _free_units(rng: np.random.Generator) -> dict[int, float]:
    """Draws one to three units, whichever they are: alone, and in combinations that are rare."""
    chosen = rng.choice(RENDERED_AUS + UNLABELLED, rng.integers(1, 4), replace=False)
    return {int(au): float(rng.uniform(1.2, MAX_LEVEL)) for au in chosen}


def _envelope(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Onset, apex and offset of an expression, 0-1 [frames]; a part of the sequence is neutral."""
    time = np.arange(frames) / max(1, frames - 1)
    start, end = np.sort(rng.uniform(-0.2, 1.2, 2))
    rise, fall = rng.uniform(0.05, 0.3, 2)
    return ramp(time, start - rise, start + rise) * ramp(time, end + 0.3 + fall, end + 0.3 - fall)


def _poses(rng: np.random.Generator, frames: int) -> tuple[Pose, ...]:
    home, spot = np.clip(rng.normal(size=(2, 3)), -2.4, 2.4)
    size = float(np.exp(rng.uniform(-0.15, 0.25)))
    sway = smooth_noise(rng, frames, 6, 10.0)
    turn = home * TURN + sway[:, :3] * SWAY
    turn = np.clip(turn, -np.array(MOST_TURN), MOST_TURN)
    place = spot * (0.08, 0.06, 0.0) + sway[:, 3:] * (0.015, 0.012, 0.006)
    return tuple(
        Pose(float(a), float(b), float(c), float(x), float(y), float(size + z))
        for (a, b, c), (x, y, z) in zip(turn, place, strict=True)
    )
