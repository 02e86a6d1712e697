"""A hand before the face: a part of the rendered people hide a part of theirs."""

from __future__ import annotations

import numpy as np

from vlfau_jax.data.synthetic.head import Array, linear
from vlfau_jax.data.synthetic.identity import Identity
from vlfau_jax.data.synthetic.mesh.parts import Part, painted

FINGERS = 4


def hand(face: Identity, seed: int) -> list[Part]:
    """The parts of a hand that touches the face somewhere: four fingers and the palm."""
    rng = np.random.default_rng(seed)
    side = rng.choice((-1, 1))
    tip = np.array((side * rng.uniform(0.1, 0.6), rng.uniform(-0.2, 1.0), 0.95))
    away = np.array((side * rng.uniform(0.2, 0.9), rng.uniform(0.3, 1.0), -0.15))
    away /= np.linalg.norm(away)
    across = np.cross(away, (0.0, 0.0, 1.0))
    across /= np.linalg.norm(across)
    parts = []
    for k in range(FINGERS):
        start = tip + across * 0.115 * (k - 1.5) + away * 0.06 * abs(k - 1.4)
        parts.append(_capsule(face, start, start + 0.62 * away, 0.058))
    palm = tip + away * 0.95
    return [*parts, _capsule(face, palm - 0.30 * away, palm + 0.7 * away, 0.24)]


def _capsule(face: Identity, start: Array, end: Array, radius: float) -> Part:
    """A rod with round ends."""
    around, along = np.meshgrid(np.linspace(0, 2 * np.pi, 11), np.linspace(0, 1, 12))
    forward = (end - start) / np.linalg.norm(end - start)
    side = np.cross(forward, (0.0, 0.0, 1.0))
    side /= np.linalg.norm(side)
    up = np.cross(side, forward)
    thick = radius * np.sqrt(np.clip(1 - np.square(np.clip(1 - along / 0.18, 0, 1)), 0, 1))
    centre = start + along[..., None] * (end - start)
    ring = np.cos(around)[..., None] * side + np.sin(around)[..., None] * up
    points = centre + thick[..., None] * ring
    colour = linear(face.skin)[:, 0, 0] * (1.02, 0.94, 0.92)
    return Part(points.astype(np.float32), painted(points, colour, 0.15))
