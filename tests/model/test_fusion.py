"""Multi-scale combination against plain NumPy, tap by tap and cell by cell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st

from vlfau_jax.model.fusion import (
    MultiScaleCombination,
    average_pool,
    max_pool,
    pooling_cells,
    pooling_matrix,
)

SHAPES = ((12, 10, 3), (6, 5, 4), (3, 3, 5), (3, 3, 6))  # 5 into 3 is not even
POOL = {"average": np.mean, "max": np.max}


@pytest.fixture(scope="module")
def taps():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(2, *shape)).astype(np.float32) for shape in SHAPES]


def pool(x, height, width, pooling):
    """Adaptive pooling as PyTorch's documentation of AdaptiveMaxPool2d draws it, a cell a time."""
    _, h, w, _ = x.shape
    rows = [
        [
            POOL[pooling](
                x[
                    :,
                    int(np.floor(i * h / height)) : int(np.ceil((i + 1) * h / height)),
                    int(np.floor(j * w / width)) : int(np.ceil((j + 1) * w / width)),
                ],
                axis=(1, 2),
            )
            for j in range(width)
        ]
        for i in range(height)
    ]
    return np.stack([np.stack(row, 1) for row in rows], 1)


def reference(params, taps, chosen, grid, pooling):
    """3x3 convolution of each pooled tap, concatenation, linear map."""
    h, w = (grid, grid) if grid else taps[-1].shape[1:3]
    scales = []
    for tap in chosen:
        p = params[f"tap{tap - 1}"]
        padded = np.pad(pool(taps[tap - 1], h, w, pooling), ((0, 0), (1, 1), (1, 1), (0, 0)))
        scale = sum(
            padded[:, i : i + h, j : j + w] @ p["kernel"][i, j] for i in range(3) for j in range(3)
        )
        scales.append(scale + p["bias"])
    return np.concatenate(scales, -1) @ params["fuse"]["kernel"] + params["fuse"]["bias"]


@pytest.mark.parametrize(
    ("chosen", "grid", "pooling"),
    [
        ((1, 2, 3, 4), 0, "average"),
        ((1, 2, 3, 4), 0, "max"),
        ((1, 3), 0, "max"),
        ((2, 4), 5, "average"),  # a finer grid than the last tap has cells
        ((2, 4), 5, "max"),
        ((1,), 0, "average"),
    ],
)
def test_it_is_the_plain_computation(taps, chosen, grid, pooling):
    module = MultiScaleCombination(width=7, grid=grid, taps=chosen, pooling=pooling)
    params = nn.unbox(module.init(jax.random.key(1), taps))["params"]
    params = jax.tree.map(lambda x: x + 0.1, params)
    assert set(params) == {"fuse", *(f"tap{tap - 1}" for tap in chosen)}
    found = jax.jit(module.apply)({"params": params}, taps)
    expected = reference(jax.tree.map(np.asarray, params), taps, chosen, grid, pooling)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_only_chosen_taps_are_seen_and_the_last_gives_the_grid(taps):
    module = MultiScaleCombination(width=4, taps=(1, 2), pooling="max")
    params = module.init(jax.random.key(0), taps)

    @jax.jit
    def gradients(taps):
        return jax.grad(lambda taps: (module.apply(params, taps) ** 2).sum())(taps)

    assert module.apply(params, taps).shape == (2, 3, 3, 4)
    assert [bool(np.any(grad)) for grad in gradients(taps)] == [True, True, False, False]


def test_a_subset_begins_with_the_whole_sets_convolutions(taps):
    """Names stay, and flax draws by name."""
    whole, some = (
        MultiScaleCombination(width=4, taps=chosen).init(jax.random.key(0), taps)["params"]
        for chosen in ((1, 2, 3, 4), (3, 4))
    )
    for name in ("tap2", "tap3"):
        jax.tree.map(np.testing.assert_array_equal, nn.unbox(some[name]), nn.unbox(whole[name]))


@given(st.integers(1, 40), st.integers(1, 40))
def test_cells_cover_every_position_and_none_is_empty(size, cells):
    spans = pooling_cells(size, cells)
    assert len(spans) == cells
    assert all(0 <= first < last <= size for first, last in spans)
    assert set().union(*(range(*span) for span in spans)) == set(range(size))
    np.testing.assert_allclose(pooling_matrix(size, cells).sum(1), 1, rtol=1e-5)


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
def test_pooling_is_adaptive_pooling(h, w, height, width):
    x = np.random.default_rng(h * 10 + w).normal(size=(2, h, w, 3)).astype(np.float32)
    for name, function in (("average", average_pool), ("max", max_pool)):
        found = function(jnp.asarray(x), height, width)
        np.testing.assert_allclose(found, pool(x, height, width, name), atol=1e-6, err_msg=name)
