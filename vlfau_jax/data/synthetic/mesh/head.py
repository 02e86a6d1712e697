"""A person's head, ready to move: surface, skin, folds and parts, built once and kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from vlfau_jax.data.synthetic.head import Array, ramp
from vlfau_jax.data.synthetic.identity import Identity
from vlfau_jax.data.synthetic.mesh.fields import add_patches
from vlfau_jax.data.synthetic.mesh.folds import FoldTable, Patch, draw_folds, fold_table
from vlfau_jax.data.synthetic.mesh.muscles import (
    MOVED_AUS,
    SIDES,
    displacements,
    jaw_weight,
    lip_weights,
)
from vlfau_jax.data.synthetic.mesh.parts import (
    EYE_GRID,
    INNER_PARTS,
    Part,
    build_parts,
    grid_triangles,
)
from vlfau_jax.data.synthetic.mesh.raster import SKIN, add_moves
from vlfau_jax.data.synthetic.mesh.skin import HEIGHT, WIDTH, Skin, draw_skin, hair_cover
from vlfau_jax.data.synthetic.mesh.surface import (
    COLUMNS,
    CREASE,
    EYEBALL,
    LID_GROOVE,
    LID_THICKNESS,
    LOWER_LID,
    LOWER_LIP,
    ROWS,
    UPPER_LID,
    UPPER_LIP,
    Surface,
    ball_height,
    build_surface,
)
from vlfau_jax.data.synthetic.mesh.traits import Traits, draw_traits
from vlfau_jax.data.synthetic.renderer import MAX_LEVEL, RENDERED_AUS

JAW_ANGLE = 0.40  # radians at level 5 of AU26
JAW_AXIS = (0.22, -0.12)  # y and z of the jaw's joint
VERTICES = ROWS * COLUMNS
INDEX = {au: k for k, au in enumerate(MOVED_AUS)}


@dataclass(frozen=True)
class Expression:
    """What a face does in one frame.

    Attributes:
        levels: of MOVED_AUS, FACS intensities 0-5, float64 [len(MOVED_AUS)].
        blink: 0, open, to 1, shut.
        gaze: to the viewer's right and down, radians.
    """

    levels: Array
    blink: float = 0.0
    gaze: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Mesh:
    """Vertices and triangles of a head, its parts among them, as one list.

    Attributes:
        points: places at rest, float32 [v, 3]; the skin's come first.
        triangles: int32 [t, 3].
        kind: int32 [t], see raster.py.
        paint: float32 [v, 5], see `raster.shade`.
        texture_at: float32 [v, 2].
        jaw: how far each vertex turns with the jaw, [v].
        mouth_end: the triangles before this one are skin, eyeballs, or what is in the mouth.
    """

    points: Array
    triangles: Array
    kind: Array
    paint: Array
    texture_at: Array
    jaw: Array
    mouth_end: int


@dataclass(frozen=True)
class Person:
    """A head that can move.

    Attributes:
        face: the identity that it was built from.
        traits: what else was drawn.
        surface: the skin at rest.
        skin: its textures.
        folds: unit -> patches of each side.
        fold_table: the same for `add_patches`, its amounts being those of `MOVED_AUS` on each side.
        moves: displacement of every vertex of the skin, [len(MOVED_AUS) * 2, VERTICES, 3].
        mesh: skin and parts.
    """

    face: Identity
    traits: Traits
    surface: Surface
    skin: Skin
    folds: dict[int, list[list[Patch]]]
    fold_table: FoldTable
    moves: Array
    mesh: Mesh


@lru_cache(maxsize=4)
def person(face: Identity) -> Person:
    """Builds the head of an identity."""
    traits = draw_traits(face)
    # Neutral faces differ more than those of the relief: brows by place, mouths by their corners.
    face = replace(
        face,
        brow_height=face.brow_height - traits.brow_up,
        brow_arch=face.brow_arch + traits.brow_arch,
        mouth_curve=face.mouth_curve + traits.mouth_curve,
        brow_colour=traits.dyed or face.brow_colour,
    )
    surface = build_surface(face, traits)
    skin = draw_skin(face, traits, surface)
    moves = displacements(face, surface).reshape(-1, VERTICES, 3)
    folds = draw_folds(face, skin.x, skin.y)
    table = fold_table(folds, MOVED_AUS)
    mesh = _assemble(face, traits, surface, build_parts(face, traits, surface))
    return Person(face, traits, surface, skin, folds, table, moves, mesh)


def _assemble(face: Identity, traits: Traits, surface: Surface, parts: list[Part]) -> Mesh:
    flat = surface.points.reshape(-1, 3).copy()
    x, y, z = surface.points[..., 0], surface.points[..., 1], surface.points[..., 2]
    # Hair stands a little off the scalp.
    thick = 0.5 * face.hair_volume * hair_cover(face, traits, x, y, z, 0.0)
    flat *= (1 + thick.reshape(-1, 1) * np.array((1, 1, 1), np.float32)).astype(np.float32)
    rows, columns = np.mgrid[0:ROWS, 0:COLUMNS]
    at = np.stack(
        [columns * ((WIDTH - 1) / (COLUMNS - 1)), rows * ((HEIGHT - 1) / (ROWS - 1))], -1
    ).reshape(-1, 2)
    skin = Mesh(
        flat,
        surface.triangles,
        np.full(len(surface.triangles), SKIN, np.int32),
        np.zeros((VERTICES, 5), np.float32),
        at.astype(np.float32),
        jaw_weight(face, surface).reshape(-1).astype(np.float32),
        0,
    )
    inside = join_parts(skin, parts[:INNER_PARTS])
    whole = join_parts(inside, parts[INNER_PARTS:])
    return replace(whole, mouth_end=len(inside.triangles))


def join_parts(mesh: Mesh, parts: list[Part]) -> Mesh:
    """Adds parts to a mesh, behind what it has."""
    counts = [part.points.shape[0] * part.points.shape[1] for part in parts]
    starts = np.cumsum([len(mesh.points), *counts])
    grids = [grid_triangles(*part.points.shape[:2]) for part in parts]
    moved = [grid + np.int32(start) for grid, start in zip(grids, starts[:-1], strict=True)]
    kinds = [np.full(len(g), p.kind, np.int32) for g, p in zip(grids, parts, strict=True)]
    jaws = [np.full(n, part.jaw, np.float32) for n, part in zip(counts, parts, strict=True)]
    return Mesh(
        np.concatenate([mesh.points, *(part.points.reshape(-1, 3) for part in parts)]),
        np.concatenate([mesh.triangles, *moved]),
        np.concatenate([mesh.kind, *kinds]),
        np.concatenate([mesh.paint, *(part.paint.reshape(-1, 5) for part in parts)]),
        np.concatenate([mesh.texture_at, np.zeros((sum(counts), 2), np.float32)]),
        np.concatenate([mesh.jaw, *jaws]),
        mesh.mouth_end,
    )


def effects(who: Person, levels: Array) -> tuple[Array, Array]:
    """How far each unit moves and folds the skin, [len(MOVED_AUS), 2] each, about 0-1.

    A face at rest may look like a unit already (`Traits.resting`); contraction goes on from there.
    """
    traits, n = who.traits, len(RENDERED_AUS)
    level = np.array(levels, np.float64)
    rest = np.array(traits.resting)
    level[:n] = level[:n] + rest * (1 - level[:n] / MAX_LEVEL)
    effect = np.clip(level / MAX_LEVEL, 0, 1)
    effect[:n] *= np.array(traits.strength)
    bias = np.concatenate([traits.bias, np.zeros(len(MOVED_AUS) - n)]) + who.face.asymmetry
    sides = effect[:, None] * (1 + bias[:, None] * np.array(SIDES))
    # Pressed or tightened lips do not part.
    closing = np.maximum(effect[INDEX[24]], 0.6 * effect[INDEX[23]])
    sides[INDEX[25]] *= 1 - 0.9 * min(1.0, closing)
    folded = sides.copy()
    folded[:n] *= np.array(traits.folding)[:, None] * (0.55 + 0.9 * traits.age)
    return np.clip(sides, 0, 1.35), np.clip(folded, 0, 1.6)


def deform(who: Person, moved: Array, expression: Expression) -> Array:
    """Places of all vertices under an expression, float32 [v, 3], in the head's axes."""
    points = who.mesh.points.copy()
    add_moves(points, who.moves, moved.reshape(-1).astype(np.float32))
    _drop_jaw(who, moved, points)
    grid = points[:VERTICES].reshape(ROWS, COLUMNS, 3)
    _close_lids(who, moved, expression, grid)
    _keep_lips_apart(who, grid)
    return points


def _drop_jaw(who: Person, moved: Array, points: Array) -> None:
    drop = JAW_ANGLE * float(moved[INDEX[26]].mean())
    if drop < 1e-3:
        return
    weight = who.mesh.jaw.copy()
    parted = min(1.0, 2.0 * float(moved[INDEX[25]].mean()))
    # Lips that do not part stay together while the jaw drops: the lower one follows by a third.
    _, lower = lip_weights()
    s = np.abs(who.surface.points[..., 0]) / who.face.mouth_width
    bow = np.clip(1 - s * s, 0, 1) ** 0.6
    held = 1 - 0.62 * (1 - parted) * lower[:, None] * bow
    weight[:VERTICES] *= held.reshape(-1).astype(np.float32)
    y, z = points[:, 1] - JAW_AXIS[0], points[:, 2] - JAW_AXIS[1]
    angle = drop * weight
    cos, sin = np.cos(angle), np.sin(angle)
    points[:, 1] = JAW_AXIS[0] + cos * y + sin * z
    points[:, 2] = JAW_AXIS[1] - sin * y + cos * z


def _close_lids(who: Person, moved: Array, expression: Expression, grid: Array) -> None:
    """Turns the lids about the eyeballs, by AU 5, 6, 7, 9 and 4, blink and gaze."""
    surface = who.surface
    e = {au: moved[INDEX[au]] for au in (1, 2, 4, 5, 6, 7, 9)}
    x0 = surface.points[UPPER_LID, :, 0]
    right = ramp(x0, -0.05, 0.05)
    columns = np.flatnonzero(np.abs(surface.opening) < 1.4)

    def here(values: Array) -> Array:
        return values[0] + (values[1] - values[0]) * right

    upper, lower = surface.lid_lines.astype(np.float64)
    squeeze = 1 - 0.30 * here(e[7]) - 0.14 * here(e[6]) - 0.15 * here(e[9]) - 0.10 * here(e[4])
    squeeze = squeeze + 0.28 * here(e[5]) + 0.10 * here(np.maximum(e[1], e[2]))
    rise = 0.52 * here(e[7]) + 0.34 * here(e[6]) + 0.22 * here(e[9])
    bow = np.clip(1 - np.square(surface.opening), 0, 1) ** 0.6
    look = 0.45 * expression.gaze[1] * EYEBALL * bow  # the upper lid follows the eye
    new_upper = upper * np.clip(squeeze, 0.2, 1.5) + look
    new_lower = lower * (1 - np.clip(rise, 0, 1.1)) + 0.3 * look
    # A lid that is nearly shut takes the other's form; blinking brings the upper one down.
    new_upper = np.minimum(new_upper, new_lower - 0.012 * bow)
    shut = expression.blink
    new_upper = new_upper + shut * (new_lower - new_upper)
    for rows, edge, base, target in (
        (np.arange(CREASE, UPPER_LID + 1), UPPER_LID, upper, new_upper),
        (np.arange(LOWER_LID, LID_GROOVE + 1), LOWER_LID, lower, new_lower),
    ):
        far = abs((CREASE if edge == UPPER_LID else LID_GROOVE) - edge)
        weight = (1 - np.abs(rows - edge) / far)[:, None]
        band = np.ix_(rows, columns)
        part = grid[band]
        # The edge is placed by this rule alone, whatever the skin around it did.
        place = surface.points[band][..., 1] + weight * (target - base)[columns]
        near = ramp(weight, 0.0, 0.8) * ramp(np.abs(surface.opening[columns]), 1.35, 1.0)
        part[..., 1] += near * (place - part[..., 1])
        part[..., 0] += near * (surface.points[band][..., 0] - part[..., 0])
        for k, side in enumerate(SIDES):
            mine = near * (side * part[..., 0] > 0)
            ball = ball_height(surface.eyes[k], part[..., 0], part[..., 1], EYEBALL + LID_THICKNESS)
            part[..., 2] += mine * (ball - part[..., 2])
        grid[band] = part


def _keep_lips_apart(who: Person, grid: Array) -> None:
    """Lips touch, but do not go through each other."""
    inside = who.surface.mouth > 0.5
    cross = np.maximum(grid[UPPER_LIP, inside, 1] - grid[LOWER_LIP, inside, 1], 0)
    if cross.max(initial=0) <= 0:
        return
    for edge, step in ((UPPER_LIP, -1), (LOWER_LIP, 1)):
        for k in range(4):
            grid[edge + step * k, inside, 1] += 0.5 * step * cross * (1 - k / 4)


def lid_shade(points: Array, paint: Array) -> None:
    """Writes the shade of the upper lids on the eyeballs into the sky of `paint`, float32 [v, 5].

    points: places of the vertices, [v, 3]; the skin's come first, then the eyeballs'.
    """
    upper = points[:VERTICES].reshape(ROWS, COLUMNS, 3)[UPPER_LID]
    eyes = slice(VERTICES, VERTICES + 2 * EYE_GRID * EYE_GRID)
    ball = points[eyes]
    order = np.argsort(upper[:, 0], kind="stable")
    edge = np.interp(ball[:, 0], upper[order, 0], upper[order, 1])
    paint[eyes, 4] = 1 - 0.6 * np.exp(-np.maximum(ball[:, 1] - edge, 0) / 0.04)


def relief(who: Person, folded: Array) -> Array:
    """The texture of an expression: height and occlusion, float32 [r, c, 2]."""
    out = who.skin.relief.copy()
    add_patches(out, *who.fold_table, folded.reshape(-1).astype(np.float32))
    return out
