import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vlfau_jax.model import windows
from vlfau_jax.model.swin import Swin


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(2, 4))
def test_join_undoes_partition(rows, cols, window):
    x = np.random.default_rng(0).normal(size=(2, rows * window, cols * window, 3))
    cut = windows.partition(x, window)
    assert cut.shape == (2 * rows * cols, window**2, 3)
    np.testing.assert_array_equal(windows.reverse(cut, window, rows * window, cols * window), x)


def test_padding_reaches_the_next_multiple_with_zeros():
    x = np.ones((1, 5, 9, 2), np.float32)
    padded = np.asarray(windows.pad_to_windows(x, 4))
    assert padded.shape == (1, 8, 12, 2)
    assert padded.sum() == x.sum()


def test_relative_positions_depend_on_the_offset_alone():
    window = 3
    index = windows.relative_position_index(window)
    where = {}
    for a in range(window**2):
        for b in range(window**2):
            offset = (a // window - b // window, a % window - b % window)
            assert where.setdefault(offset, index[a, b]) == index[a, b]
    assert sorted(where.values()) == list(range((2 * window - 1) ** 2))


def test_shift_mask_parts_what_the_roll_brought_together():
    height, width, window, shift = 8, 8, 4, 2
    mask = windows.shift_mask(height, width, window, shift)
    ys, xs = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    place = np.stack([ys, xs], -1).astype(np.float32)[None]
    rolled = np.roll(place, (-shift, -shift), (1, 2))
    cut = np.asarray(windows.partition(rolled, window))
    for tokens, block in zip(cut, mask, strict=True):
        # Cells of one shifted window are neighbours in the image unless the roll wrapped.
        apart = np.abs(tokens[:, None] - tokens[None]).max(-1) >= window
        np.testing.assert_array_equal(block < 0, apart)


def test_a_window_larger_than_the_map_is_cut_to_it(rng):
    """As in the reference, a window of 12 on a map of 10 x 13 is one of 10."""
    large, exact = (Swin(4, (1, 0, 0, 0), (2, 1, 1, 1), window=window) for window in (12, 10))
    image = rng.normal(size=(1, 40, 52, 3)).astype(np.float32)
    start = jax.jit(exact.init)(jax.random.key(0), image)
    table = start["params"]["stage0_block0"]["attention"]["relative_position_bias"].value
    assert table.shape == (19**2, 2)
    found, expected = (jax.jit(of.apply)(start, image) for of in (large, exact))
    np.testing.assert_array_equal(found[3], expected[3])
