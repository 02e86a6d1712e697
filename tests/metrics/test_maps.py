import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vlfau_jax.metrics.maps import MappedFaces, cells, even, mass_in_region, pointing_game
from vlfau_jax.metrics.table import (
    MAP_METRICS,
    MAPS,
    map_score_names,
    mean_map_scores,
    score_maps,
)
from vlfau_jax.regions import COMPACT, TOLERANCE

SIZE, GRID = 56, (7, 7)
REGION = st.tuples(*(st.integers(0, SIZE - 1) for _ in range(2)), *(st.integers(1, 30),) * 2)
HEAT = arrays(np.float32, (3, *GRID), elements=st.floats(0, 1, width=32))


def mask(region):
    top, left, height, width = region
    found = np.zeros((1, SIZE, SIZE), bool)
    found[0, top : top + height, left : left + width] = True
    return found


def shares(region, faces=3):
    share, hit = cells(mask(region), GRID)
    return np.repeat(share, faces, 0), np.repeat(hit, faces, 0)


@given(REGION)
def test_even_attention_scores_the_regions_share(region):
    share, hit = shares(region)
    uniform = np.full((3, *GRID), 0.37)
    np.testing.assert_allclose(mass_in_region(uniform, share, hit), share[0].mean(), rtol=1e-6)
    np.testing.assert_allclose(pointing_game(uniform, share, hit), hit[0].mean(), rtol=1e-6)
    for metric in (pointing_game, mass_in_region):
        expected = metric(uniform, share, hit)
        assert even(metric)(None, share, hit) == pytest.approx(expected, rel=1e-6)


@given(REGION, HEAT)
def test_attention_inside_scores_one_and_outside_none(region, heat):
    share, hit = shares(region)
    for where, expected in ((share == 1, 1.0), (share == 0, 0.0)):
        if where[0].any():
            inside = (heat + 0.01) * where
            assert abs(mass_in_region(inside, share, hit) - expected) < 1e-6
    for where, expected in ((hit, 1.0), (~hit, 0.0)):
        if where[0].any():
            assert pointing_game((heat + 0.01) * where, share, hit) == expected


@given(REGION, HEAT, st.floats(0.1, 50))
def test_scores_lie_between_0_and_1_and_no_scale_changes_them(region, heat, scale):
    share, hit = shares(region)
    heat = heat + np.float32(0.01)
    for metric in (pointing_game, mass_in_region):
        found = metric(heat, share, hit)
        assert 0 <= found <= 1
        assert metric(heat * 4.0, share, hit) == pytest.approx(found, rel=1e-5)
    assert mass_in_region(heat * scale, share, hit) == pytest.approx(
        mass_in_region(heat, share, hit), rel=1e-4
    )


@given(REGION)
def test_a_cell_is_hit_where_its_centre_is_near_enough(region):
    share, hit = cells(mask(region), GRID)
    ys, xs = np.nonzero(mask(region)[0])
    for i in range(7):
        for j in range(7):
            nearest = np.hypot(ys - (8 * i + 4), xs - (8 * j + 4)).min()
            if nearest < TOLERANCE * SIZE - 1:
                assert hit[0, i, j]
            if nearest > TOLERANCE * SIZE + 1:
                assert not hit[0, i, j]
    assert ((share > 0) | ~hit).all()


def test_share_is_the_area_of_the_wider_region():
    found = mask((8, 8, 16, 24))
    share, _ = cells(found, GRID)
    reach = round(TOLERANCE * SIZE)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2)
    wide = cv2.dilate(found[0].astype(np.uint8), disc)
    np.testing.assert_allclose(share[0], wide.reshape(7, 8, 7, 8).mean((1, 3)), atol=1e-6)
    assert share[0].mean() > found.mean()


def test_undefined_numbers_are_nan():
    none = np.zeros((0, *GRID))
    for metric in (pointing_game, mass_in_region):
        assert np.isnan(metric(none, none, none > 0))
    share, hit = shares((0, 0, 10, 10))
    assert np.isnan(mass_in_region(np.full((3, *GRID), -1.0), share, hit))


def faces(rng, judged):
    share, hit = (
        np.stack([values] * len(judged))
        for values in map(
            np.concatenate,
            zip(*(cells(mask(r), GRID) for r in ((8, 8, 8, 8), (0, 0, 56, 56))), strict=True),
        )
    )
    maps = {whose: rng.random(share.shape) for whose in MAPS}
    return MappedFaces(maps, share, hit, np.array(judged, bool))


def test_only_judged_faces_and_compact_units_count(rng):
    found = faces(rng, [[1, 1], [0, 1], [1, 1]])
    scores = score_maps((1, 26), found)
    assert scores[1].keys() == {*map_score_names(), "region_area", "map_frames"}
    assert (scores[1]["map_frames"], scores[26]["map_frames"]) == (2, 3)
    assert scores[1]["region_area"] < COMPACT < scores[26]["region_area"] == 1
    rows = [0, 2]
    for metric in MAP_METRICS:
        for whose, prefix in MAPS.items():
            expected = metric.compute(
                found.maps[whose][rows, 0], found.share[rows, 0], found.hit[rows, 0]
            )
            assert scores[1][prefix + metric.name] == expected
            assert scores[26][prefix + metric.name] == pytest.approx(1.0)
    assert mean_map_scores(scores) == {name: scores[1][name] for name in map_score_names()}


def test_a_unit_that_is_never_on_and_a_map_that_is_missing_have_no_score(rng):
    found = faces(rng, [[1, 0], [1, 0]])
    del found.maps["words"]
    scores = score_maps((1, 26), found)
    assert np.isnan([scores[26][name] for name in map_score_names()]).all()
    assert np.isnan([scores[1][f"words_{metric.name}"] for metric in MAP_METRICS]).all()
    assert not np.isnan([scores[1][metric.name] for metric in MAP_METRICS]).any()
    assert np.isnan(list(mean_map_scores({}).values())).all()


def test_entries_have_keys_of_their_own():
    names = map_score_names()
    assert len(set(names)) == len(names) == len(MAP_METRICS) * (len(MAPS) + 1)
    assert {"pointing_game", "mass_in_region"} <= set(names)
