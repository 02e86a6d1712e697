"""Counts and phi against what numpy says of the same codes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vlfau_jax.data.read.statistics import count, phi, read_untaught, unlearnable
from vlfau_jax.errors import FileError

codes = st.integers(1, 5).flatmap(lambda n: arrays(np.int8, (30, n), elements=st.integers(-1, 1)))


@given(codes)
def test_counts_are_those_of_the_known_labels(codes):
    counts = count(codes == 1, codes >= 0)
    assert counts.frames == 30
    for i, column in enumerate(codes.T):
        known = column[column >= 0]
        assert (counts.active[i], counts.known[i]) == ((known == 1).sum(), len(known))
        assert counts.rates[i] == pytest.approx(known.mean() if len(known) else np.nan, nan_ok=True)
    at_once = (codes == 1).sum(1)
    assert counts.together.tolist() == [(at_once == k).sum() for k in range(codes.shape[1] + 1)]
    assert counts.mean_active == pytest.approx(at_once.mean())


@given(codes)
def test_phi_is_the_correlation_over_the_frames_in_which_both_are_known(codes):
    found = phi(codes == 1, codes >= 0)
    for i in range(codes.shape[1]):
        for j in range(codes.shape[1]):
            both = (codes[:, i] >= 0) & (codes[:, j] >= 0)
            one, other = codes[both, i].astype(float), codes[both, j].astype(float)
            if len(set(one)) < 2 or len(set(other)) < 2:
                assert np.isnan(found[i, j])
            else:
                assert found[i, j] == pytest.approx(np.corrcoef(one, other)[0, 1], abs=1e-9)


def test_an_active_code_that_is_not_known_does_not_count():
    au, known = np.ones((4, 1), bool), np.array([[True], [False], [False], [True]])
    assert count(au, known).active.tolist() == [2]
    assert count(au, known).together.tolist() == [2, 2]
    pair = np.array([[1, 1], [0, 0], [1, 0], [1, 0]], bool)
    known = np.array([[1, 1], [1, 1], [0, 1], [1, 0]], bool)
    assert phi(pair, known)[0, 1] == 1.0


def test_no_frames():
    counts = count(np.zeros((0, 2), bool), np.zeros((0, 2), bool))
    assert counts.frames == 0
    assert np.isnan(counts.rates).all()
    assert np.isnan(counts.mean_active)
    assert np.isnan(phi(np.zeros((0, 2), bool), np.zeros((0, 2), bool))).all()


@pytest.mark.parametrize(
    "stored", [[], {"12": "x"}, {"x": "never known"}, {"12": 1}, {"0": "never known"}, "12", None]
)
def test_what_names_no_untaught_unit_is_refused(stored):
    with pytest.raises(FileError, match=r"^config\.json: untaught: "):
        read_untaught(stored, "config.json")
    assert read_untaught({"12": "never known"}, "config.json") == {12: "never known"}


@given(codes)
def test_units_of_one_state_cannot_be_learned(codes):
    counts = count(codes == 1, codes >= 0)
    reasons = {
        i: {(): "never known", (0,): "never active", (1,): "always active"}[states]
        for i, column in enumerate(codes.T)
        if len(states := tuple(sorted(set(column.tolist()) - {-1}))) < 2
    }
    assert unlearnable(range(codes.shape[1]), counts.active, counts.known) == reasons
