"""Compiled fields and marks equal what plain NumPy gives for them; compilation without a cache."""

import numpy as np
import pytest
from numba.core.caching import CacheImpl

from vlfau_jax.data.synthetic.head import bell
from vlfau_jax.data.synthetic.identity import draw_identity
from vlfau_jax.data.synthetic.mesh.compiled import compiled
from vlfau_jax.data.synthetic.mesh.fields import add_spot, spot
from vlfau_jax.data.synthetic.mesh.folds import Crease, draw_crease
from vlfau_jax.data.synthetic.mesh.head import INDEX, MOVED_AUS, person, relief
from vlfau_jax.data.synthetic.mesh.surface import BACK_COLUMNS, COLUMNS

GRID = np.float32(np.mgrid[-1:1.5:90j, -1:1:80j])


def test_a_spot_is_the_product_of_two_bells():
    y, s = GRID
    wanted = bell(s, 0.2, 0.15) * bell(y, -0.3, 0.4)
    np.testing.assert_allclose(spot(s, y, (0.2, -0.3), (0.15, 0.4)), wanted, atol=2e-5)
    field = np.ones_like(s)
    add_spot(field, s, y, (0.2, -0.3), (0.15, 0.4), -0.5)
    np.testing.assert_allclose(field, 1 - 0.5 * wanted, atol=2e-5)


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize(
    "crease",
    [
        Crease((0.30, 0.10), (0.50, 0.40), -0.03, 1.0, 0.022),
        Crease((-0.10, -0.3), (0.27, -0.28), -0.012, 0.95),
        Crease((0.2, 0.9), (0.2, 0.7), 0.0, 0.4, 0.013),
    ],
)
def test_a_crease_is_a_groove_with_ridges_where_it_is_said_to_be(crease, side):
    y = np.ascontiguousarray(np.float32(np.mgrid[-1:1.4:352j, 0:1:384j][0]))
    x = np.ascontiguousarray(np.float32(np.mgrid[0:1:352j, -1:1:384j][1]))
    patch = draw_crease(x, y, crease, side)
    found = np.zeros((*x.shape, 2))
    found[patch.place] = patch.change

    start, end = np.array(crease.start), np.array(crease.end)
    length = np.hypot(*(end - start))
    dx, dy = (end - start) / length
    px, py = side * x.astype(float) - start[0], y.astype(float) - start[1]
    along = np.clip((px * dx + py * dy) / length, 0, 1)
    window = 4 * along * (1 - along)
    across = np.abs((py * dx - px * dy - crease.bend * window) / crease.width)
    groove = np.exp(-0.5 * across**2) * np.sqrt(window)
    ridge = np.exp(-0.5 * (across - 2.2) ** 2) * window
    height = 0.42 * crease.width * crease.strength * (0.6 * ridge - groove)
    front = slice(x.shape[1] * BACK_COLUMNS // COLUMNS, -x.shape[1] * BACK_COLUMNS // COLUMNS)
    assert found[..., 1].max() > 0.5 * 0.6 * crease.strength
    np.testing.assert_allclose(found[:, front, 0], height[:, front], atol=2e-6)
    np.testing.assert_allclose(
        found[:, front, 1], 0.6 * crease.strength * groove[:, front], atol=2e-4
    )
    assert not found[:, : front.start].any(), "the back of the head has no folds"


def test_relief_adds_each_sides_patches_by_its_own_amount():
    who = person(draw_identity(3, "M002"))
    folded = np.zeros((len(MOVED_AUS), 2))
    folded[INDEX[12]] = 0.3, 1.2
    folded[INDEX[4], 0] = 0.01  # too little to be seen
    wanted = who.skin.relief.copy()
    for amount, patches in zip((0.3, 1.2), who.folds[12], strict=True):
        for patch in patches:
            wanted[patch.place] += np.float32(amount) * patch.change
    got = relief(who, folded)
    np.testing.assert_allclose(got, wanted, atol=1e-6)
    assert np.abs(got - who.skin.relief).max() > 0.1


def test_without_a_folder_to_keep_it_in_a_loop_is_compiled_all_the_same(monkeypatch):
    monkeypatch.setattr(CacheImpl, "_locator_classes", [])

    @compiled
    def total(values):
        out = 0.0
        for k in range(len(values)):
            out += values[k]
        return out

    assert total(np.arange(4.0)) == 6 and total.signatures
