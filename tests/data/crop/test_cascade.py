from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import cv2
import numpy as np
import pytest

from tests.data.crop.positions import eye_errors
from vlfau_jax.data.crop.cascade import _best_pair, _classifier
from vlfau_jax.data.crop.registry import crop_rule
from vlfau_jax.data.raw.frames import Place

RULE = crop_rule("cascade", 64)


def find(picture):
    return RULE.find(picture, Place(""), "")


def test_cascades_find_faces_and_their_eyes(rendered):
    faces = [find(picture) for picture, _ in rendered]
    assert sum(face is not None for face in faces) >= 21
    errors = eye_errors(rendered, RULE)
    assert len(errors) >= 2 * 17
    assert np.mean(errors) < 0.04 and max(errors) < 0.15


def test_boxes_follow_the_size_and_position_of_a_face(rendered):
    for picture, _ in rendered[:8]:
        face = find(picture)
        if face is None:
            continue
        left, _, width, _ = face.box
        assert 0.3 * 160 < width < 160
        doubled = find(cv2.resize(picture, (320, 320)))
        assert np.abs(np.array(doubled.box) - 2 * np.array(face.box)).max() < 20
        wider = cv2.copyMakeBorder(picture, 0, 0, 12, 0, cv2.BORDER_REPLICATE)
        assert abs(find(wider).box[0] - left - 12) < 12


def test_noise_has_no_face(picture):
    assert find(picture) is None


@pytest.mark.parametrize(
    ("positions", "weights", "chosen"),
    [
        ([(30, 40), (70, 42)], [1, 1], (0, 1)),
        ([(70, 42), (30, 40)], [1, 1], (1, 0)),  # in any order
        ([(30, 40), (70, 42), (33, 41)], [1, 1, 2], (2, 1)),  # the greater weight
        ([(33, 41), (70, 42), (30, 40)], [2, 1, 1], (0, 1)),
        ([(30, 40), (70, 42), (72, 70)], [1, 1, 9], (0, 1)),  # not at the mouth's height
        ([(30, 40), (35, 40)], [1, 1], None),  # both on one side
        ([(45, 40), (55, 40)], [1, 1], None),  # too near for a face of this width
        ([(5, 40), (95, 40)], [1, 1], None),  # too far
        ([(30, 40)], [1], None),
        ([], [], None),
    ],
)
def test_two_plausible_eyes_or_none(positions, weights, chosen):
    eyes = _best_pair(positions, weights, 50, 100, RULE.parameters)
    expected = None if chosen is None else [positions[i] for i in chosen]
    assert (eyes is None) if chosen is None else np.array_equal(eyes, expected)


def test_threads_find_what_one_finds_each_with_classifiers_of_its_own(rendered):
    """OpenCV's classifiers keep the picture that they search in themselves."""
    pictures = [picture for picture, _ in rendered[:6]] * 2
    alone = [find(picture) for picture in pictures]
    meet = Barrier(2)

    def classifier(name):
        meet.wait(60)  # so that it is two threads
        return _classifier(name), _classifier(name)

    with ThreadPoolExecutor(2) as pool:
        (one, again), (other, _) = pool.map(classifier, ["haarcascade_eye.xml"] * 2)
        assert one is again and one is not other
        together = list(pool.map(find, pictures))
    for face, same in zip(alone, together, strict=True):
        assert (face is None) == (same is None)
        if face is not None:
            assert (face.box, face.confidence, face.found) == (
                same.box,
                same.confidence,
                same.found,
            )
            np.testing.assert_array_equal(face.eyes, same.eyes)
