import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlfau_jax import regions
from vlfau_jax.data.crop.alignment import EYE_POSITIONS
from vlfau_jax.data.crop.registry import RULES
from vlfau_jax.facs import ACTION_UNITS, BP4D_AUS, DISFA_AUS
from vlfau_jax.regions import REGIONS, has_eye_positions, template, templates

UNITS = sorted(REGIONS)


def test_every_unit_has_a_region():
    assert ACTION_UNITS.keys() <= REGIONS.keys()


@pytest.mark.parametrize("au", UNITS)
def test_a_region_is_on_the_face_and_symmetric(au):
    found = template(au, EYE_POSITIONS)
    np.testing.assert_array_equal(found, found[:, ::-1])
    assert 0.02 < found.mean() < 0.15
    assert not found[:3].any() and not found[:, :3].any(), "the picture's edge is no face"


def test_units_lie_from_forehead_to_chin_as_their_muscles_do():
    rows = np.arange(regions.SIDE)
    middle = {au: np.average(rows, weights=template(au, EYE_POSITIONS).sum(1)) for au in UNITS}
    order = [middle[au] for au in (1, 4, 7, 6, 10, 12, 15, 17)]
    assert order == sorted(order)
    eyes = EYE_POSITIONS["eye_height"] * regions.SIDE
    assert max(middle[1], middle[2], middle[4]) < eyes < middle[6] < middle[12]


@given(
    au=st.sampled_from(UNITS),
    distance=st.floats(0.25, 0.45),
    height=st.floats(0.3, 0.45),
)
def test_a_region_follows_the_eyes(au, distance, height):
    """Its centre and its size move and grow as the eyes' places and distance do."""
    eyes = {"eye_distance": distance, "eye_height": height}
    found, usual = template(au, eyes, 256), template(au, EYE_POSITIONS, 256)
    if found[-1].any() or usual[-1].any() or found[0].any():
        return
    growth = distance / EYE_POSITIONS["eye_distance"]
    np.testing.assert_allclose(found.sum(), usual.sum() * growth**2, rtol=0.05)
    rows = (np.arange(256) + 0.5) / 256
    below = [
        (np.average(rows, weights=mask.sum(1)) - e["eye_height"]) / e["eye_distance"]
        for mask, e in ((found, eyes), (usual, EYE_POSITIONS))
    ]
    np.testing.assert_allclose(*below, atol=0.02)


def test_templates_of_units_in_order():
    found = templates((12, 99, 1), {"parameters": EYE_POSITIONS})
    assert found.shape == (3, regions.SIDE, regions.SIDE)
    np.testing.assert_array_equal(found[0], template(12, EYE_POSITIONS))
    assert not found[1].any(), "no unit of that number"


def test_crop_rules_that_put_the_eyes_in_a_place_are_known():
    found = {
        name for name, rule in RULES.items() if has_eye_positions({"parameters": rule.PARAMETERS})
    }
    assert found == {"cascade", "yunet", "yunetwheel", "mtcnn", "mediapipe", "landmarks"}
    assert templates((1,), {"name": "none"}) is None


@pytest.mark.parametrize("au", sorted({*BP4D_AUS, *DISFA_AUS} - {26}))
def test_the_benchmarks_units_are_compact_with_their_tolerance(au):
    import cv2

    mask = template(au, EYE_POSITIONS, 224).astype(np.uint8)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (31, 31))
    assert cv2.dilate(mask, disc).mean() <= regions.COMPACT
