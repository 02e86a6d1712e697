import cv2
import numpy as np
import pytest

from vlfau_jax.data.transforms import augment, resize


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
    out = augment(picture, 50, rng, min_area=1, flip=False, jitter=0)
    assert np.array_equal(out, resize(picture, 50))


def test_flip_mirrors_about_half(picture, rng):
    plain = resize(picture, 50)
    outs = [augment(picture, 50, rng, min_area=1, flip=True, jitter=0) for _ in range(40)]
    mirrored = [np.array_equal(out, plain[:, ::-1]) for out in outs]
    assert all(m or np.array_equal(out, plain) for m, out in zip(mirrored, outs, strict=True))
    assert 8 <= sum(mirrored) <= 32


def test_crops_stay_inside_and_keep_the_smallest_area(rng):
    """On a ramp of columns, the span of values says how wide the crop was."""
    ramp = np.repeat(np.arange(128, dtype=np.uint8)[None, :, None], 128, 0).repeat(3, 2)
    spans = []
    for _ in range(60):
        out = augment(ramp, 64, rng, min_area=0.5, flip=False, jitter=0)
        spans.append((int(out.max()) - int(out.min()) + 1) / 128)
    assert min(spans) > np.sqrt(0.5) - 0.05 and max(spans) > 0.9 and np.std(spans) > 0.02


def test_jitter_changes_colour_within_bounds(picture, rng):
    plain = resize(picture, 64).astype(float)
    outs = [
        augment(picture, 64, rng, min_area=1, flip=False, jitter=0.4).astype(float)
        for _ in range(40)
    ]
    brightness = np.array([out.mean() / plain.mean() for out in outs])
    assert 0.55 < brightness.min() < 0.85 and 1.15 < brightness.max() < 1.45
    contrast = np.array([out.std() / plain.std() for out in outs])
    assert contrast.min() < 0.8 and contrast.max() > 1.2


def test_jitter_of_grey_stays_grey(rng):
    grey = np.full((32, 32, 3), 90, np.uint8)
    out = augment(grey, 32, rng, min_area=1, flip=False, jitter=0.4)
    assert np.ptp(out.astype(int).reshape(-1, 3), axis=1).max() <= 1


def test_same_numbers_same_view(picture):
    views = [
        augment(picture, 40, np.random.default_rng(5), min_area=0.5, flip=True, jitter=0.4)
        for _ in range(2)
    ]
    assert np.array_equal(*views)
