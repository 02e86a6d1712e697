import dataclasses
from itertools import pairwise

import cv2
import numpy as np
import pytest

from vlfau_jax.data.synthetic.dynamics import BP4D_BEHAVIOUR
from vlfau_jax.data.synthetic.identity import draw_identity
from vlfau_jax.data.synthetic.mouth import mouth_shape
from vlfau_jax.data.synthetic.renderer import FACE_UNIT, RENDERED_AUS, Pose, render
from vlfau_jax.data.synthetic.scenes import draw_sequence

SIZE = 160
PEOPLE = ("F002", "M002", "M005")
# Where the muscle works, in face units (v from, v to, |u| to), after FACS, not after the renderer.
REGIONS = {
    1: (-0.75, -0.05, 0.45),
    2: (-0.75, -0.05, 0.80),
    4: (-0.50, 0.10, 0.70),
    6: (-0.20, 0.45, 0.80),
    7: (-0.20, 0.25, 0.70),
    9: (-0.35, 0.65, 0.45),
    10: (0.30, 0.90, 0.45),
    12: (0.25, 1.00, 0.65),
    14: (0.45, 0.95, 0.60),
    15: (0.55, 1.05, 0.50),
    17: (0.55, 1.20, 0.40),
    23: (0.45, 0.95, 0.50),
    24: (0.45, 0.95, 0.50),
    25: (0.55, 1.00, 0.45),
    26: (0.45, 1.45, 0.80),
}


def region_mask(au):
    """The AU's own region of a frontal picture, bool [SIZE, SIZE]."""
    top, bottom, side = REGIONS[au]
    grid = (np.arange(SIZE) + 0.5 - SIZE / 2) / (FACE_UNIT * SIZE)
    u, v = grid[None, :], grid[:, None] + 0.06
    return (v > top) & (v < bottom) & (np.abs(u) < side)


def distance(a, b):
    return np.abs(a.astype(np.int32) - b.astype(np.int32)).sum(axis=2)


@pytest.mark.parametrize("au", RENDERED_AUS)
@pytest.mark.parametrize("subject", PEOPLE)
def test_each_au_moves_its_own_region_more_with_each_level(au, subject):
    face = draw_identity(0, subject)
    rest = render(face, {})
    change = [distance(render(face, {au: level}), rest) for level in (0, 1, 2, 3, 4, 5)]
    mask = region_mask(au)
    inside = [float(c[mask].sum()) for c in change]
    assert inside[0] == 0
    # From level 4 on the parting lips (25) uncover dark where teeth were: other pixels, not more.
    compared = inside[:4] if au == 25 else inside
    least = 0.97 if au == 25 else 1
    assert all(b > least * a for a, b in pairwise(compared))
    density = change[3][mask].mean() / max(change[3][~mask].mean(), 1e-6)
    assert density > 10, "the AU changes its own region, not the rest of the face"
    assert change[2][mask].max() > 45, "level 2 is plain to see: 15 grey levels a channel"


def test_parting_lips_open_further_with_each_level():
    face = draw_identity(0, "M002")
    none = dict.fromkeys(RENDERED_AUS, 0.0)
    gaps = []
    for level in range(6):
        shape = mouth_shape(face, {**none, 25: level / 5}, 0.0)
        gaps.append(shape.gap_upper + shape.gap_lower)
    assert gaps[0] == 0
    assert all(b > a for a, b in pairwise(gaps))


@pytest.mark.parametrize("pair", [(23, 24), (6, 7), (12, 14), (10, 12), (15, 17), (25, 26), (1, 2)])
def test_neighbouring_aus_look_different(pair):
    """Two AUs of the same region differ from each other about as much as from rest."""
    face = draw_identity(0, "M002")
    rest, one, other = (render(face, {au: 3}) for au in (None, *pair))
    apart = distance(one, other).sum()
    assert apart > 0.5 * min(distance(one, rest).sum(), distance(other, rest).sum())


def test_an_au_shows_while_others_act():
    face = draw_identity(0, "F004")
    others = {6: 3, 7: 3, 10: 3, 12: 3, 17: 3}
    for au in RENDERED_AUS:
        with_it, without = render(face, {**others, au: 4}), render(face, {**others, au: 0})
        assert distance(with_it, without)[region_mask(au)].max() > 60


def test_array_and_mapping_draw_the_same_picture():
    face = draw_identity(0, "F001")
    levels = np.zeros(len(RENDERED_AUS), np.float32)
    levels[RENDERED_AUS.index(12)] = 3
    assert np.array_equal(render(face, levels), render(face, {12: 3.0}))


@pytest.mark.parametrize("size", [64, 97, 160, 224])
def test_sizes_and_type(size):
    picture = render(draw_identity(0, "M001"), {12: 2}, size=size)
    assert picture.shape == (size, size, 3)
    assert picture.dtype == np.uint8


def test_pose_blink_and_gaze_change_the_picture():
    face = draw_identity(0, "M001")
    rest = render(face, {})
    for change in (
        {"pose": Pose(yaw=10)},
        {"pose": Pose(pitch=8)},
        {"pose": Pose(roll=6)},
        {"pose": Pose(shift_u=0.1)},
        {"pose": Pose(scale=1.1)},
        {"blink": 1.0},
        {"gaze": (0.03, 0.0)},
    ):
        assert distance(render(face, {}, **change), rest).mean() > 0.3, change


def test_yaw_turns_the_nose_to_the_viewers_right():
    """Parallax: with the head turned, the nose tip moves against the eyes."""
    face = dataclasses.replace(draw_identity(0, "M004"), asymmetry=0.0)
    left, right = (render(face, {}, pose=Pose(yaw=yaw)).astype(int) for yaw in (-15, 15))
    assert distance(left[:, ::-1].astype(np.uint8), right.astype(np.uint8)).mean() < 60
    assert distance(left.astype(np.uint8), right.astype(np.uint8)).mean() > 15


def test_identity_follows_seed_and_subject_alone():
    assert draw_identity(3, "F001") == draw_identity(3, "F001")
    assert draw_identity(3, "F001") != draw_identity(4, "F001")
    assert draw_identity(3, "F001") != draw_identity(3, "F002")
    assert draw_identity(0, "F009").sex == "F"
    assert draw_identity(0, "M009").sex == "M"
    assert {draw_identity(0, f"SN{k:03d}").sex for k in range(1, 20)} == {"F", "M"}


def test_skin_covers_a_wide_range():
    light = [np.mean(draw_identity(0, f"F{k:03d}").skin) for k in range(1, 60)]
    assert min(light) < 0.35
    assert max(light) > 0.75


def test_opencv_finds_exactly_one_face():
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    found = []
    for k in range(1, 17):
        for sex in "FM":
            subject = f"{sex}{k:03d}"
            sequence = draw_sequence(BP4D_BEHAVIOUR, (1, k, ord(sex)), 16)
            face = draw_identity(1, subject)
            for frame in (3, 13):
                picture = sequence.picture(face, frame, SIZE, np.random.default_rng(frame))
                grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
                boxes = cascade.detectMultiScale(
                    grey, 1.1, 5, minSize=(2 * SIZE // 5, 2 * SIZE // 5)
                )
                found.append(len(boxes) == 1)
    assert np.mean(found) >= 0.95
