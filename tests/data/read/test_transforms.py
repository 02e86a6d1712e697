import math
import re

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlfau_jax.data.read.transforms import augment, draw_view, resize
from vlfau_jax.data.text.descriptions import KINDS, built_in
from vlfau_jax.facs import ACTION_UNITS

STILL = {"min_area": 1, "flip": False, "jitter": 0}
EFFECTS = {"min_area": 0.5, "flip": True, "jitter": 0.4}


def viewed(image: np.ndarray, size: int, rng: np.random.Generator, **effects) -> np.ndarray:
    """A random view, drawn and made; what is not written of the result stays 170."""
    out = np.full((size, size, 3), 170, np.uint8)
    augment(image, draw_view(rng, **effects), out)
    return out


@pytest.fixture
def picture(rng) -> np.ndarray:
    return cv2.GaussianBlur(rng.integers(0, 256, (128, 128, 3), np.uint8), (0, 0), 4)


@pytest.mark.parametrize("size", [20, 31, 32, 64, 100, 128, 200])
def test_resize_is_close_to_the_area_average(picture, size):
    out = resize(picture, size)
    assert out.shape == (size, size, 3) and out.dtype == np.uint8
    method = cv2.INTER_AREA if size < 128 else cv2.INTER_LINEAR
    exact = cv2.resize(picture, (size, size), interpolation=method)
    assert np.abs(out.astype(int) - exact).mean() < 2


def test_augment_without_effects_is_a_resize(picture, rng):
    out = viewed(picture, 50, rng, min_area=1, flip=False, jitter=0)
    assert np.array_equal(out, resize(picture, 50))


def test_flip_mirrors_about_half(picture, rng):
    plain = resize(picture, 50)
    outs = [viewed(picture, 50, rng, min_area=1, flip=True, jitter=0) for _ in range(40)]
    mirrored = [np.array_equal(out, plain[:, ::-1]) for out in outs]
    assert all(m or np.array_equal(out, plain) for m, out in zip(mirrored, outs, strict=True))
    assert 8 <= sum(mirrored) <= 32


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(60, 130))
def test_a_view_says_which_part_it_shows(seed, size):
    """On a ramp of columns and rows, the values at the edges say which part was shown."""
    ramp = np.zeros((size, size, 3), np.uint8)
    ramp[..., 0] = np.arange(size)[None]
    ramp[..., 1] = np.arange(size)[:, None]
    out, place = np.zeros((size * 2, size * 2, 3), np.uint8), np.zeros(3, np.float32)
    view = draw_view(np.random.default_rng(seed), min_area=0.4, flip=True, jitter=0)
    augment(ramp, view, out, place)
    first, last = out[0, 0].astype(int), out[-1, -1].astype(int)
    if view.mirrored:  # the place is counted from the right
        first[0], last[0] = size - 1 - first[0], size - 1 - last[0]
    found = [*first[:2], last[0] - first[0] + 1]
    np.testing.assert_allclose(place * size, found, atol=1e-3)
    assert last[1] - first[1] == last[0] - first[0]


def test_crops_stay_inside_and_keep_the_smallest_area(rng):
    """On a ramp of columns, the span of values says how wide the crop was."""
    ramp = np.repeat(np.arange(128, dtype=np.uint8)[None, :, None], 128, 0).repeat(3, 2)
    spans = []
    for _ in range(60):
        out = viewed(ramp, 64, rng, min_area=0.5, flip=False, jitter=0)
        spans.append((int(out.max()) - int(out.min()) + 1) / 128)
    assert min(spans) > np.sqrt(0.5) - 0.05 and max(spans) > 0.9 and np.std(spans) > 0.02


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    size=st.integers(30, 90),
    side=st.sampled_from((33, 64, 120)),
    max_area=st.floats(1, 4),
)
def test_a_view_larger_than_the_picture_repeats_its_edge(seed, size, side, max_area):
    """On a ramp of columns and rows every pixel says which place of the picture it shows."""
    ramp = np.zeros((size, size, 3), np.uint8)
    ramp[..., 0] = np.arange(size)[None]
    ramp[..., 1] = np.arange(size)[:, None]
    out, place = np.zeros((side, side, 3), np.uint8), np.zeros(3, np.float32)
    effects = {"min_area": 0.3, "flip": True, "jitter": 0, "max_area": max_area}
    view = draw_view(np.random.default_rng(seed), **effects)
    augment(ramp, view, out, place)
    (left, top), share = place[:2], place[2]
    assert share <= np.sqrt(max_area) + 1 / size
    if share > 1:
        assert max(left, top) <= 0 and min(left, top) + share >= 1 - 1e-6
    if view.mirrored:  # columns are counted from the right of the ramp
        out[..., 0] = size - 1 - out[..., 0]
    middles = (np.arange(side) + 0.5) / side * share
    columns, rows = ((middles + first) * size - 0.5 for first in (left, top))
    wanted = np.stack(np.broadcast_arrays(columns[None], rows[:, None]), -1).clip(0, size - 1)
    assert np.abs(out[..., :2] - wanted).max() < 1.5


def test_areas_are_uniform_between_the_smallest_and_the_largest(rng):
    views = [draw_view(rng, min_area=0.5, flip=False, jitter=0, max_area=3.0) for _ in range(4000)]
    areas = np.sort([view.side**2 for view in views])
    assert np.abs(areas - np.linspace(0.5, 3, 4000)).max() < 0.1


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.05, 1))
def test_without_larger_views_the_numbers_are_as_ever(seed, min_area):
    """Training runs of earlier versions draw the same views, to the bit."""
    effects = {"min_area": min_area, "flip": True, "jitter": 0.4}
    view, rng = draw_view(np.random.default_rng(seed), **effects), np.random.default_rng(seed)
    area, x, y, _ = rng.random(4).tolist()
    assert view[:3] == (np.sqrt(min_area + area * (1 - min_area)), x, y)
    smaller = draw_view(np.random.default_rng(seed), **effects, max_area=4.0)
    assert smaller[1:4] == view[1:4] and np.array_equal(smaller.factors, view.factors)


def test_jitter_changes_colour_within_bounds(picture, rng):
    plain = resize(picture, 64).astype(float)
    outs = [
        viewed(picture, 64, rng, min_area=1, flip=False, jitter=0.4).astype(float)
        for _ in range(40)
    ]
    brightness = np.array([out.mean() / plain.mean() for out in outs])
    assert 0.55 < brightness.min() < 0.85 and 1.15 < brightness.max() < 1.45
    contrast = np.array([out.std() / plain.std() for out in outs])
    assert contrast.min() < 0.8 and contrast.max() > 1.2


def test_jitter_of_grey_stays_grey(rng):
    grey = np.full((32, 32, 3), 90, np.uint8)
    out = viewed(grey, 32, rng, min_area=1, flip=False, jitter=0.4)
    assert np.ptp(out.astype(int).reshape(-1, 3), axis=1).max() <= 1


def test_same_numbers_same_view(picture):
    views = [
        viewed(picture, 40, np.random.default_rng(5), min_area=0.5, flip=True, jitter=0.4)
        for _ in range(2)
    ]
    assert np.array_equal(*views)


@pytest.mark.parametrize("kind", KINDS)
def test_no_caption_contains_left_or_right(kind):
    """A mirrored face keeps its captions only because none of them has a side."""
    texts = built_in(kind, ACTION_UNITS).texts()
    sided = [text for text in texts if re.search(r"\b(left|right)\b", text.lower())]
    assert not sided, f"augment mirrors faces: swap the sides of {sided} with the flip, or say both"


def erased_box(image: np.ndarray, fill: np.ndarray) -> tuple[int, int, int, int]:
    """Top, bottom, left, right (exclusive) of what has the colour `fill`; it must be all of it."""
    rows, columns = np.nonzero((image == fill).all(-1))
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    assert (image[top:bottom, left:right] == fill).all()
    return top, bottom, left, right


def test_erasing_hides_one_rectangle_of_the_right_sizes(rng):
    """Stripes of two colours never hold their own mean, so that what has it was erased."""
    picture = np.zeros((96, 96, 3), np.uint8)
    picture[::2] = (200, 100, 40)
    fill = np.array([100, 50, 20])
    shares, aspects, middles = [], [], []
    for _ in range(300):
        out = viewed(picture, 96, rng, **STILL, erasing=1.0)
        top, bottom, left, right = erased_box(out, fill)
        outside = np.ones((96, 96), bool)
        outside[top:bottom, left:right] = False
        assert np.array_equal(out[outside], picture[outside])
        shares.append((bottom - top) * (right - left) / 96**2)
        aspects.append((bottom - top) / (right - left))
        middles.append(((top + bottom) / 2, (left + right) / 2))
    assert 0.018 < min(shares) < 0.03 and 0.18 < max(shares) < 0.205
    assert 0.27 < min(aspects) < 0.4 and 2.5 < max(aspects) < 3.6
    assert abs(np.log(aspects).mean()) < 0.1  # upright as often as lying
    assert np.abs(np.mean(middles, 0) - 48).max() < 4 and np.std(middles, 0).min() > 10
    assert picture[::2].min() == 40 and not picture[1::2].any()  # the given picture is not painted


def test_erasing_has_its_probability_and_leaves_the_rest_alone(picture):
    """The numbers for erasing are drawn last: what is not erased is bit-identical without it."""
    erased = 0
    for seed in range(200):
        views = [
            viewed(picture, 40, np.random.default_rng(seed), **EFFECTS, erasing=erasing)
            for erasing in (0.0, 0.25, 1.0)
        ]
        changed = (views[0] != views[2]).any(-1)
        assert changed.mean() <= 0.21
        assert np.array_equal(views[1], views[0]) or np.array_equal(views[1], views[2])
        erased += not np.array_equal(views[1], views[0])
    assert 30 <= erased <= 70


@settings(max_examples=60, deadline=None)
@given(st.integers(16, 70), st.integers(16, 70), st.integers(0, 2**32), st.floats(0.05, 1))
def test_any_sizes_give_a_whole_picture(height, size, seed, min_area):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, height, 3), np.uint8)
    before = image.copy()
    out = viewed(image, size, rng, min_area=min_area, flip=True, jitter=0.4, erasing=1.0)
    assert out.shape == (size, size, 3) and out.dtype == np.uint8 and out.flags.c_contiguous
    assert np.array_equal(image, before)


def step_by_step(image, size, rng, *, min_area, flip, jitter, erasing):
    """The same as `augment`, each effect on a picture of its own, with OpenCV's own mean."""
    area, x, y, mirrored = rng.random(4)
    brightness, contrast, saturation = rng.uniform(1 - jitter, 1 + jitter, 3).astype(np.float32)
    whole = len(image)
    side = min(whole, round(whole * math.sqrt(min_area + area * (1 - min_area))))
    left, top = round(x * (whole - side)), round(y * (whole - side))
    image = resize(image[top : top + side, left : left + side], size)
    if flip and mirrored < 0.5:
        image = cv2.flip(image, 1)
    if jitter:
        luma = np.array([0.299, 0.587, 0.114], np.float32)
        mean = float(luma @ np.array(cv2.mean(image)[:3], np.float32)) * brightness
        mix = saturation * np.eye(3, dtype=np.float32) + (1 - saturation) * luma[None, :]
        matrix = np.full((3, 4), mean * (1 - contrast), np.float32)
        matrix[:, :3] = mix * (brightness * contrast)
        image = cv2.transform(image, matrix)
    if erasing and rng.random() < erasing:
        area, aspect, x, y = rng.random(4)
        image = image.copy()
        side, stretch = size * math.sqrt(0.02 + area * 0.18), (1 / 0.3) ** (aspect - 0.5)
        height, width = max(1, round(side * stretch)), max(1, round(side / stretch))
        top, left = round(y * (size - height)), round(x * (size - width))
        image[top : top + height, left : left + width] = cv2.mean(image)[:3]
    return image


@settings(max_examples=200, deadline=None)
@given(
    height=st.integers(16, 90),
    size=st.integers(16, 70),
    seed=st.integers(0, 2**32),
    grey=st.booleans(),
    min_area=st.sampled_from((0.3, 1.0)),
    flip=st.booleans(),
    jitter=st.sampled_from((0.0, 0.4)),
    erasing=st.sampled_from((0.0, 0.5, 1.0)),
)
def test_effects_together_are_the_effects_one_by_one(height, size, seed, grey, **effects):
    """To the bit: a training run must not depend on how fast its pictures are made."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, height, 3), np.uint8)
    if grey:  # its mean is a whole number, which an error of 1e-14 would round down
        image[:] = image[0, 0]
    views = [
        make(image, size, np.random.default_rng(seed), **effects) for make in (viewed, step_by_step)
    ]
    assert np.array_equal(*views)


@pytest.mark.parametrize("effects", [STILL, STILL | {"flip": True}, EFFECTS])
def test_a_view_is_written_into_a_row_of_its_batch(picture, effects):
    """cv2 writes elsewhere, without a word, where a result does not fit what it was given."""
    batch = np.full((3, 50, 50, 3), 170, np.uint8)
    for seed in range(9):
        augment(picture, draw_view(np.random.default_rng(seed), **effects), batch[1])
        assert np.array_equal(batch[1], viewed(picture, 50, np.random.default_rng(seed), **effects))
        assert (batch[::2] == 170).all() and (batch[1] != 170).any()
