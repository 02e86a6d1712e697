"""Codes to labels: thresholds, exclusions, and the published rates and weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vlfau_jax.data.raw.bp4d_published import BP4D_PUBLISHED as BP4D
from vlfau_jax.data.raw.codes import decide, excluded, units_with_occurrence
from vlfau_jax.data.raw.disfa_published import DISFA_PUBLISHED as DISFA
from vlfau_jax.data.sets import SETS
from vlfau_jax.losses.joint import class_weights


def by_occurrence(dataset, occurrence):
    return units_with_occurrence(occurrence, SETS[dataset].published.codes_occurrence)


def one_unit(occurrence, intensity, threshold, dataset="folder"):
    """Active and known of one unit, as lists."""
    codes = [np.array(column, np.int8)[:, None] for column in (occurrence, intensity)]
    au, known = decide(*codes, by_occurrence(dataset, codes[0]), threshold)
    return au[:, 0].tolist(), known[:, 0].tolist()


@pytest.mark.parametrize(
    ("threshold", "active"), [(1, [0, 1, 1, 1, 1, 1]), (2, [0, 0, 1, 1, 1, 1]), (5, [0] * 5 + [1])]
)
def test_an_intensity_at_the_threshold_is_active(threshold, active):
    au, known = one_unit([-1] * 7, [0, 1, 2, 3, 4, 5, -1], threshold)
    assert au == [*map(bool, active), False]
    assert known == [True] * 6 + [False]


@pytest.mark.parametrize("dataset", ["bp4d", "folder"])
def test_a_unit_with_occurrence_codes_is_decided_by_them_alone(dataset):
    # The third frame is BP4D's 9: unknown, whatever its intensity is.
    au, known = one_unit([1, 0, -1, -1], [0, 5, 5, 1], 2, dataset)
    assert (au, known) == ([True, False, False, False], [True, True, False, False])


def test_a_unit_of_bp4d_that_is_9_everywhere_stays_unknown():
    assert one_unit([-1, -1], [5, 0], 2, "bp4d") == ([False, False], [False, False])
    assert one_unit([-1, -1], [5, 0], 2, "disfa") == ([True, False], [True, True])


def test_nothing_coded_is_unknown_and_nothing_is_nothing():
    assert one_unit([-1], [-1], 2) == ([False], [False])
    none = np.zeros((0, 3), np.int8)
    found = decide(none, none, by_occurrence("folder", none), 2)
    assert [part.shape for part in found] == [(0, 3)] * 2


@given(
    codes=hnp.arrays(np.int8, (2, 9, 3), elements=st.integers(-1, 1)),
    dataset=st.sampled_from(["bp4d", "disfa", "folder"]),
    threshold=st.integers(1, 5),
)
def test_labels_are_the_definition_cell_by_cell(codes, dataset, threshold):
    occurrence, intensity = codes[0], codes[1] * 3
    intensity[intensity < 0] = -1
    au, known = decide(occurrence, intensity, by_occurrence(dataset, occurrence), threshold)
    assert not (au & ~known).any()
    for i, j in np.ndindex(9, 3):
        occurs = dataset == "bp4d" or (occurrence[:, j] >= 0).any()
        code, least = (occurrence[i, j], 1) if occurs else (intensity[i, j], threshold)
        assert (au[i, j], known[i, j]) == (code >= least, code >= 0)


def disfa():
    """Everybody of DISFA with all their frames: subjects, subject [m], frame [m]."""
    subjects = sorted(subject for subject, _ in DISFA.runs)
    last = [DISFA.runs[subject, 1][1] for subject in subjects]
    subject = np.repeat(np.arange(len(subjects)), last)
    return subjects, subject, np.concatenate([np.arange(1, n + 1) for n in last])


def test_excluded_stretches_leave_the_published_numbers_of_frames():
    subjects, subject, frame = disfa()
    left_out = excluded(DISFA.excluded, subjects, subject, frame)
    assert (len(frame), int(left_out.sum())) == (130_814, 4_670)
    sizes = [
        int((~left_out & np.isin(subject, [subjects.index(s) for s in part])).sum())
        for part in DISFA.parts
    ]
    assert sizes == [43_173, 40_344, 42_627]


def test_exclusion_is_exact_at_the_borders():
    subjects, subject, frame = disfa()
    kept = ~excluded(DISFA.excluded, subjects, subject, frame)
    for name, stretches in DISFA.excluded.items():
        theirs = subject == subjects.index(name)
        frames = frame[theirs & kept].tolist()
        for first, last in stretches:
            assert not set(range(first, last + 1)) & set(frames)
            assert first - 1 in frames or any(first - 1 == other for _, other in stretches)
            assert last == frame[theirs].max() or last + 1 in frames


def test_only_disfa_leaves_frames_out():
    subjects, subject, frame = disfa()
    assert not excluded(BP4D.excluded, subjects, subject, frame).any()
    assert not excluded(DISFA.excluded, ["SN002"], np.zeros(2, int), np.array([799, 827])).any()
    assert excluded(DISFA.excluded, ["SN002"], np.zeros(2, int), np.array([800, 826])).all()


def test_class_weights_against_me_graphaus():
    """The weights that it ships for fold 1 sum to 12, and invert to rates that give them back."""
    shipped = np.array(list(BP4D.weights.values()))
    assert shipped.sum() == pytest.approx(12, abs=1e-5)
    known = np.full(12, 10**9)
    from_rates = class_weights(np.round(known * 0.1 / shipped).astype(int), known)
    np.testing.assert_allclose(from_rates, shipped, rtol=2e-6)
    # The published rates are of all 41 people, the weights of the 28 of fold 1: they differ by
    # up to 11 % (AU2), as the people do. Weights of 1 would be off by up to 131 % (AU7).
    overall = np.array(list(BP4D.rates.values()))
    weights = class_weights(np.round(overall * 1e7).astype(int), known)
    assert np.abs(weights / shipped - 1).max() < 0.12
