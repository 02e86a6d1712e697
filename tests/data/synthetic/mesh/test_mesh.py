"""The head in three dimensions, held against what FACS says, references, and invariants."""

import dataclasses
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlfau_jax.data.raw.frames import decode_image
from vlfau_jax.data.raw.listing import SYNTHETIC_MARK
from vlfau_jax.data.synthetic.bp4d import BP4D_LAYOUT
from vlfau_jax.data.synthetic.dynamics import BP4D_BEHAVIOUR
from vlfau_jax.data.synthetic.folder import FOLDER_LAYOUT
from vlfau_jax.data.synthetic.identity import draw_identity
from vlfau_jax.data.synthetic.jobs import read_rendering
from vlfau_jax.data.synthetic.mesh import muscles, raster
from vlfau_jax.data.synthetic.mesh.head import (
    INDEX,
    JAW_ANGLE,
    MOVED_AUS,
    VERTICES,
    Expression,
    deform,
    effects,
    person,
)
from vlfau_jax.data.synthetic.mesh.regions import picture_regions
from vlfau_jax.data.synthetic.mesh.renderer import render
from vlfau_jax.data.synthetic.mesh.scene import Camera, Scene, draw_scene
from vlfau_jax.data.synthetic.mesh.sequence import MOST_TURN, POSED, draw_mesh_sequence
from vlfau_jax.data.synthetic.mesh.surface import (
    COLUMNS,
    LOWER_LID,
    LOWER_LIP,
    ROWS,
    UPPER_LID,
    UPPER_LIP,
)
from vlfau_jax.data.synthetic.regions import RenderedTree
from vlfau_jax.data.synthetic.renderer import FACE_UNIT, RENDERED_AUS, Pose
from vlfau_jax.data.synthetic.trees import write_tree

SIZE = 128
PLAIN = Scene(
    lights=((20.0, 30.0, 0.7, 0.7, 0.7),),
    ambient=((0.4, 0.4, 0.4), (0.3, 0.3, 0.3)),
    camera=Camera(12.0, 0.0, (0.0, 0.0), 0.0, 1.0, 1.0, 1.0, (1.0, 1.0, 1.0), 1.0),
    clothes=(0.1, 0.1, 0.2),
    collar=0.1,
    background=1,
    hand=-1,
)
# Where a unit's change of appearance lies, in face units (y from, y to, |x| to), after FACS.
WHERE = {
    1: (-0.75, 0.0, 0.50),
    2: (-0.75, 0.05, 0.80),
    4: (-0.60, 0.15, 0.75),
    6: (-0.30, 0.55, 0.85),
    7: (-0.25, 0.30, 0.75),
    9: (-0.45, 0.85, 0.50),
    10: (0.20, 0.95, 0.55),
    12: (0.10, 1.05, 0.75),
    14: (0.40, 1.00, 0.65),
    15: (0.50, 1.10, 0.60),
    17: (0.45, 1.35, 0.60),
    23: (0.40, 1.05, 0.60),
    24: (0.40, 1.05, 0.60),
    25: (0.50, 1.05, 0.50),
    26: (0.35, 1.45, 0.85),
}


def face_of(number=0, subject="F002"):
    return draw_identity(number, subject)


def expression(levels, **more):
    row = np.zeros(len(MOVED_AUS))
    for au, level in levels.items():
        row[INDEX[au]] = level
    return Expression(row, **more)


def grid_of(face, wanted):
    who = person(face)
    moved, _ = effects(who, wanted.levels)
    return deform(who, moved, wanted)[:VERTICES].reshape(ROWS, COLUMNS, 3)


@pytest.mark.parametrize("au", RENDERED_AUS)
def test_each_unit_changes_its_own_part_of_the_face_more_with_each_level(au):
    face = face_of(3, "M002")
    rest = render(face, expression({}), PLAIN, size=SIZE).astype(int)
    pictures = [render(face, expression({au: level}), PLAIN, size=SIZE) for level in (1, 3, 5)]
    change = [np.abs(picture - rest).sum(-1) for picture in pictures]
    unit = FACE_UNIT * SIZE
    grid = (np.arange(SIZE) + 0.5 - SIZE / 2) / unit
    x, y = grid[None], grid[:, None] + 0.06
    top, bottom, side = WHERE[au]
    inside = (y > top) & (y < bottom) & (np.abs(x) < side)
    amounts = [float(c[inside].sum()) for c in change]
    assert 0 < amounts[0] < amounts[1] < amounts[2]
    # A chin that drops uncovers and hides the neck, which is below its part.
    assert change[2][inside].sum() > (0.80 if au == 26 else 0.88) * change[2].sum()
    assert change[0].max() > 30, "the lowest level that coders mark is plain to see"


@pytest.mark.parametrize("pair", [(23, 24), (6, 7), (12, 14), (10, 9), (15, 17), (25, 26), (1, 2)])
def test_neighbouring_units_differ_from_each_other_about_as_much_as_from_rest(pair):
    face = face_of(3, "M002")
    rest, one, other = (
        render(face, expression(levels), PLAIN, size=SIZE).astype(int)
        for levels in ({}, {pair[0]: 4}, {pair[1]: 4})
    )
    assert np.abs(one - other).sum() > 0.6 * np.abs(one - rest).sum()


def test_what_facs_says_of_directions():
    face = face_of(3, "M002")
    rest = grid_of(face, expression({}))

    def moved(au, y, x):
        """Displacement of the vertex that rests nearest to (|x|, y), averaged over both sides."""
        after = grid_of(face, expression({au: 5.0}))
        out = []
        for side in (-1, 1):
            near = np.hypot(side * rest[..., 0] - x, rest[..., 1] - y) + 9 * (rest[..., 2] < 0)
            r, c = np.unravel_index(np.argmin(near), near.shape)
            out.append((after - rest)[r, c] * (side, 1, 1))
        return np.mean(out, 0)

    brow, mouth, corner = face.brow_height, face.mouth_height, face.mouth_width
    assert moved(1, brow, 0.17)[1] < -0.05 < moved(1, brow, 0.5)[1]
    assert moved(2, brow, 0.5)[1] < -0.05 < moved(2, brow, 0.12)[1]
    assert moved(4, brow, 0.2)[1] > 0.04 and moved(4, brow, 0.2)[0] < -0.02
    assert moved(12, mouth, corner)[1] < -0.05 and moved(12, mouth, corner)[0] > 0.04
    assert moved(15, mouth + 0.02, corner)[1] > 0.04
    assert moved(20, mouth, corner)[0] > 0.04
    assert moved(17, face.chin - 0.15, 0.0)[1] < -0.04
    assert moved(26, face.chin - 0.10, 0.0)[1] > 0.10
    assert moved(9, face.nose_length - 0.04, face.nose_width)[1] < -0.02
    assert moved(10, mouth - 0.08, 0.12)[1] < -0.03
    assert moved(14, mouth, corner + 0.04)[2] < -0.02


LEVELS = st.lists(
    st.floats(0, 5, allow_nan=False), min_size=len(MOVED_AUS), max_size=len(MOVED_AUS)
)


@settings(max_examples=40, deadline=None)
@given(LEVELS, st.floats(0, 1), st.integers(0, 5))
def test_lids_and_lips_never_cross_whatever_a_face_does(levels, blink, number):
    face = face_of(number, "F003")
    who = person(face)
    grid = grid_of(face, Expression(np.array(levels), blink, (0.1, 0.2)))
    assert np.isfinite(grid).all()
    eye = np.abs(who.surface.opening) < 1
    assert (grid[UPPER_LID, eye, 1] <= grid[LOWER_LID, eye, 1] + 0.02).all()
    mouth = who.surface.mouth > 0.5
    assert (grid[UPPER_LIP, mouth, 1] <= grid[LOWER_LIP, mouth, 1] + 1e-4).all()


def test_a_blink_shuts_the_eyes_and_au5_opens_them():
    face = face_of(3, "M002")
    who = person(face)
    middle = np.abs(who.surface.opening) < 0.5

    def gap(wanted):
        grid = grid_of(face, wanted)
        return float((grid[LOWER_LID, middle, 1] - grid[UPPER_LID, middle, 1]).mean())

    assert gap(expression({}, blink=1.0)) < 0.01
    assert gap(expression({5: 5})) > 1.1 * gap(expression({}))
    assert gap(expression({7: 5})) < 0.85 * gap(expression({}))
    assert gap(expression({6: 5})) < 0.95 * gap(expression({}))


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["F001", "M004", "SN001"]))
def test_a_head_is_whole_whoever_it_is(seed, subject):
    who = person(draw_identity(seed, subject))
    points = who.surface.points
    assert np.isfinite(who.mesh.points).all()
    assert np.isfinite(who.moves).all()
    front = points[2:-6, 20:-20]
    assert (np.diff(front[..., 0], axis=1) > 0).all(), "columns are in order"
    assert (np.diff(points[1 : UPPER_LID + 1, 30:-30, 1], axis=0) > -1e-6).all()
    # Its skin is seen from outside: normals lead away from the middle of the head.
    normals = raster.vertex_normals(who.mesh.points, who.surface.triangles)[:VERTICES]
    outward = points.reshape(-1, 3) - (0.0, 0.1, -0.1)
    facing = (normals * outward).sum(-1).reshape(ROWS, COLUMNS)[1:UPPER_LID, 10:-10]
    assert (facing > 0).mean() > 0.97
    colour, gloss = who.skin.texture[..., :3], who.skin.texture[..., 3]
    assert gloss.min() >= 0 and gloss.max() <= 2
    assert colour.min() > -0.02 and colour.max() < 1.5


def _reference(screen, triangles, size):
    """Every pixel's nearest triangle, by the inverse matrix of each, in float64."""
    found = np.full((size, size), -1)
    nearest = np.full((size, size), -np.inf)
    y, x = np.mgrid[0:size, 0:size] + 0.5
    for t, corners in enumerate(triangles):
        p = screen[corners].astype(np.float64)
        matrix = np.array([p[:, 0], p[:, 1], np.ones(3)])
        if abs(np.linalg.det(matrix)) < 1e-9:
            continue
        shares = np.linalg.inv(matrix) @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
        near = (p[:, 2] @ shares).reshape(size, size)
        inside = (shares.min(0) >= 0).reshape(size, size) & (near > nearest)
        found[inside], nearest[inside] = t, near[inside]
    return found, nearest


def test_the_rasteriser_equals_a_reference():
    rng = np.random.default_rng(0)
    screen = rng.uniform(-4, 36, (60, 3)).astype(np.float32)
    triangles = rng.integers(0, 60, (80, 3)).astype(np.int32)
    found, share = raster.rasterize(screen, triangles, 0, 32, 32)
    wanted, nearest = _reference(screen, triangles, 32)
    same = found == wanted
    assert same.mean() > 0.995, "they may differ on edges alone"
    shown = same & (wanted >= 0)
    np.testing.assert_allclose(share[..., 2][shown], nearest[shown], atol=1e-3)


def test_of_a_closed_surface_only_the_front_is_drawn():
    corners = np.array([(2, 2, 0), (20, 2, 0), (2, 20, 0)], np.float32)
    front, back = np.array([(0, 1, 2)], np.int32), np.array([(0, 2, 1)], np.int32)
    assert (raster.rasterize(corners, front, 1, 24, 24)[0] == 0).any()
    assert not (raster.rasterize(corners, back, 1, 24, 24)[0] == 0).any()
    assert (raster.rasterize(corners, back, 0, 24, 24)[0] == 0).any()


def test_a_nose_throws_a_shadow_away_from_the_light():
    face = face_of(3, "M002")
    lit = {}
    for azimuth in (-60.0, 60.0):
        scene = dataclasses.replace(PLAIN, lights=((azimuth, 20.0, 0.9, 0.9, 0.9),))
        lit[azimuth] = render(face, expression({}), scene, size=SIZE).astype(int).sum(-1)
    cheek = slice(int(0.52 * SIZE), int(0.62 * SIZE))
    left, right = (
        slice(int(0.36 * SIZE), int(0.46 * SIZE)),
        slice(int(0.54 * SIZE), int(0.64 * SIZE)),
    )
    assert lit[-60.0][cheek, left].mean() > lit[-60.0][cheek, right].mean() + 30
    assert lit[60.0][cheek, right].mean() > lit[60.0][cheek, left].mean() + 30


def test_pictures_are_the_same_wherever_they_are_drawn():
    face, other = face_of(1), face_of(2)
    sequence = draw_mesh_sequence(BP4D_BEHAVIOUR, (7, 8), 6)
    pictures = [sequence.picture(face, 3, 96, np.random.default_rng(5)) for _ in range(2)]
    sequence.picture(other, 2, 64, np.random.default_rng(6))
    again = draw_mesh_sequence(BP4D_BEHAVIOUR, (7, 8), 6)
    person.cache_clear()
    pictures.append(again.picture(face, 3, 96, np.random.default_rng(5)))
    assert pictures[0].shape == (96, 96, 3) and pictures[0].dtype == np.uint8
    assert all((p == pictures[0]).all() for p in pictures)


def test_sequences_pose_turn_and_move():
    sequences = [draw_mesh_sequence(BP4D_BEHAVIOUR, (1, k), 8) for k in range(120)]
    turns = np.array([(p.yaw, p.pitch, p.roll) for s in sequences for p in s.poses])
    assert (np.abs(turns) <= MOST_TURN).all()
    assert np.abs(turns[:, 0]).max() > 30
    levels = np.concatenate([s.levels for s in sequences])
    assert levels.min() >= 0 and levels.max() <= 5
    active = (levels >= 1).mean(0)
    assert (active > 0.03).all(), "every unit is seen"
    assert any(s.hidden.max() > 1 for s in sequences)
    assert set().union(*(units for units, _ in POSED)) <= set(MOVED_AUS)


def test_every_scene_can_be_rendered():
    for k in range(12):
        scene = draw_scene(np.random.default_rng(k))
        if k % 2:
            scene = dataclasses.replace(scene, hand=k)
        picture = render(
            face_of(k),
            expression({12: 3}),
            scene,
            pose=Pose(yaw=35, pitch=-10, roll=8),
            size=64,
            rng=np.random.default_rng(k),
        )
        assert picture.shape == (64, 64, 3) and picture.std() > 3


@pytest.mark.parametrize("au", RENDERED_AUS)
def test_a_units_region_is_where_it_changes_the_picture(au):
    face = face_of(3, "M002")
    pose = Pose(yaw=12, pitch=4)
    wanted = expression({au: 3.5})
    region = picture_regions(face, wanted, pose, PLAIN.camera.distance, (au,), SIZE)[..., 0] > 0
    rest = render(face, expression({}), PLAIN, pose=pose, size=SIZE).astype(int)
    change = np.abs(render(face, wanted, PLAIN, pose=pose, size=SIZE) - rest).sum(-1)
    near = cv2.dilate(region.astype(np.uint8), np.ones((7, 7))) > 0
    assert 0 < region.mean() < 0.2
    assert change[near].sum() > 0.75 * change.sum()
    assert change[near].mean() > 4 * change[~near].mean()


def test_a_unit_that_is_not_moved_has_no_region():
    regions = picture_regions(face_of(), expression({}), Pose(), 12.0, (12, 46), 64)
    assert regions.shape == (64, 64, 2) and regions[..., 0].any() and not regions[..., 1].any()


def test_the_layouts_behaviour_is_kept_where_nothing_is_posed():
    sequence = draw_mesh_sequence(BP4D_LAYOUT.behaviour, (3, 3), 5)
    assert sequence.levels.shape == (5, len(RENDERED_AUS))
    assert sequence.expression(2).levels.shape == (len(MOVED_AUS),)


def test_a_tree_of_heads_is_found_again_and_has_its_regions(tmp_path):
    out = tmp_path / "raw"
    write_tree(FOLDER_LAYOUT, out, subjects=2, frames=4, seed=3, size=96, renderer="mesh")
    rendering = read_rendering(out, "folder")
    assert rendering.renderer == "mesh"
    found = RenderedTree(FOLDER_LAYOUT, rendering)
    job, first, sequence = found._sequence("F01", 1)
    whole = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    regions = found.regions("F01", 1, first + 2, (12, 25), whole, 96)
    assert regions.shape == (2, 96, 96) and regions[0].any()
    picture = sequence.picture(draw_identity(3, "F01"), 0, 96, job.stream("noise"))
    (file,) = (out / "F01" / "1").glob(f"*{first}.jpg")
    written = decode_image(file.read_bytes()).astype(int)
    assert np.abs(written - picture).mean() < 12, "the file shows what is drawn again, but for JPEG"
    assert read_rendering(out, "bp4d") is None


def test_the_manifest_of_a_relief_does_not_name_it(tmp_path):
    out = tmp_path / "raw"
    write_tree(FOLDER_LAYOUT, out, subjects=1, frames=4, seed=0, size=64)
    assert "renderer" not in json.loads((out / SYNTHETIC_MARK).read_text())["arguments"]
    assert read_rendering(out, "folder").renderer == "relief"


def test_the_readme_tells_the_numbers_of_the_muscles():
    text = Path(muscles.__file__).with_name("README.md").read_text()
    rows = dict(re.findall(r"^\| AU(\d+) \| (.*?) \|", text, re.MULTILINE))
    assert list(rows) == [str(au) for au in RENDERED_AUS]
    table = muscles.pulls(face_of())
    for au in set(RENDERED_AUS) - {25, 26}:  # which are moved by rows and by an angle
        lengths = {f"{abs(x):.3f}"[1:] for pull in table[au] for x in pull.by}
        assert set(re.findall(r"\.\d{3}", rows[str(au)])) <= lengths, au
    assert f"{JAW_ANGLE:.2f}"[1:] in rows["26"]
    assert f"{ROWS} rows" in text and f"{COLUMNS} columns" in text and f"{VERTICES:,}" in text
