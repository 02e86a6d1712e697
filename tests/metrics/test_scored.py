"""Frames of many people: merged, averaged, resampled by person, decided by other thresholds."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from vlfau_jax.metrics import au
from vlfau_jax.metrics.au import Counts
from vlfau_jax.metrics.bootstrap import draws, resampled
from vlfau_jax.metrics.folds import averaged, pooled
from vlfau_jax.metrics.kinds import CountMetric
from vlfau_jax.metrics.scored import ScoredFrames
from vlfau_jax.metrics.table import AU_METRICS

AUS = (1, 6, 12)
VALUES = st.sampled_from([0.0, 0.2, 0.5, 0.50001, 0.7, 1.0]).map(np.float32)


@st.composite
def folds(draw, most=20):
    shape = (draw(st.integers(1, most)), len(AUS))
    probabilities = draw(hnp.arrays(np.float32, shape, elements=VALUES))
    return ScoredFrames(
        AUS,
        probabilities,
        probabilities > 0.5,
        draw(hnp.arrays(np.int8, shape, elements=st.integers(0, 1))),
        draw(hnp.arrays(bool, shape)),
        intensities=draw(hnp.arrays(np.int8, shape, elements=st.integers(-1, 5))),
    )


def same(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert value == pytest.approx(other[key], nan_ok=True, abs=1e-9), key


@settings(max_examples=30)
@given(folds(), st.data())
def test_frames_of_shards_merged_are_the_whole(fold, data):
    cut = data.draw(st.integers(0, len(fold.labels)))
    parts = [fold.at(np.arange(cut)), fold.at(np.arange(cut, len(fold.labels)))]
    merged = ScoredFrames.merged(parts)
    for unit in AUS:
        same(merged.per_au[unit], fold.per_au[unit])
    for name, average in fold.averages().items():
        same(merged.averages()[name], average)
    sums = [Counts.of(part.active, part.labels > 0, part.known) for part in parts]
    for metric in (m for m in AU_METRICS if isinstance(m, CountMetric)):
        values = metric.compute(sums[0] + sums[1])
        expected = [fold.per_au[unit][metric.name] for unit in AUS]
        np.testing.assert_allclose(values, expected)


@settings(max_examples=30)
@given(st.lists(folds(most=6), min_size=1, max_size=3))
def test_folds_are_pooled_by_their_counts_and_averaged_by_name(parts):
    scores = [part.per_au for part in parts]
    whole = ScoredFrames.merged(parts).per_au
    counts = [Counts.of(part.active, part.labels > 0, part.known) for part in parts]
    of_counts = pooled(AUS, sum(counts[1:], counts[0]))
    means = averaged(scores)
    for unit in AUS:
        f1s = [one[unit]["f1"] for one in scores]
        assert (
            means[unit]["f1"]
            == {
                "mean": pytest.approx(np.mean(f1s), nan_ok=True),  # undefined in one fold: in all
                "deviation": pytest.approx(np.std(f1s, ddof=1) if f1s[1:] else np.nan, nan_ok=True),
            }
        )
        for name in ("positives", "frames", "true_positives", "false_positives"):
            assert means[unit][name] == {"sum": whole[unit][name]}
        decisions = {metric.name for metric in AU_METRICS if metric.group == "decisions"}
        assert of_counts[unit].keys() == decisions
        for name, found in of_counts[unit].items():
            assert found == pytest.approx(whole[unit][name], nan_ok=True, abs=1e-12)


def test_folds_of_other_units_are_not_averaged():
    with pytest.raises(ValueError, match="different units"):
        averaged([{1: {}}, {2: {}}])


@settings(max_examples=30)
@given(folds())
def test_macro_and_micro_are_scikit_learns(fold):
    fold = ScoredFrames(fold.aus, fold.probabilities, fold.active, fold.labels, fold.known | True)
    found = fold.averages()
    on = fold.labels > 0
    defined = on.any(0)
    if defined.any():
        for name, score in (("f1", sk.f1_score), ("recall", sk.recall_score)):
            units = score(on, fold.active, average=None, zero_division=0)
            assert found["macro"][name] == pytest.approx(np.mean(units[defined]))
            micro = score(on, fold.active, average="micro", zero_division=0)
            assert found["micro"][name] == pytest.approx(micro)
        ap = sk.average_precision_score(on, fold.probabilities, average="micro")
        assert found["micro"]["average_precision"] == pytest.approx(ap)
    else:
        assert math.isnan(found["macro"]["f1"]) and math.isnan(found["micro"]["f1"])
    assert math.isnan(found["macro"]["pcc"])


def test_units_that_were_not_taught_are_in_no_average():
    rng = np.random.default_rng(0)
    probabilities = rng.random((40, 3), np.float32)
    labels, known = rng.integers(0, 2, (40, 3)), np.ones((40, 3), bool)
    arrays = (probabilities, probabilities > 0.5, labels, known)
    taught = ScoredFrames((1, 6), *(values[:, :2] for values in arrays))
    some = ScoredFrames(AUS, *arrays, untaught=(12,))
    for name in ("macro", "micro"):
        same(some.averages()[name], taught.averages()[name])
    subjects = rng.integers(0, 5, 40)
    bounds = some.intervals(subjects)
    assert bounds["macro"] == taught.intervals(subjects)["macro"]
    assert set(bounds["per_au"][12].values()) == {None}
    assert some.reliability()["12"] == []


@settings(max_examples=30)
@given(folds())
def test_counts_by_person_add_up(fold):
    subjects = np.arange(len(fold.labels)) % 3
    on = fold.labels > 0
    people = Counts.by_group(fold.active, on, fold.known, subjects, 3)
    whole = Counts.of(fold.active, on, fold.known)
    for name in ("tp", "fp", "fn", "tn"):
        np.testing.assert_array_equal(getattr(people, name).sum(0), getattr(whole, name))
    mine = Counts.of(*(values[subjects == 1] for values in (fold.active, on, fold.known)))
    np.testing.assert_array_equal(people.tp[1], mine.tp)


def test_draws_do_not_depend_on_how_many_fit_into_memory(monkeypatch):
    code = np.arange(12).reshape(6, 2)
    counts = Counts(code, code, code, code)
    whole, weights = resampled(counts, 50), draws(6, 50, 0)
    monkeypatch.setattr("vlfau_jax.metrics.bootstrap._CHUNK", 13)
    np.testing.assert_array_equal(resampled(counts, 50).tn, whole.tn)
    np.testing.assert_array_equal(draws(6, 50, 0), weights)
    np.testing.assert_array_equal(weights @ code, whole.fp)


def test_intervals_are_those_of_a_loop_over_draws():
    rng = np.random.default_rng(1)
    frames, people = 120, 6
    subjects = rng.integers(0, people, frames)
    labels = rng.integers(0, 2, (frames, 3))
    probabilities = np.clip(0.4 * labels + 0.6 * rng.random((frames, 3)), 0, 1).astype(np.float32)
    fold = ScoredFrames(AUS, probabilities, probabilities > 0.5, labels, np.ones((frames, 3), bool))
    found = fold.intervals(subjects, resamples=300, seed=5)
    values = []
    for times in draws(people, 300, 5):
        rows = np.repeat(np.arange(frames), times[subjects])
        values.append(sk.f1_score(labels[rows], fold.active[rows], average=None))
    expected = np.quantile(values, (0.025, 0.975), axis=0)
    for column, unit in enumerate(AUS):
        assert found["per_au"][unit]["f1"] == pytest.approx(expected[:, column])
    means = np.quantile(np.mean(values, 1), (0.025, 0.975))
    assert found["macro"]["f1"] == pytest.approx(means)
    assert (found["subjects"], found["resamples"], found["seed"]) == (people, 300, 5)
    low, high = found["macro"]["f1"]
    assert low < fold.averages()["macro"]["f1"] < high


def test_one_person_gives_no_interval():
    ones = np.ones((4, 3))
    fold = ScoredFrames(AUS, ones.astype(np.float32), ones > 0, ones, ones > 0)
    record = fold.intervals(np.zeros(4, int))
    assert record["subjects"] == 1 and record["macro"]["f1"] is None
    assert json.dumps(record)
    # Two, of whom one has no known label, are one.
    known = np.array([True, True, False, False])[:, None] & (ones > 0)
    fold = ScoredFrames(AUS, ones.astype(np.float32), ones > 0, ones, known)
    assert fold.intervals(np.array([0, 0, 1, 1]))["subjects"] == 1


@settings(max_examples=30)
@given(folds())
def test_thresholds_tuned_on_the_frames_themselves_are_the_most_f1_can_be(fold):
    own = (0.5,) * len(AUS)
    best = fold.decided_by(fold.best_thresholds(own)).per_au
    for column, unit in enumerate(AUS):
        value = fold.per_au[unit]["f1"]
        assert math.isnan(best[unit]["f1"]) == math.isnan(value)
        assert not best[unit]["f1"] < value
        if not fold.per_au[unit]["positives"]:
            assert fold.best_thresholds(own)[unit] == own[column]


def test_counts_of_many_folds_do_not_overflow():
    many = np.array([3_000_000_000])
    assert float(au.mcc(Counts(many, many, many, many))[0]) == 0.0
    assert float(au.mcc(Counts(many, 0 * many, 0 * many, many))[0]) == pytest.approx(1)
