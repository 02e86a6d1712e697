"""Drawings are told by their flat areas; photographs, however treated, and renderings have none."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.inference.drawings import cartoon
from vlfau_jax.data.crop.registry import crop_rule
from vlfau_jax.data.raw.frames import encode_jpeg
from vlfau_jax.inference.faces import Limits, look_for_face
from vlfau_jax.inference.flatness import flat_share

FINDER = crop_rule("yunetwheel", 112)
DEFAULT = Limits().max_flat
CROPS = st.integers(8, 40).flatmap(lambda side: arrays(np.uint8, (side, side, 3)))


def as_jpeg(picture, quality):
    data = np.frombuffer(encode_jpeg(picture, quality), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)


def resized(picture, factor):
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(picture, None, fx=factor, fy=factor, interpolation=way)


def brightened(picture, factor):
    return np.clip(picture * factor, 0, 255).astype(np.uint8)


@given(CROPS)
def test_it_is_a_share_and_the_same_mirrored_and_upside_down(crop):
    share = flat_share(crop)
    assert 0 <= share <= 1
    for other in (crop[:, ::-1], crop[::-1]):
        assert flat_share(np.ascontiguousarray(other)) == pytest.approx(share, abs=1e-9)


@given(st.integers(10, 245), st.integers(8, 130))
def test_one_colour_is_flat_noise_is_not_and_black_and_white_say_nothing(value, side):
    even = np.full((side, side, 3), value, np.uint8)
    assert flat_share(even) == 1
    assert flat_share(np.zeros_like(even)) == flat_share(np.full_like(even, 255)) == 0
    noise = np.random.default_rng(value).integers(10, 245, (64, 64, 3), np.uint8)
    assert flat_share(noise) < 0.05


def test_what_surrounds_the_face_does_not_matter(astronaut):
    """A studio's even background is no drawing."""
    crop = look_for_face(astronaut, FINDER).crop
    studio = crop.copy()
    y, x = np.mgrid[:112, :112] / 111 - 0.5
    studio[(x / 0.35) ** 2 + (y / 0.43) ** 2 > 1] = (90, 120, 160)
    assert flat_share(studio) == flat_share(crop)


@pytest.mark.parametrize(
    "treat",
    [
        lambda p: p,
        lambda p: as_jpeg(p, 30),
        lambda p: as_jpeg(resized(p, 0.5), 80),
        lambda p: resized(p, 3),
        lambda p: brightened(p, 0.3),
        lambda p: as_jpeg(brightened(p, 1.8), 70),
        lambda p: cv2.GaussianBlur(p, (0, 0), 1),
        lambda p: cv2.fastNlMeansDenoisingColored(p, None, 5, 5, 5, 15),
    ],
    ids=["as it is", "jpeg", "half", "thrice", "dark", "bright", "blurred", "denoised"],
)
def test_a_photograph_is_not_drawn(treat, astronaut):
    face = look_for_face(treat(astronaut), FINDER)
    assert face.crop is not None and face.reason is None, face.detail


@pytest.mark.parametrize("person", range(4))
def test_a_cartoon_is_drawn_also_as_jpeg_and_in_other_sizes(person):
    picture = cartoon(person, 200)
    others = [as_jpeg(picture, quality) for quality in (60, 80, 95)]
    others += [as_jpeg(resized(picture, factor), 85) for factor in (0.5, 1.3)]
    found = [look_for_face(one, FINDER) for one in (picture, *others)]
    found = [face for face in found if face.crop is not None]
    assert len(found) >= 5, "the finder takes them for faces"
    assert {face.reason for face in found} == {"drawn"}
    assert all(face.detail.endswith("flat; at most 0.2") for face in found)
    assert look_for_face(picture, FINDER, limits=Limits(max_flat=1)).reason is None


def test_a_photograph_of_a_few_colours_is_drawn(astronaut):
    pixels = cv2.medianBlur(astronaut, 5).reshape(-1, 3).astype(np.float32)
    cv2.setRNGSeed(0)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 10, 1.0)
    _, colour, colours = cv2.kmeans(pixels, 8, None, stop, 1, cv2.KMEANS_PP_CENTERS)
    few = colours.astype(np.uint8)[colour.ravel()].reshape(astronaut.shape)
    face = look_for_face(few, FINDER)
    assert face.reason == "drawn", face.detail


def test_a_small_face_is_measured_in_its_own_pixels(astronaut):
    """Enlarged it is smoother."""
    limits = Limits(min_face_pixels=0, min_sharpness=0)
    for factor in (0.5, 0.3):
        assert look_for_face(resized(astronaut, factor), FINDER, limits=limits).reason is None
    for person in range(3):
        face = look_for_face(resized(cartoon(person), 0.5), FINDER)
        assert face.reason == "drawn"
        assert float(face.detail.split()[0]) < flat_share(face.crop) - 0.03


def test_the_default_lets_rendered_faces_pass_by_far(raw_faces):
    shares = []
    for path in sorted(raw_faces.rglob("*.jpg"))[:40]:
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        face = None if picture is None else look_for_face(picture, FINDER)
        if face is not None and face.crop is not None:
            shares.append(flat_share(face.crop))
    assert len(shares) >= 20 and max(shares) < DEFAULT / 2
