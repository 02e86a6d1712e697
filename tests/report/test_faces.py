import numpy as np
import pytest

from vlfau_jax.report.faces import verdict
from vlfau_jax.report.pictures import LAYER, OPACITY, heat_layer, layer_uri


@pytest.mark.parametrize(
    ("active", "label", "expected"),
    [(True, 1, "right"), (True, 0, "wrong"), (False, 0, "right"), (True, -1, "unjudged")],
)
def test_verdicts(active, label, expected):
    assert verdict(active, label) == expected


def test_a_map_covers_its_peak_and_leaves_the_low_alone():
    heat = np.zeros((4, 4))
    heat[0, 0] = 1.0
    layer = heat_layer(heat)
    assert layer.shape == (LAYER, LAYER, 4)
    assert layer[0, 0, 3] == round(OPACITY * 255)
    red, _, blue, _ = layer[0, 0].astype(int)
    assert red > 2 * blue
    assert layer[LAYER * 5 // 8 :, LAYER * 5 // 8 :, 3].max() == 0
    np.testing.assert_array_equal(heat_layer(5 + 3 * heat), layer)


def test_an_even_map_covers_nothing():
    assert heat_layer(np.full((4, 4), 0.3))[..., 3].max() == 0
    assert layer_uri(np.full((4, 4), 0.3)).startswith("data:image/webp;base64,")
