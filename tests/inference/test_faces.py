"""Faces that are none, or too poor to be described, are doubtful for a reason; others are not."""

import cv2
import numpy as np
import pytest

from vlfau_jax.data.crop.face import Face
from vlfau_jax.data.crop.registry import crop_rule
from vlfau_jax.data.crop.rule import CropRule
from vlfau_jax.data.synthetic.dynamics import BP4D_BEHAVIOUR
from vlfau_jax.data.synthetic.identity import draw_identity
from vlfau_jax.data.synthetic.scenes import draw_sequence
from vlfau_jax.errors import UserError
from vlfau_jax.inference.faces import Limits, look_for_face

CASCADE = crop_rule("cascade", 64)
OFF = Limits(0, 0, 0, 0, 1)


@pytest.fixture(scope="module")
def heads():
    """Rendered heads of 160 pixels of sixteen people."""
    noise = np.random.default_rng(0)
    people = (draw_identity(0, f"F{k:03}") for k in range(16))
    scenes = (draw_sequence(BP4D_BEHAVIOUR, (0, k), 1) for k in range(16))
    return [scene.picture(face, 0, 160, noise) for face, scene in zip(people, scenes, strict=True)]


def reasons(pictures, limits=None):
    return [look_for_face(picture, CASCADE, limits=limits).reason for picture in pictures]


def share(pictures, *wanted, limits=None):
    found = reasons(pictures, limits)
    return sum(reason in wanted for reason in found) / len(found)


def test_good_faces_are_not_doubtful(heads):
    found = [look_for_face(picture, CASCADE) for picture in heads]
    assert {face.reason for face in found} <= {None, "no face"}
    assert sum(face.reason is None for face in found) >= 15
    for face in found:
        if face.crop is not None:
            assert face.crop.shape == (64, 64, 3) and face.faces == 1 and face.detail == ""


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_face_that_is_not_upright_is_none(heads, quarters):
    turned = [np.rot90(picture, quarters).copy() for picture in heads]
    assert share(turned, "not upright") > 0.8
    details = [look_for_face(picture, CASCADE).detail for picture in turned[:5]]
    assert any(text.startswith(f"turned by {360 - 90 * quarters} degrees") for text in details)


def test_small_blurred_and_even_faces_are_doubtful(heads):
    small = [cv2.resize(p, (32, 32), interpolation=cv2.INTER_AREA) for p in heads]
    assert share(small, "too small", "no face") == 1 and share(small, "too small") > 0.3
    assert share([cv2.GaussianBlur(p, (0, 0), 3) for p in heads], "blurred", "no face") > 0.9
    dark = [(p * 0.25).astype(np.uint8) for p in heads]
    even = [(p * 0.25 + 100).astype(np.uint8) for p in heads]
    strict = Limits(min_contrast=25)
    for pictures in (dark, even):
        assert share(pictures, "low contrast", "no face", limits=strict) == 1
    assert set(reasons(small, OFF)) <= {None, "no face", "not upright"}


def test_what_is_doubtful_says_so_in_numbers(heads):
    picture = heads[0]
    assert look_for_face(picture, CASCADE, limits=Limits(min_confidence=1)).detail.endswith(
        "; at least 1"
    )
    small = look_for_face(picture, CASCADE, limits=Limits(min_face_pixels=150))
    assert small.reason == "too small" and "pixels; at least 150" in small.detail
    assert small.crop is not None and small.faces == 1  # it can be described all the same
    none = look_for_face(np.full((480, 640, 3), 127, np.uint8), CASCADE)
    assert (none.reason, none.detail) == ("no face", "none of 96 pixels or more")
    assert none.crop is None and none.faces == 0
    tiny = look_for_face(np.full((30, 40, 3), 127, np.uint8), CASCADE)
    assert tiny.detail == "none of 20 pixels or more"


def test_confidence_is_the_finders_own_and_differs(heads):
    found = [look_for_face(picture, CASCADE) for picture in heads]
    known = [face.confidence for face in found if face.crop is not None]
    assert all(4 / 14 <= confidence < 1 for confidence in known) and len(set(known)) > 8


def test_other_faces_are_counted_however_small(heads):
    scene = np.full((320, 480, 3), heads[0][0, 0], np.uint8)
    scene[:, :320] = cv2.resize(heads[0], (320, 320))
    scene[200:320, 340:460] = cv2.resize(heads[1], (120, 120))
    face = look_for_face(scene, CASCADE)
    assert face.reason is None and face.faces == 2
    assert look_for_face(heads[0], CASCADE).faces == 1


class Sure(CropRule):
    """A finder that states what it is told to, by the picture's first pixel."""

    name = "sure"
    version = 1
    PARAMETERS = CASCADE.PARAMETERS
    SURE = 0.9

    def find(self, image, place, root):
        del place, root
        value = int(image[0, 0, 0])
        side = float(min(image.shape[:2]))
        return Face((0.0, 0.0, side, side), None, value / 100) if value else None


@pytest.mark.parametrize(
    ("corners", "reason"),
    [
        ((95, 0, 0, 99), None),  # sure enough: not looked at again
        ((80, 85, 85, 85), None),
        ((80, 0, 0, 91), "not upright"),
        ((0, 95, 0, 0), "not upright"),
        ((0, 85, 85, 85), "no face"),
        ((0, 0, 0, 0), "no face"),
    ],
)
def test_the_picture_is_turned_only_where_the_finder_is_not_sure(corners, reason, rng):
    picture = rng.integers(0, 256, (64, 64, 3), np.uint8)
    for (y, x), value in zip(((0, 0), (0, -1), (-1, 0), (-1, -1)), corners, strict=True):
        picture[y, x, 0] = value
    assert look_for_face(picture, Sure.create(64)).reason == reason


def test_tables_state_their_own_confidence_or_none(tmp_path, rng):
    picture = cv2.resize(rng.integers(0, 256, (30, 30, 3), np.uint8), (120, 120))
    header = "frame,{}left_eye_x,left_eye_y,right_eye_x,right_eye_y\n"
    landmarks = crop_rule("landmarks", 64)
    table = tmp_path / "landmarks.csv"
    table.write_text(header.format("confidence,") + "1,0.875,40,50,80,50\n2,,40,50,80,50\n")
    found = [look_for_face(picture, landmarks, tmp_path / f"{k}.jpg") for k in (1, 2, 3)]
    assert [face.confidence for face in found] == [0.875, None, None]
    assert [face.reason for face in found] == [None, None, "not in the table"]
    limits = Limits(min_confidence=0.9)
    doubtful = look_for_face(picture, landmarks, tmp_path / "1.jpg", limits=limits)
    assert (doubtful.reason, doubtful.detail) == ("low confidence", "0.88; at least 0.9")
    unknown = look_for_face(picture, landmarks, tmp_path / "2.jpg", limits=limits)
    assert unknown.reason is None
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("source,left,top,width,height,confidence\n1.jpg,10,10,90,90,0.5\n")
    rule = crop_rule("box", 64, str(boxes))
    assert look_for_face(picture, rule, tmp_path / "1.jpg", tmp_path).confidence == 0.5
    none = look_for_face(picture, crop_rule("none", 64))
    assert (none.reason, none.confidence) == (None, None)
    table.write_text(header.format("confidence,") + "4,1.5,40,50,80,50\n")
    with pytest.raises(UserError, match=r"landmarks\.csv:2: confidence is '1\.5'; expected 0 to 1"):
        look_for_face(picture, landmarks, tmp_path / "4.jpg")


@pytest.mark.parametrize(
    "limits",
    [
        {"min_confidence": 1.1},
        {"min_face_pixels": -1.0},
        {"min_sharpness": float("nan")},
        {"min_contrast": float("inf")},
    ],
)
def test_limits_out_of_range_are_refused(limits):
    (name,) = limits
    with pytest.raises(UserError, match=rf"--{name}=.*expected 0 \(no limit\) to"):
        Limits(**limits)


@pytest.mark.parametrize("max_flat", [-0.1, 1.1, float("nan")])
def test_a_share_out_of_range_is_refused(max_flat):
    with pytest.raises(UserError, match=r"--max_flat=.*expected 0 to 1 \(none\)"):
        Limits(max_flat=max_flat)
