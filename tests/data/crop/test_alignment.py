import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.crop.positions import POSITIONS, mapped
from vlfau_jax.data.crop.alignment import alignment_of, pose_of, warp
from vlfau_jax.data.crop.cascade import Cascade
from vlfau_jax.data.crop.face import Face
from vlfau_jax.data.crop.landmarks import LandmarkTables


def test_edges_repeat_where_a_crop_extends_beyond_the_picture(picture):
    def cut(x, y):
        return warp(picture, np.array([[1, 0, -x], [0, 1, -y]]), 30)

    assert np.array_equal(cut(-10, -10)[10:, 10:], picture[:20, :20])
    assert (cut(-10, -10)[:10, :10] == picture[0, 0]).all()
    assert np.array_equal(cut(110, 80)[:10, :10], picture[80:, 110:])
    assert (cut(110, 80)[10:, 10:] == picture[-1, -1]).all()
    assert (cut(-500, -500) == picture[0, 0]).all()
    assert (cut(500, 500) == picture[-1, -1]).all()


@pytest.mark.parametrize("scale", [1 / 9, 1 / 4, 1 / 3, 0.4])
def test_shrinking_averages_the_pixels_between(scale):
    stripes = np.tile(np.array([0, 240], np.uint8), (300, 150))
    size = int(270 * scale)
    turn = scale * np.array([[math.cos(0.3), math.sin(0.3)], [-math.sin(0.3), math.cos(0.3)]])
    shift = np.array([size / 2, size / 2]) - turn @ (150, 150)
    small = warp(np.dstack([stripes] * 3), np.column_stack([turn, shift]), size)
    assert np.abs(small.astype(int) - 120).max() < 60  # nearest pixels would be 0 or 240


@given(
    x=st.floats(-50, 400),
    y=st.floats(-50, 400),
    apart=st.floats(2, 300),
    angle=st.floats(-math.pi / 2, math.pi / 2),
    size=st.integers(16, 512),
)
@settings(deadline=None)
def test_eyes_come_to_their_positions_without_shear(x, y, apart, angle, size):
    half = np.array([math.cos(angle), math.sin(angle)]) * apart / 2
    eyes = np.array([x, y]) + np.array([-half, half])
    alignment = alignment_of(pose_of(Face(None, eyes), LandmarkTables.PARAMETERS), size)
    np.testing.assert_allclose(mapped(alignment, eyes), POSITIONS * size / 64, atol=2e-3 * size)
    (a, b), (c, d) = alignment[:, :2]
    assert a == pytest.approx(d, abs=1e-5) and b == pytest.approx(-c, abs=1e-5)
    assert a * d - b * c > 0


def test_a_head_is_turned_upright_by_a_limited_angle():
    face = Face(None, np.array([[50, 50], [50, 90]]))
    assert math.degrees(pose_of(face, Cascade.PARAMETERS).angle) == pytest.approx(30)
    assert math.degrees(pose_of(face, LandmarkTables.PARAMETERS).angle) == pytest.approx(90)


def test_without_eyes_the_crop_is_version_ones():
    """The box a tenth larger and 7 % of its height lower, as the demo's warm start was trained."""
    pose = pose_of(Face((40, 30, 100, 100), None), Cascade.PARAMETERS)
    np.testing.assert_allclose(alignment_of(pose, 110), [[1, 0, -35], [0, 1, -32]], atol=1e-4)
