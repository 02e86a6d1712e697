"""Where a rendered face's units show: held against the pictures themselves."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from tests.data.rendered import true_eyes
from vlfau_jax.data.crop.alignment import EYE_POSITIONS, alignment_of, pose_of
from vlfau_jax.data.crop.face import Face
from vlfau_jax.data.raw.frames import decode_image
from vlfau_jax.data.raw.listing import SYNTHETIC_MARK
from vlfau_jax.data.set_record import Rendering
from vlfau_jax.data.synthetic.bp4d import BP4D_LAYOUT
from vlfau_jax.data.synthetic.disfa import DISFA_LAYOUT
from vlfau_jax.data.synthetic.folder import FOLDER_LAYOUT
from vlfau_jax.data.synthetic.identity import draw_identity
from vlfau_jax.data.synthetic.jobs import VERSION, read_rendering
from vlfau_jax.data.synthetic.regions import RenderedTree
from vlfau_jax.data.synthetic.renderer import RENDERED_AUS, Pose, render
from vlfau_jax.data.synthetic.trees import write_tree
from vlfau_jax.regions import template

SIZE, FRAMES = 96, 5
WHOLE = np.array([[1, 0, 0], [0, 1, 0]], np.float32)


def tree(layout, frames=FRAMES):
    return RenderedTree(layout, Rendering(version=VERSION, seed=0, size=SIZE, frames=frames))


def of_frame(layout, subject, task, aus=RENDERED_AUS, alignment=WHOLE, size=SIZE):
    """Regions on the third picture of a sequence, its pose, and whose face it is."""
    found = tree(layout)
    job, first, sequence = found._sequence(subject, task)
    regions = found.regions(subject, task, first + 2, aus, alignment, size)
    return regions, sequence.poses[2], draw_identity(job.seed, subject)


@pytest.mark.parametrize("au", RENDERED_AUS)
def test_a_unit_changes_the_picture_in_its_region(au):
    regions, pose, face = of_frame(BP4D_LAYOUT, "F004", 3, (au,))
    rest = render(face, {}, pose=pose, size=SIZE).astype(int)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    near = cv2.dilate(regions[0].astype(np.uint8), disc) > 0
    for level in (2.0, 5.0):
        changed = np.abs(render(face, {au: level}, pose=pose, size=SIZE) - rest).sum(-1)
        assert changed[near].sum() > 0.85 * changed.sum()
        assert changed[near].mean() > 5 * changed[~near].mean()
    assert 0 < regions.mean() < 0.3


def test_a_region_follows_the_head():
    """Eyes lie in the region of AU 7 of every pose, and it moves with them."""
    for subject, task in (("F004", 1), ("M001", 2), ("F001", 5)):
        regions, pose, face = of_frame(BP4D_LAYOUT, subject, task, (7,))
        for x, y in true_eyes(face, pose, SIZE):
            assert regions[0, round(y) - 3 : round(y) + 4, round(x) - 3 : round(x) + 4].any()
        ys, xs = np.nonzero(regions[0])
        middle = true_eyes(face, pose, SIZE).mean(0)
        assert np.hypot(xs.mean() - middle[0], ys.mean() - middle[1]) < 0.05 * SIZE


def test_a_region_is_cropped_as_its_picture_is():
    shifted = np.array([[0.5, 0, 4], [0, 0.5, -7]], np.float32)
    whole, *_ = of_frame(BP4D_LAYOUT, "F004", 3)
    crop, *_ = of_frame(BP4D_LAYOUT, "F004", 3, alignment=shifted, size=48)
    for region, small in zip(whole, crop, strict=True):
        there = cv2.warpAffine(region.astype(np.float32), shifted, (48, 48)) > 0.5
        assert (there != small).mean() < 0.02


def test_units_that_the_renderer_does_not_move_have_no_region():
    regions, *_ = of_frame(BP4D_LAYOUT, "F004", 3, (5, 12, 99))
    assert [bool(one.any()) for one in regions] == [False, True, False]


def test_the_prior_of_faces_agrees():
    """Most of a rendered region is near that of `vlfau_jax.regions`, which knows no renderer."""
    pose, face = Pose(), draw_identity(0, "M005")
    eyes = true_eyes(face, pose, SIZE)
    parameters = EYE_POSITIONS | {"max_angle": 30.0}
    alignment = alignment_of(pose_of(Face((0, 0, SIZE, SIZE), eyes), parameters), 112)
    found = tree(BP4D_LAYOUT)
    job, first, sequence = found._sequence("M005", 1)
    found._sequences["M005", "T1"] = job, first, replace(sequence, poses=(pose,))
    regions = found.regions("M005", 1, first, RENDERED_AUS, alignment, 112)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (31, 31))
    for au, region in zip(RENDERED_AUS, regions, strict=True):
        prior = cv2.dilate(template(au, EYE_POSITIONS, 112).astype(np.uint8), disc) > 0
        assert (region & prior).sum() > 0.6 * region.sum(), au


@pytest.mark.parametrize("layout", [BP4D_LAYOUT, DISFA_LAYOUT, FOLDER_LAYOUT])
@pytest.mark.parametrize("coded_runs", [False, True])
def test_the_frames_of_a_tree_are_found_again(layout, coded_runs):
    """By their numbers: the pose is that which the picture was drawn with."""
    if coded_runs and not layout.coded_runs:
        return
    (subject,) = layout.choose_subjects(1)
    job, first, sequence = tree(layout, None if coded_runs else FRAMES)._sequence(subject, 1)
    if coded_runs:
        start, end = layout.coded_runs[subject, layout.tasks[0]]
        assert (first, len(sequence.poses)) == (start, end - start + 1)
    assert sequence.poses == job.sequence(layout.behaviour).poses
    assert (job.subject, job.task) == (subject, layout.tasks[0])


def test_a_written_picture_is_the_one_that_is_drawn_again(tmp_path):
    write_tree(BP4D_LAYOUT, tmp_path / "raw", subjects=2, frames=FRAMES, seed=0, size=SIZE)
    rendering = read_rendering(tmp_path / "raw", "bp4d")
    assert rendering == Rendering(version=VERSION, seed=0, size=SIZE, frames=FRAMES)
    subject = BP4D_LAYOUT.choose_subjects(2)[1]
    job, first, _ = RenderedTree(BP4D_LAYOUT, rendering)._sequence(subject, 3)
    sequence, face = job.sequence(BP4D_LAYOUT.behaviour), draw_identity(0, subject)
    paths = list((tmp_path / "raw/Sequences(2D+3D)" / subject / "T3").iterdir())
    by_number = {int(path.stem): path for path in paths}
    assert min(by_number) == first
    for number, path in by_number.items():
        drawn = sequence.picture(face, number - first, SIZE, np.random.default_rng(0))
        found = decode_image(path.read_bytes())
        assert np.abs(drawn.astype(int) - found).mean() < 6


@pytest.mark.parametrize(
    "change",
    [
        {"version": VERSION + 1},
        {"layout": "disfa"},
        {"arguments": {"seed": 0}},
        {"arguments": {"seed": -1, "size": 64, "frames": 5}},
        {"arguments": None},
        None,
    ],
)
def test_a_tree_of_unknown_arguments_has_no_regions(tmp_path, change):
    arguments = {"subjects": 2, "frames": 5, "seed": 0, "size": 64}
    manifest = {"version": VERSION, "layout": "bp4d", "arguments": arguments}
    path = tmp_path / SYNTHETIC_MARK
    path.write_text(json.dumps(manifest))
    assert read_rendering(tmp_path, "bp4d").size == 64
    path.write_text("{" if change is None else json.dumps(manifest | change))
    assert read_rendering(tmp_path, "bp4d") is None
    path.unlink()
    assert read_rendering(tmp_path, "bp4d") is None
