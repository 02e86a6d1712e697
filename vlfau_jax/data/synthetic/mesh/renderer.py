"""Renders a moving head in a scene: rasterised triangles, several lights, a shadow, a camera."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from vlfau_jax.data.synthetic.head import Array
from vlfau_jax.data.synthetic.identity import Identity
from vlfau_jax.data.synthetic.mesh.hand import hand
from vlfau_jax.data.synthetic.mesh.head import (
    Expression,
    Mesh,
    Person,
    deform,
    effects,
    join_parts,
    lid_shade,
    person,
    relief,
)
from vlfau_jax.data.synthetic.mesh.parts import clothes
from vlfau_jax.data.synthetic.mesh.raster import (
    SHADOW_SIZE,
    rasterize,
    shade,
    vertex_normals,
)
from vlfau_jax.data.synthetic.mesh.scene import Scene, background, develop
from vlfau_jax.data.synthetic.renderer import FACE_UNIT, LUMINANCE, Pose, rotation, towards

OVERSAMPLING = 1.3
FRONTAL = Pose()
PIVOT = (0.0, 0.35, 0.0)  # about which the head turns
SHADOW_REACH = 1.45  # face units from the pivot that the shadow map covers


@dataclass(frozen=True)
class View:
    """A head as a camera sees it.

    Attributes:
        points: places of the vertices turned by the pose, float32 [v, 3].
        screen: their pixels and nearness, float32 [v, 3].
        triangles: int32 [t, 3].
        closed: so many first ones are the skin.
        kind: int32 [t].
        paint: float32 [v, 5].
        texture_at: float32 [v, 2].
        turn: the pose's rotation, float32 [3, 3].
    """

    points: Array
    screen: Array
    triangles: Array
    closed: int
    kind: Array
    paint: Array
    texture_at: Array
    turn: Array


@dataclass(frozen=True)
class Staged:
    """A person with what is around them in a sequence.

    Attributes:
        mesh: of all; its first points are the person's, then the clothes', then a hand's.
        dressed: so many points, after the person's, do not move with the head.
    """

    mesh: Mesh
    dressed: int


@lru_cache(maxsize=4)
def _staged(face: Identity, colour: tuple[float, ...], collar: float, hand_seed: int) -> Staged:
    """Puts clothes on a person, and a hand before the face unless its seed is negative."""
    dress = clothes(np.array(colour), collar, face.sex)
    hands = hand(face, hand_seed) if hand_seed >= 0 else []
    mesh = join_parts(person(face).mesh, [dress, *hands])
    return Staged(mesh, dress.points.shape[0] * dress.points.shape[1])


def view(
    who: Person,
    moved: Array,
    expression: Expression,
    pose: Pose,
    distance: float,
    size: int,
    staged: Staged | None = None,
) -> View:
    """Places a person before the camera.

    Args:
        who: whose head it is.
        moved: effects of the units, see `effects`.
        expression: what it does.
        pose: how it is held.
        distance: of the camera, face units.
        size: pixels of the picture's side.
        staged: the same person with what is around them; None for the head alone.
    """
    mesh = staged.mesh if staged else who.mesh
    points = deform(who, moved, expression)
    paint = mesh.paint.copy()
    lid_shade(points, paint)
    turn = rotation(pose).astype(np.float32)
    points = (points - np.float32(PIVOT)) @ turn.T
    if staged:
        others = mesh.points[len(points) :] - np.float32(PIVOT)
        dress, held = others[: staged.dressed], others[staged.dressed :]
        points = np.concatenate([points, dress, held @ turn.T])
    return View(
        points,
        project(points, pose, distance, size),
        mesh.triangles,
        len(who.surface.triangles),
        mesh.kind,
        paint,
        mesh.texture_at,
        turn,
    )


def project(points: Array, pose: Pose, distance: float, size: int) -> Array:
    """Pixels and nearness of places about the pivot, float32 [v, 3]."""
    unit = FACE_UNIT * size * pose.scale
    nearer = np.float32(distance) / (np.float32(distance) - points[:, 2] + np.float32(0.7))
    screen = np.empty_like(points)
    screen[:, 0] = 0.5 * size + unit * (points[:, 0] * nearer + pose.shift_u)
    screen[:, 1] = 0.5 * size + unit * (points[:, 1] * nearer + PIVOT[1] - 0.06 + pose.shift_v)
    screen[:, 2] = points[:, 2]
    return screen


def _lights(scene: Scene) -> Array:
    """Unit vector to each light and its linear RGB, float32 [n, 6]."""
    rows = [(*towards(azimuth, up), *colour) for azimuth, up, *colour in scene.lights]
    return np.array(rows, np.float32)


def _shadow(seen: View, direction: Array) -> tuple[Array, Array]:
    """The shadow map of a light, and the view that leads to it."""
    x, y, z = direction
    flat = math.hypot(x, z) + 1e-9
    right = (z / flat, 0.0, -x / flat)
    down = (-y * x / flat, flat, -y * z / flat)
    scale = SHADOW_SIZE / (2 * SHADOW_REACH)
    matrix = np.zeros((3, 4), np.float32)
    matrix[0, :3], matrix[1, :3], matrix[2, :3] = (
        np.multiply(scale, right),
        np.multiply(scale, down),
        direction,
    )
    matrix[:2, 3] = SHADOW_SIZE / 2
    seen_by_light = (seen.points @ matrix[:, :3].T + matrix[:, 3]).astype(np.float32)
    _, share = rasterize(seen_by_light, seen.triangles, seen.closed, SHADOW_SIZE, SHADOW_SIZE)
    return np.ascontiguousarray(share[..., 2]), matrix


def _gaze(who: Person, expression: Expression, turn: Array) -> Array:
    """Centres of the eyeballs and the unit vectors of their gaze, float32 [2, 6]."""
    right, down = expression.gaze
    out = np.zeros((2, 6), np.float32)
    for k, side in enumerate((-1, 1)):
        inward = right - 0.03 * side
        direction = np.array(
            (math.sin(inward) * math.cos(down), math.sin(down), math.cos(inward) * math.cos(down))
        )
        out[k, :3] = turn @ (who.surface.eyes[k] - np.float32(PIVOT))
        out[k, 3:] = turn @ direction.astype(np.float32)
    return out


def render(
    face: Identity,
    expression: Expression,
    scene: Scene,
    *,
    pose: Pose = FRONTAL,
    size: int = 160,
    rng: np.random.Generator | None = None,
) -> Array:
    """Renders one face, uint8 [size, size, 3], RGB. Without `rng` there is no sensor noise."""
    who = person(face)
    moved, folded = effects(who, expression.levels)
    inner = math.ceil(OVERSAMPLING * size * max(0.5, scene.camera.pixels))
    distance = scene.camera.distance
    staged = _staged(face, scene.clothes, scene.collar, scene.hand)
    seen = view(who, moved, expression, pose, distance, inner, staged)
    normals = vertex_normals(seen.points, seen.triangles)
    found, share = rasterize(seen.screen, seen.triangles, seen.closed, inner, inner)
    lights = _lights(scene)
    shadow, shadow_view = _shadow(seen, lights[0, :3].astype(np.float64))
    iris = np.stack([np.square(np.float32(face.iris)), np.float32((0.60, 0.58, 0.56))])
    # Edges are mixed with what is behind them by the resampling in `develop`.
    picture = background(scene.background, inner).copy()
    shade(
        picture,
        found,
        share,
        seen.triangles,
        seen.kind,
        seen.points,
        normals,
        seen.paint,
        seen.texture_at,
        who.skin.texture,
        relief(who, folded),
        seen.turn,
        lights,
        np.float32(scene.ambient),
        _gaze(who, expression, seen.turn),
        iris.astype(np.float32),
        shadow,
        shadow_view,
        np.float32((0, 0, distance + 0.7)),
    )
    # The exposure compensates a part of the skin's luminance, as automatic exposure does.
    exposure = (0.45 / float(np.dot(np.square(face.skin), LUMINANCE))) ** 0.43
    return develop(picture, scene.camera, exposure, size, rng)
