"""Which test faces the report shows."""

import numpy as np

from vlfau_jax.evaluation.faces import choose


def test_faces_cover_the_units_then_show_failures_and_spread_over_subjects():
    labels = np.zeros((6, 3), np.int8)
    labels[1] = [1, 0, 0]
    labels[2] = [1, 1, 0]
    labels[4] = [0, 0, 1]
    active = labels == 1
    active[5] = True  # every unit wrong
    subjects = np.array([0, 0, 1, 1, 2, 2])
    assert choose(active, labels, subjects, 3)[:2] == [2, 4]
    chosen = choose(active, labels, np.arange(6), 3)
    assert chosen == [2, 4, 5]
    assert sorted(choose(active, labels, subjects, 99)) == list(range(6))


def test_unknown_labels_are_neither_coverage_nor_failure():
    labels = np.array([[-1, -1], [0, 1]], np.int8)
    active = np.array([[True, True], [False, False]])
    assert choose(active, labels, np.arange(2), 1) == [1]
