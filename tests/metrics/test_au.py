import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vlfau_jax.metrics.au import is_active, more_frequent_state, roc_auc
from vlfau_jax.metrics.table import AU_METRICS, constant_scores, mean_f1, score

# Few distinct scores, so that ties are the rule and not the exception.
SCORES = st.sampled_from([0.0, 0.2, 0.5, 0.50001, 0.7, 1.0])


@st.composite
def folds(draw):
    shape = (draw(st.integers(1, 20)), 3)
    return (
        draw(hnp.arrays(np.float32, shape, elements=SCORES.map(np.float32))),
        draw(hnp.arrays(np.int8, shape, elements=st.integers(0, 1))),
        draw(hnp.arrays(bool, shape)),
    )


def count(scores, labels, known, threshold):
    """The definitions, frame by frame."""
    kept = [(s, y) for s, y, k in zip(scores, labels, known, strict=True) if k]
    tp = sum(s > threshold and y == 1 for s, y in kept)
    fp = sum(s > threshold and y == 0 for s, y in kept)
    fn = sum(s <= threshold and y == 1 for s, y in kept)
    pairs = [(a, b) for a, y in kept if y == 1 for b, z in kept if z == 0]
    wins = sum((a > b) + 0.5 * (a == b) for a, b in pairs)
    nan = float("nan")
    return {
        "precision": tp / (tp + fp) if tp + fn and tp + fp else nan,
        "recall": tp / (tp + fn) if tp + fn else nan,
        "f1": 2 * tp / (2 * tp + fp + fn) if tp + fn else nan,
        "accuracy": (len(kept) - fp - fn) / len(kept) if kept else nan,
        "auc": wins / len(pairs) if pairs else nan,
        "positives": tp + fn,
        "frames": len(kept),
    }


THRESHOLDS = (0.5, 0.2, 0.7)


def scored(aus, probabilities, labels, known, thresholds):
    return score(aus, probabilities, is_active(probabilities, thresholds), labels, known)


@settings(max_examples=80, deadline=None)
@given(folds())
def test_scores_are_the_definitions_counted_frame_by_frame(fold):
    probabilities, labels, known = fold
    units = scored((1, 6, 12), probabilities, labels, known, THRESHOLDS)
    assert list(units) == [1, 6, 12]
    for column, unit in enumerate(units.values()):
        threshold = np.float32(THRESHOLDS[column])
        expected = count(probabilities[:, column], labels[:, column], known[:, column], threshold)
        assert unit.keys() == {metric.name for metric in AU_METRICS} >= expected.keys()
        for name, value in expected.items():
            assert unit[name] == pytest.approx(value, nan_ok=True), name
            assert type(unit[name]) in (int, float), name  # as JSON can hold them


def test_pooled_over_frames_not_averaged_over_parts():
    labels = np.array([[1], [1], [1], [0], [0], [0]])
    probabilities = np.array([[0.9], [0.1], [0.1], [0.9], [0.9], [0.9]])
    known = np.ones_like(labels, bool)
    whole = scored((1,), probabilities, labels, known, (0.5,))[1]["f1"]
    assert whole == pytest.approx(2 / 7)  # 1 hit, 3 false, 2 missed


def test_a_unit_without_positives_has_no_f1_and_leaves_the_mean():
    labels = np.array([[1, 0], [0, 0]])
    probabilities = np.array([[0.9, 0.9], [0.1, 0.1]])
    scores = scored((1, 2), probabilities, labels, np.ones((2, 2), bool), (0.5, 0.5))
    assert all(math.isnan(scores[2][name]) for name in ("f1", "recall", "auc"))
    assert scores[2]["accuracy"] == 0.5
    assert mean_f1(scores) == 1.0
    assert math.isnan(mean_f1({2: scores[2]}))


def test_auc_knows_order_and_nothing_else():
    positive = np.array([False, False, True, True])
    assert roc_auc(np.array([0.1, 0.2, 0.3, 0.4]), positive) == 1.0
    assert roc_auc(np.array([0.4, 0.3, 0.2, 0.1]), positive) == 0.0
    assert roc_auc(np.zeros(4), positive) == 0.5


def test_threshold_is_exceeded_not_reached():
    on = np.array([[0.5]])
    rest = (np.array([[1]]), np.array([[True]]))
    assert scored((1,), on, *rest, (0.5,))[1]["recall"] == 0.0
    assert scored((1,), on, *rest, (0.49,))[1]["recall"] == 1.0


def test_each_unit_has_its_own_threshold():
    active = is_active(np.full((2, 3), 0.5, np.float32), (0.4, 0.5, 0.6))
    assert active.tolist() == [[True, False, False]] * 2


def test_floors():
    labels = np.array([[1, 0], [1, 1], [0, 0], [1, 0]])
    known = np.ones_like(labels, bool)
    all_on = constant_scores((1, 2), [True, True], labels, known)
    assert all_on[1]["f1"] == pytest.approx(2 * 3 / (3 + 4))
    assert all_on[2]["f1"] == pytest.approx(2 * 1 / (1 + 4))
    best = constant_scores((1, 2), more_frequent_state([30, 2], [40, 40]), labels, known)
    assert best[1]["f1"] == all_on[1]["f1"]
    assert best[2]["f1"] == 0.0
    assert mean_f1(best) == pytest.approx(all_on[1]["f1"] / 2)


def test_more_frequent_state_counts_known_labels_only():
    assert more_frequent_state([5, 5, 0], [9, 11, 0]).tolist() == [True, False, False]


def test_shapes_that_disagree_are_refused():
    with pytest.raises(ValueError, match="2 units"):
        score((1, 2), *[np.zeros((3, 1))] * 3, np.ones((3, 1), bool))
    with pytest.raises(ValueError, match=r"active \(2, 1\)"):
        score((1,), np.zeros((3, 1)), np.zeros((2, 1)), np.zeros((3, 1)), np.ones((3, 1), bool))
