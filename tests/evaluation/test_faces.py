"""Which test faces the report shows, and how sure the model was of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import log_loss

from vlfau_jax.evaluation.faces import RULES, choose, mean_log_loss


def by_rule(chosen):
    return {rule: sorted(row for row, rules in chosen.items() if rule in rules) for rule in RULES}


def test_representative_faces_cover_the_units_and_spread_over_persons():
    labels = np.zeros((6, 3), np.int8)
    labels[1] = [1, 0, 0]
    labels[2] = [1, 1, 0]
    labels[4] = [0, 0, 1]
    none = np.full(6, np.nan)
    assert list(choose(none, labels, np.array([0, 0, 1, 1, 2, 2])))[:3] == [2, 4, 1]
    assert list(choose(none, labels, np.arange(6))) == [2, 4, 1, 0, 3, 5]
    assert list(choose(none, labels, np.zeros(6, int))) == [2, 4, 1, 0, 3, 5]


def test_the_worst_and_best_faces_are_of_different_persons_and_ties_go_to_the_first():
    labels = np.zeros((9, 2), np.int8)
    losses = np.array([5.0, 6.0, 7.0, 3.0, 3.0, 0.5, 0.25, 0.25, np.nan])
    people = np.array([0, 0, 0, 1, 1, 2, 2, 3, 4])
    found = by_rule(choose(losses, labels, people))
    assert found["worst"] == [2, 3, 5]
    assert found["best"] == [3, 6, 7]
    one = by_rule(choose(losses, labels, np.zeros(9, int)))
    assert (one["worst"], one["best"]) == ([0, 1, 2], [5, 6, 7])


def test_a_face_that_two_rules_choose_is_shown_once_and_says_both():
    chosen = choose(np.array([1.0]), np.ones((1, 1), np.int8), np.zeros(1, int))
    assert chosen == {0: tuple(RULES)}


def test_a_face_without_known_labels_is_neither_best_nor_worst():
    labels = np.array([[-1, -1], [0, 1]], np.int8)
    losses = mean_log_loss(np.full((2, 2), 0.5, np.float32), labels)
    found = by_rule(choose(losses, labels, np.arange(2)))
    assert found["worst"] == found["best"] == [1]
    assert found["representative"] == [0, 1]


@given(st.data())
def test_the_log_loss_is_scikit_learns_over_the_known_units(data):
    n = data.draw(st.integers(1, 6))
    p = data.draw(arrays(np.float32, (1, n), elements=st.floats(0, 1, width=32)))
    labels = data.draw(arrays(np.int8, (1, n), elements=st.integers(-1, 1)))
    (found,) = mean_log_loss(p, labels)
    known = labels[0] >= 0
    if not known.any():
        assert np.isnan(found)
        return
    sure = np.clip(p[0, known].astype(float), 1e-7, 1 - 1e-7)
    expected = log_loss(labels[0, known], sure, labels=[0, 1])
    assert found == pytest.approx(expected, rel=1e-6, abs=2e-7)
