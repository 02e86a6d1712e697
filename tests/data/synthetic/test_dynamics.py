import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlfau_jax.data.synthetic.dynamics import (
    BP4D_BEHAVIOUR,
    DISFA_BEHAVIOUR,
    draw_tracks,
    raised,
    smooth_noise,
)
from vlfau_jax.data.synthetic.renderer import RENDERED_AUS
from vlfau_jax.data.synthetic.scenes import draw_sequence

# Counted over BP4D's 146,847 coded frames.
BP4D_RATES = dict(
    zip(
        (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24),
        (
            0.2114,
            0.1710,
            0.2026,
            0.4609,
            0.5490,
            0.5943,
            0.5620,
            0.4656,
            0.1694,
            0.3433,
            0.1654,
            0.1514,
        ),
        strict=True,
    )
)
BP4D_PHI = {
    (6, 12): 0.54,
    (6, 7): 0.54,
    (10, 12): 0.53,
    (6, 10): 0.50,
    (1, 2): 0.46,
    (17, 24): 0.42,
    (7, 10): 0.39,
    (7, 12): 0.35,
    (15, 17): 0.29,
    (17, 23): 0.27,
    (23, 24): 0.26,
    (4, 12): -0.26,
}
DISFA_RATES = {
    1: 0.0497,
    2: 0.0431,
    4: 0.1524,
    6: 0.0789,
    9: 0.0418,
    12: 0.1288,
    25: 0.2771,
    26: 0.0882,
}


@pytest.fixture(scope="module")
def bp4d_levels():
    runs = [draw_tracks(BP4D_BEHAVIOUR, np.random.default_rng(k), 400) for k in range(180)]
    return np.stack(runs)


def test_bp4d_rates_and_correlations(bp4d_levels):
    active = bp4d_levels.reshape(-1, len(RENDERED_AUS)) >= 1
    for au, rate in BP4D_RATES.items():
        assert active[:, RENDERED_AUS.index(au)].mean() == pytest.approx(rate, abs=0.04), au
    phi = np.corrcoef(active.T.astype(float))
    for (one, other), value in BP4D_PHI.items():
        found = phi[RENDERED_AUS.index(one), RENDERED_AUS.index(other)]
        assert found == pytest.approx(value, abs=0.1), (one, other)


def test_disfa_rates():
    runs = [draw_tracks(DISFA_BEHAVIOUR, np.random.default_rng(k), 400) for k in range(180)]
    whole = np.rint(np.concatenate(runs))
    for au, rate in DISFA_RATES.items():
        found = (whole[:, RENDERED_AUS.index(au)] >= 2).mean()
        assert found == pytest.approx(rate, abs=0.04), au


def test_raised_rates_stop_at_one_half():
    rates = raised(DISFA_BEHAVIOUR, 2.0).rates
    assert rates[1] == pytest.approx(2 * 0.0497)
    assert rates[25] == 0.5
    assert raised(BP4D_BEHAVIOUR, 2.0).rates[10] == BP4D_RATES[10]


def test_levels_are_smooth_and_seldom_borderline(bp4d_levels):
    steps = np.abs(np.diff(bp4d_levels, axis=1))
    assert steps.max() < 2.7
    assert (steps > 1.5).mean() < 0.005
    active = bp4d_levels >= 1
    assert np.quantile(bp4d_levels[active], 0.25) > 2
    assert ((bp4d_levels > 0.61) & (bp4d_levels < 1.5)).mean() < 0.06
    weak = (bp4d_levels > 0.2) & ~active
    assert 0.05 < weak.mean() < 0.3
    assert np.quantile(bp4d_levels[~active], 0.98) < 0.75


def test_onsets_take_several_frames(bp4d_levels):
    """The first half of an onset, from below 0.7 to above 2, mostly takes two frames or more."""
    lengths = []
    for run in bp4d_levels:
        for track in run.T:
            for start in np.flatnonzero((track[:-1] < 0.7) & (track[1:] >= 0.7)):
                above = np.flatnonzero(track[start : start + 15] > 2)
                if len(above):
                    lengths.append(above[0])
    assert np.mean(np.array(lengths) >= 2) > 0.9
    assert 2 <= np.median(lengths) <= 6


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(4, 60))
def test_tracks_stay_in_range_and_follow_the_seed(seed, frames):
    once, again = (draw_tracks(BP4D_BEHAVIOUR, np.random.default_rng(seed), frames) for _ in "ab")
    assert once.shape == (frames, len(RENDERED_AUS))
    assert once.dtype == np.float32
    assert once.min() >= 0
    assert once.max() <= 5
    assert np.array_equal(once, again)


def test_a_longer_run_extends_a_shorter_one():
    short, long = (draw_tracks(BP4D_BEHAVIOUR, np.random.default_rng(5), n) for n in (12, 40))
    np.testing.assert_allclose(long[:12], short, atol=1e-6)
    a, b = (draw_sequence(BP4D_BEHAVIOUR, (1, 2), n) for n in (12, 40))
    np.testing.assert_allclose(b.levels[:12], a.levels, atol=1e-6)
    assert (a.light, a.backdrop) == (b.light, b.backdrop)
    assert b.poses[5].yaw == pytest.approx(a.poses[5].yaw)


def test_smooth_noise_has_unit_variance():
    noise = smooth_noise(np.random.default_rng(0), 20000, 3, 6.0)
    np.testing.assert_allclose(noise.var(axis=0), 1, atol=0.1)


def test_tasks_differ_in_light_wall_and_pose():
    scenes = [draw_sequence(BP4D_BEHAVIOUR, (0, k), 8) for k in range(6)]
    assert len({s.light for s in scenes}) == 6
    assert len({s.backdrop for s in scenes}) == 6
    yaw = np.array([[p.yaw for p in s.poses] for s in scenes])
    assert np.abs(yaw).max() <= 15
    assert yaw.mean(axis=1).std() > 1


def test_blinks_shut_the_eyes_now_and_then():
    blink = draw_sequence(BP4D_BEHAVIOUR, (0, 1), 2000).blink
    assert blink.shape == (2000,)
    assert blink.max() == 1
    assert 0.03 < (blink > 0.3).mean() < 0.15
