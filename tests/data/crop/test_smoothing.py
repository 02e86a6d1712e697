import math

import numpy as np
import pytest

from vlfau_jax.data.crop.alignment import pose_of
from vlfau_jax.data.crop.face import Face
from vlfau_jax.data.crop.registry import crop_rule
from vlfau_jax.data.crop.smoothing import smooth_pose

CASCADE = crop_rule("cascade", 64)
LANDMARKS = crop_rule("landmarks", 64)


def face(x: float = 50, side: float = 50, eyes: bool = True) -> Face:
    positions = np.array([[x + 0.3 * side, 20], [x + 0.7 * side, 20]]) if eyes else None
    return Face((x, 0.0, side, side), positions)


def own(window, frame):
    """The pose of a frame by itself."""
    return pytest.approx(pose_of(window[frame], CASCADE.parameters))


def test_smoothing_takes_the_median_of_frames_near_in_time():
    window = {1: face(10), 2: face(11), 3: face(90, 9), 5: face(12), 20: face(40)}
    pose, _ = smooth_pose(window, 2, CASCADE)
    assert pose.x == pytest.approx(np.median([35, 36]))
    assert math.exp(pose.log_side) == pytest.approx(0.4 * 50 / 0.358)
    assert smooth_pose(window, 20, CASCADE)[0] == own(window, 20)
    for frame in window:  # the rule none does not follow faces
        none, _ = smooth_pose({k: face(eyes=False) for k in window}, frame, crop_rule("none", 64))
        assert none.x == 75


def test_a_face_elsewhere_for_one_frame_is_a_wrong_detection():
    window = {1: face(10), 2: face(11), 3: face(90, 9), 5: face(12), 20: face(40)}
    pose, aligned_by = smooth_pose(window, 3, CASCADE)
    assert pose.x == pytest.approx(np.median([35, 36, 37])) and aligned_by == "neighbours"
    for gone in (1, 2), (5,):  # seen on one side only it may be a cut
        seen = {k: v for k, v in window.items() if k not in gone}
        assert smooth_pose(seen, 3, CASCADE)[0] == own(window, 3)


def test_only_frames_near_in_time_make_a_detection_wrong():
    far = {1: face(10), 8: face(90, 9), 15: face(10)}
    for gone in (), (1,), (15,):
        window = {k: v for k, v in far.items() if k not in gone}
        assert smooth_pose(window, 8, CASCADE)[0] == own(far, 8)
    for beside in ({7: face(10), 15: face(10)}, {1: face(10), 9: face(10)}):
        window = {**beside, 8: far[8]}
        assert smooth_pose(window, 8, CASCADE)[0] == own(far, 8)


@pytest.mark.parametrize("positions", [(10, -10, 30), (30, -10, 10)])
def test_a_face_like_one_of_its_neighbours_is_no_wrong_detection(positions):
    window = {k: face(x) for k, x in enumerate(positions)}
    pose, aligned_by = smooth_pose(window, 1, CASCADE)
    assert pose.x == pytest.approx((35 + 15) / 2) and aligned_by == "eyes"  # not the one at 30


def test_nothing_is_taken_from_across_a_cut():
    window = {
        1: face(10),
        2: face(11),
        3: face(13),
        4: face(90, eyes=False),
        5: face(91),
        6: face(95),
    }
    assert smooth_pose(window, 3, CASCADE)[0].x == pytest.approx(np.median([35, 36, 38]))
    pose, aligned_by = smooth_pose(window, 4, CASCADE)
    assert pose.x == pytest.approx(np.median([115, 116, 120])) and aligned_by == "neighbours"
    alone = {k: window[k] for k in (1, 2, 3, 4)}
    pose, aligned_by = smooth_pose(alone, 4, CASCADE)
    assert (aligned_by, pose) == ("box", own(window, 4))
    eyes = {k: v._replace(box=None) for k, v in window.items() if k != 4}  # as landmarks are
    assert smooth_pose(eyes, 3, LANDMARKS)[0].x == pytest.approx(np.median([35, 36, 38]))
    assert smooth_pose(eyes, 5, LANDMARKS)[0].x == pytest.approx(np.median([116, 120]))


def test_eyes_come_from_neighbours_then_from_the_box():
    window = {1: face(), 2: face(60, eyes=False), 30: face(eyes=False)}
    pose, aligned_by = smooth_pose(window, 2, CASCADE)
    assert aligned_by == "neighbours"
    assert pose.x == pytest.approx((75 + 85) / 2)
    assert smooth_pose(window, 1, CASCADE)[1] == "eyes"
    pose, aligned_by = smooth_pose(window, 30, CASCADE)
    assert (aligned_by, pose) == ("box", own(window, 30))
