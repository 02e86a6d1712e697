from dataclasses import replace

import numpy as np
import pytest

from tests.report.examples import face
from vlfau_jax.report.faces import face_view, verdict
from vlfau_jax.report.pictures import LAYER, OPACITY, heat_layer, layer_uri, times_even


@pytest.mark.parametrize(
    ("active", "label", "expected"),
    [(True, 1, "right"), (True, 0, "wrong"), (False, 0, "right"), (True, -1, "unjudged")],
)
def test_verdicts(active, label, expected):
    assert verdict(active, label) == expected


def test_a_map_covers_its_peak_and_leaves_the_low_alone():
    heat = np.zeros((4, 4))
    heat[0, 0] = 1.0
    layer = heat_layer(heat, 1.0)
    assert layer.shape == (LAYER, LAYER, 4)
    assert layer[0, 0, 3] == round(OPACITY * 255)
    red, _, blue, _ = layer[0, 0].astype(int)
    assert red > 2 * blue
    assert layer[LAYER * 5 // 8 :, LAYER * 5 // 8 :, 3].max() == 0
    np.testing.assert_array_equal(heat_layer(3 * heat, 3.0), layer)
    assert layer_uri(heat, 1.0).startswith("data:image/webp;base64,")


def test_maps_of_a_face_have_one_scale():
    sharp, even = np.zeros((4, 4)), np.full((4, 4), 0.3)
    sharp[0, 0] = 0.5
    view = face_view(
        replace(face([1] * 8), spatial_maps=np.stack([sharp] + [even] * 7), attention=None),
        (0.5,) * 8,
    )
    maps = [unit.maps[0] for unit in view.units]
    assert {one.scale for one in maps} == {16.0}, "all in one of 16 cells"
    assert [one.highest for one in maps] == [16.0] + [1.0] * 7
    opacity = heat_layer(times_even(even), 16.0)[..., 3]
    np.testing.assert_array_equal(opacity, round(OPACITY * round(255 / 16)))


def test_maps_in_multiples_of_even_attention():
    maps = np.stack([np.full((2, 2), 7.0), np.zeros((2, 2)), [[-1.0, 0.0], [0.0, 2.0]]])
    np.testing.assert_array_equal(
        times_even(maps), [[[1, 1], [1, 1]], [[0, 0], [0, 0]], [[0, 0], [0, 4]]]
    )
