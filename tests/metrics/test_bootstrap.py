"""Bootstrap over subjects: against plain loops, and what an interval promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vlfau_jax.metrics import au, bootstrap
from vlfau_jax.metrics.bootstrap import Counts


def counts_of(rng, subjects=6, units=3, frames=40):
    whose = rng.integers(0, subjects, frames)
    active, labels = (rng.integers(0, 2, (frames, units)) > 0 for _ in range(2))
    known = rng.random((frames, units)) < 0.8
    return whose, active, labels, known


@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 4), st.integers(1, 30))
def test_counts_are_those_of_a_loop_and_f1_is_that_of_scores_json(seed, subjects, units, frames):
    whose, active, labels, known = counts_of(np.random.default_rng(seed), subjects, units, frames)
    found = bootstrap.count(whose, subjects, active, labels, known)
    for s in range(subjects):
        for u in range(units):
            rows = (whose == s) & known[:, u]
            a, b = active[rows, u], labels[rows, u]
            wanted = [(a & b).sum(), (a & ~b).sum(), (~a & b).sum(), (~a & ~b).sum()]
            assert [values[s, u] for values in found] == wanted
    f1 = bootstrap.f1(found.pooled())
    for u in range(units):
        truth, answer = labels[known[:, u], u], active[known[:, u], u]
        assert f1[u] == pytest.approx(au.f1(answer, answer, truth), nan_ok=True)


def test_a_resample_is_its_subjects_with_all_their_frames(rng):
    whose, active, labels, known = counts_of(rng)
    counts = bootstrap.count(whose, 6, active, labels, known)
    drawn = bootstrap.draws(6, 20, seed=4)
    assert (drawn.sum(1) == 6).all()
    values = bootstrap.resample([counts], resamples=20, seed=4)
    for times, value in zip(drawn, values, strict=True):
        rows = np.concatenate([np.flatnonzero(whose == s) for s in np.repeat(range(6), times)])
        again = bootstrap.count(
            np.zeros(len(rows), int), 1, active[rows], labels[rows], known[rows]
        )
        assert value == pytest.approx(float(bootstrap.mean_f1(again.pooled())), nan_ok=True)


def test_paired_differences_have_the_same_subjects(rng):
    whose, active, labels, known = counts_of(rng, frames=400)
    one = bootstrap.count(whose, 6, active, labels, known)
    other = bootstrap.count(whose, 6, ~active, labels, known)
    assert not bootstrap.resample_difference([one], [one]).any()
    found = bootstrap.resample_difference([one, other], [other, other], seed=1)
    assert found == pytest.approx(bootstrap.resample_difference([one], [other], seed=1) / 2)


def test_a_clear_difference_is_significant_and_none_is_not(rng):
    whose, labels = np.repeat(np.arange(20), 30), rng.integers(0, 2, (600, 2)) > 0
    known = np.ones_like(labels)
    good, bad = (labels ^ (rng.random(labels.shape) < wrong) for wrong in (0.05, 0.3))
    one, other = (bootstrap.count(whose, 20, answer, labels, known) for answer in (good, bad))
    draws = bootstrap.resample_difference([one], [other])
    low, high = bootstrap.interval(draws, 20)
    truth = float(bootstrap.mean_f1(one.pooled()) - bootstrap.mean_f1(other.pooled()))
    assert 0 < low < truth < high
    assert bootstrap.p_value(draws, 20) == pytest.approx(2 / (bootstrap.RESAMPLES + 1))
    assert bootstrap.p_value(bootstrap.resample_difference([one], [one]), 20) == 1


@given(arrays(float, st.integers(1, 40), elements=st.floats(-1, 1)))
def test_p_is_a_share_and_doubles_the_smaller_tail(draws):
    p = bootstrap.p_value(draws, 5)
    assert 0 < p <= 1
    assert p == bootstrap.p_value(-draws, 5)
    if (draws > 0).all():
        assert p == min(1, 2 / (len(draws) + 1))


def test_one_subject_and_no_positive_are_undefined(rng):
    whose, active, labels, known = counts_of(rng, subjects=1)
    counts = bootstrap.count(whose, 1, active, labels, known)
    draws = bootstrap.resample([counts])
    assert np.isnan(bootstrap.interval(draws, 1)).all()
    assert np.isnan(bootstrap.p_value(draws, 1))
    none = Counts(*(np.zeros((3, 2), np.int64) for _ in range(4)))
    assert np.isnan(bootstrap.mean_f1(none.pooled()))
    assert np.isnan(bootstrap.interval(bootstrap.resample([none]), 3)).all()


def test_holm():
    assert bootstrap.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert bootstrap.holm([0.6, float("nan"), 0.7])[::2] == pytest.approx([1.0, 1.0])
    assert np.isnan(bootstrap.holm([0.6, float("nan")])[1])
    assert bootstrap.holm([]) == []
