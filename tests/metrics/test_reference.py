"""Every metric against scikit-learn, SciPy or its own definition, on random and degenerate inputs.

Where scikit-learn gives 0 or a warning for a quotient without a divisor, ours is NaN.
"""

import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from vlfau_jax.metrics import au, intensity
from vlfau_jax.metrics.au import Counts
from vlfau_jax.metrics.calibration import BINS, Reliability

# Few distinct scores, so that ties are the rule; 0, 1 and edges of bins among them.
SCORES = st.sampled_from([0.0, 1 / 15, 0.2, 0.5, 0.50001, 0.7, 1.0])


FLOATS = SCORES.map(np.float32)
EDGES = st.sampled_from([*np.linspace(0, 1, BINS + 1), 0.25, 0.5])  # of bins, to the last digit


@st.composite
def scored(draw, least=1, elements=FLOATS, dtype=np.float32):
    size = draw(st.integers(least, 25))
    scores = draw(hnp.arrays(dtype, size, elements=elements))
    return scores, draw(hnp.arrays(bool, size))


def quiet(function, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **options)


def counts(predicted, positive):
    return Counts.of(predicted, positive, np.ones_like(positive))


DECISIONS = {
    "f1": lambda y, p: quiet(sk.f1_score, y, p) if y.any() else math.nan,
    "precision": lambda y, p: sk.precision_score(y, p) if y.any() and p.any() else math.nan,
    "recall": lambda y, p: sk.recall_score(y, p) if y.any() else math.nan,
    "accuracy": lambda y, p: sk.accuracy_score(y, p),
    "balanced_accuracy": lambda y, p: (
        sk.balanced_accuracy_score(y, p) if y.any() and not y.all() else math.nan
    ),
    "mcc": lambda y, p: (
        sk.matthews_corrcoef(y, p) if 0 < y.sum() < y.size and 0 < p.sum() < p.size else math.nan
    ),
}


@pytest.mark.parametrize("name", DECISIONS)
@settings(max_examples=30)
@given(fold=scored())
def test_metrics_of_decisions_are_scikit_learns(name, fold):
    scores, positive = fold
    predicted = scores > 0.5
    expected = DECISIONS[name](positive, predicted)
    found = getattr(au, name)(counts(predicted, positive))
    assert float(found) == pytest.approx(expected, nan_ok=True, abs=1e-12)


@settings(max_examples=50)
@given(fold=scored())
def test_metrics_of_scores_are_scikit_learns(fold):
    scores, positive = fold
    both = positive.any() and not positive.all()
    auc = sk.roc_auc_score(positive, scores) if both else math.nan
    assert au.roc_auc(scores, positive) == pytest.approx(auc, nan_ok=True)
    ap = sk.average_precision_score(positive, scores) if positive.any() else math.nan
    assert au.average_precision(scores, positive) == pytest.approx(ap, nan_ok=True)


@settings(max_examples=50)
@given(fold=scored() | scored(elements=EDGES, dtype=np.float64))
def test_reliability_is_scikit_learns_curve_and_its_mean_gap(fold):
    scores, positive = fold
    share, probability = calibration_curve(positive, np.asarray(scores, np.float64), n_bins=BINS)
    found = Reliability.of(scores, positive)
    points = np.array(found.points)
    np.testing.assert_allclose(points[:, 0], probability, atol=1e-12)
    np.testing.assert_allclose(points[:, 1], share, atol=1e-12)
    assert points[:, 2].sum() == len(scores)
    gap = np.average(np.abs(share - probability), weights=points[:, 2])
    assert found.error == pytest.approx(gap, abs=1e-12)
    halves = [Reliability.of(scores[part], positive[part]) for part in (slice(4), slice(4, None))]
    assert (halves[0] + halves[1]).error == pytest.approx(found.error, abs=1e-12)


def test_without_frames_nothing_is_defined():
    none, off = np.zeros(0, np.float32), np.zeros(0, bool)
    assert all(math.isnan(float(getattr(au, name)(counts(off, off)))) for name in DECISIONS)
    assert math.isnan(au.roc_auc(none, off)) and math.isnan(au.average_precision(none, off))
    assert math.isnan(au.best_threshold(none, off)) and math.isnan(Reliability.of(none, off).error)
    for metric in (intensity.icc, intensity.pcc, intensity.mae):
        assert math.isnan(metric(none, none))


@settings(max_examples=50)
@given(fold=scored())
def test_no_threshold_has_a_higher_f1_than_the_best(fold):
    scores, positive = fold
    best = au.best_threshold(scores, positive)
    if not positive.any() or not scores.any():
        assert math.isnan(best)
        return
    thresholds = np.unique(np.append(scores, np.float32(0)))  # what a score of 0 to 1 can exceed
    values = [sk.f1_score(positive, scores > t, zero_division=0.0) for t in thresholds]
    assert 0 <= best < 1
    found = sk.f1_score(positive, scores > np.float32(best), zero_division=0.0)
    assert found == pytest.approx(max(values))


def test_of_thresholds_that_are_as_good_the_one_nearest_to_a_half_is_taken():
    positive = np.array([True, False])
    assert au.best_threshold(np.array([0.9, 0.2], np.float32), positive) == pytest.approx(0.55)
    # Either of two thresholds gives 2/3: all three on, or only the first.
    scores = np.array([0.9, 0.3, 0.2, 0.1], np.float32)
    positive = np.array([True, False, False, True])
    assert au.best_threshold(scores, positive) == pytest.approx(0.6)


@given(st.data())
def test_neighbours_among_floats_are_separated(data):
    low = data.draw(st.floats(0.125, 0.9375, width=32))
    high = np.nextafter(np.float32(low), np.float32(1))
    scores = np.array([low, high], np.float32)
    best = np.float32(au.best_threshold(scores, np.array([False, True])))
    assert (scores > best).tolist() == [False, True]


def anova_icc(*raters):
    """ICC(3,1) from the mean squares, as Shrout and Fleiss (1979) write it."""
    table = np.stack(raters, 1)
    n, k = table.shape
    grand = table.mean()
    rows = k * np.sum((table.mean(1) - grand) ** 2)
    between = n * np.sum((table.mean(0) - grand) ** 2)
    error = np.sum((table - grand) ** 2) - rows - between
    msr, mse = rows / (n - 1), error / ((n - 1) * (k - 1))
    return (msr - mse) / (msr + (k - 1) * mse)


@settings(max_examples=50)
@given(scored(least=2), st.data())
def test_metrics_of_intensities_are_their_definitions(fold, data):
    estimate = fold[0].astype(np.float64) * 5
    code = data.draw(hnp.arrays(np.int8, estimate.size, elements=st.integers(0, 5)))
    assert intensity.mae(estimate, code) == pytest.approx(sk.mean_absolute_error(code, estimate))
    varies = np.ptp(estimate) > 0, np.ptp(code) > 0
    icc = anova_icc(estimate, code) if any(varies) else math.nan
    pcc = stats.pearsonr(estimate, code).statistic if all(varies) else math.nan
    assert intensity.icc(estimate, code) == pytest.approx(icc, nan_ok=True, abs=1e-9)
    assert intensity.pcc(estimate, code) == pytest.approx(pcc, nan_ok=True, abs=1e-9)


def test_icc_is_that_of_a_published_example():
    """Shrout and Fleiss (1979), table 2: six targets, four judges, of whom ICC(3,1) is .71."""
    judges = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9]])
    judges = np.append(judges, [[6, 2, 4, 7]], 0).T
    assert round(anova_icc(*judges), 2) == 0.71
    for one, other in itertools.combinations(judges, 2):
        assert intensity.icc(one, other) == pytest.approx(anova_icc(one, other))
