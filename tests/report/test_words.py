"""Sentences word by word: small maps for the script, on a scale that the page can state."""

import base64

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.report.examples import word_maps
from vlfau_jax.inference.explained import WordMaps
from vlfau_jax.report.pictures import heat_layer, times_even
from vlfau_jax.report.words import MOST_CELLS, colours, words_data


def decoded(data):
    rows, columns = data["grid"]
    values = np.frombuffer(base64.b64decode(data["maps"]), np.uint8)
    return values.reshape(-1, rows, columns)


@given(st.integers(0, 1000), st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_a_map_is_told_in_multiples_of_even_attention(seed, lengths):
    rng = np.random.default_rng(seed)
    sentences = [word_maps("word " * length, rng) for length in lengths]
    data = words_data(sentences)
    levels = decoded(data)
    assert len(levels) == sum(lengths)
    for one, told in zip(sentences, data["sentences"], strict=True):
        assert told["words"] == list(one.words)
        even = times_even(one.maps)
        mine = levels[told["first"] : told["first"] + len(one.words)]
        assert mine.max() == 255
        np.testing.assert_allclose(mine / 255 * told["scale"], even, atol=0.003 * told["scale"])


def test_a_large_map_is_averaged_down():
    maps = np.zeros((1, 56, 28), np.float32)
    maps[0, :4, :2] = 1
    data = words_data([WordMaps(("word",), maps)])
    assert data["grid"] == [MOST_CELLS, MOST_CELLS]
    (level,) = decoded(data)
    assert level[0, 0] == 255 == level.astype(int).sum(), "one cell of 14 x 14, which it fills"


def test_without_words_there_is_nothing():
    assert words_data([]) == {"sentences": [], "grid": [0, 0], "maps": ""}
    empty = words_data([WordMaps((), np.zeros((0, 7, 7), np.float32))])
    assert empty["sentences"] == [{"words": [], "scale": 0.0, "first": 0}] and empty["maps"] == ""


def test_a_word_without_attention_is_clear():
    data = words_data([WordMaps(("word",), np.zeros((1, 7, 7), np.float32))])
    assert not decoded(data).any() and data["sentences"][0]["scale"] == 0


def test_the_colours_are_those_of_the_other_maps():
    found = colours()
    palette = np.frombuffer(base64.b64decode(found["palette"]), np.uint8).reshape(256, 3)
    ramp = cv2.resize(np.linspace(0, 1, 32, dtype=np.float32)[None], (32, 32))
    layer = heat_layer(ramp, 1.0)[0]
    levels = np.rint(255 * np.linspace(0, 1, 32)).astype(int)
    np.testing.assert_array_equal(layer[:, :3], palette[levels])
    np.testing.assert_allclose(layer[:, 3], found["opacity"] * levels, atol=1)
