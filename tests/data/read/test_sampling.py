from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vlfau_jax.data.read.labels import Labels
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.data.read.sampling import Draws, class_weights, row_weights
from vlfau_jax.errors import UserError

PLAIN = DataOptions()
CLASSES = replace(PLAIN, balance_classes=True)
SUBJECTS = replace(PLAIN, balance_subjects=True)
MIXED = replace(PLAIN, mixture_weights=(3.0, 1.0))
SETS = ("bp4d", "disfa")


def random_labels(rng: np.random.Generator, count: int = 400) -> Labels:
    """Five units: common, rarer, rare, never active, and one that only the first set codes."""
    subject = np.sort(rng.choice(4, count, p=(0.1, 0.5, 0.3, 0.1))).astype(np.int32)
    part = (subject >= 2).astype(np.int32)
    known = rng.random((count, 5)) < 0.95
    known[part == 1, 4] = False
    au = (rng.random((count, 5)) < (0.6, 0.2, 0.03, 0, 0.3)) & known
    zeros, level = np.zeros(count, np.int32), np.full(au.shape, -1, np.int8)
    return Labels(
        subject=subject, task=zeros, frame=zeros, au=au, known=known, level=level, part=part
    )


@pytest.fixture
def labels(rng) -> Labels:
    return random_labels(rng)


def everything(labels: Labels) -> np.ndarray:
    return np.arange(len(labels))


def shares(weights: np.ndarray, group: np.ndarray) -> np.ndarray:
    return np.bincount(group, weights)


def test_nothing_to_balance_gives_no_weights(labels):
    assert row_weights(labels, everything(labels), PLAIN, SETS) is None


def test_classes_are_the_mixture_of_a_uniform_draw_each(labels):
    """Against the definition: a class uniformly, then one of its rows uniformly."""
    rows = everything(labels)[37:]
    active, known = labels.au[rows], labels.known[rows].any(1)
    members = [np.flatnonzero(active[:, a]) for a in range(5)]
    members.append(np.flatnonzero(~active.any(1) & known))
    expected = np.zeros(len(rows))
    members = [m for m in members if len(m)]
    assert len(members) == 5  # the fourth unit is never active
    for rows_of_class in members:
        expected[rows_of_class] += 1 / len(members) / len(rows_of_class)
    assert row_weights(labels, rows, CLASSES, SETS) == pytest.approx(expected)


def test_a_row_without_a_known_label_is_in_no_class(labels):
    labels.known[::7], labels.au[::7] = False, False
    labels.known[3], labels.au[3] = (True, False, False, False, False), False
    weights = class_weights(labels, everything(labels))
    unknown = np.isin(everything(labels), range(0, 400, 7))
    assert not weights[unknown].any() and weights[~unknown].min() > 0
    inactive = ~labels.au.any(1) & ~unknown
    assert weights[inactive].sum() == pytest.approx(1)  # as much as any other class
    for options in (CLASSES, replace(CLASSES, balance_subjects=True, mixture_weights=(1.0, 1.0))):
        assert not row_weights(labels, everything(labels), options, SETS)[unknown].any()


def test_classes_of_nothing_known_are_refused(labels):
    labels.known[:], labels.au[:] = False, False
    with pytest.raises(UserError, match=r"data\.balance_classes: no training face has a known"):
        row_weights(labels, everything(labels), CLASSES, SETS)


def test_huge_shares_are_shares(labels):
    weights = row_weights(
        labels, everything(labels), replace(MIXED, mixture_weights=(1.5e308, 0.5e308)), SETS
    )
    assert shares(weights, labels.part) == pytest.approx([0.75, 0.25])


def test_a_rare_unit_comes_far_more_often(labels):
    weights = row_weights(labels, everything(labels), CLASSES, SETS)
    assert labels.au[:, 2].mean() < 0.05 < 0.2 < weights @ labels.au[:, 2]


def test_subjects_come_equally_often(labels):
    for options in (SUBJECTS, replace(SUBJECTS, balance_classes=True)):
        weights = row_weights(labels, everything(labels), options, SETS)
        assert shares(weights, labels.subject) == pytest.approx([0.25] * 4)
    within = weights[labels.subject == 1] / weights[labels.subject == 1].sum()
    classes = class_weights(labels, everything(labels))[labels.subject == 1]
    assert within == pytest.approx(classes / classes.sum())


def test_a_subject_without_rows_takes_no_share(labels):
    rows = np.flatnonzero(labels.subject != 1)
    weights = row_weights(labels, rows, SUBJECTS, SETS)
    assert shares(weights, labels.subject[rows]) == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3])


def test_sets_have_their_shares_whatever_else_is_balanced(labels):
    for options in (
        MIXED,
        replace(MIXED, balance_classes=True),
        replace(MIXED, balance_subjects=True),
        replace(MIXED, balance_subjects=True, balance_classes=True),
    ):
        weights = row_weights(labels, everything(labels), options, SETS)
        assert weights.sum() == pytest.approx(1) and weights.min() > 0
        assert shares(weights, labels.part) == pytest.approx([0.75, 0.25])
        if options.balance_subjects:
            assert shares(weights, labels.subject) == pytest.approx([0.375, 0.375, 0.125, 0.125])


@pytest.mark.parametrize(
    ("given_shares", "sets", "message"),
    [
        ((1.0,), ("bp4d",), "bp4d is one set"),
        ((1.0, 2.0, 3.0), SETS, "2 shares, one each for bp4d, disfa"),
        ((1.0, 0.0), SETS, "above 0"),
        ((1.0, -1.0), SETS, "above 0"),
    ],
)
def test_shares_that_do_not_fit_are_refused(labels, given_shares, sets, message):
    options = replace(PLAIN, mixture_weights=given_shares)
    with pytest.raises(UserError, match=rf"data\.mixture_weights=\(.*{message}") as error:
        row_weights(labels, everything(labels), options, sets)
    assert "\n" not in str(error.value)


def test_a_set_without_a_training_face_is_refused(labels):
    with pytest.raises(UserError, match="no face of disfa"):
        row_weights(labels, np.flatnonzero(labels.part == 0), MIXED, SETS)


def test_draws_have_the_frequencies_of_the_weights(rng):
    """Chi-square of 20,000 draws with 11 degrees of freedom; the seed fixes the outcome."""
    weights = rng.random(14)
    weights[[0, 5]] = weights[-1] = 0  # never drawn, in front, inside and at the end
    draws = Draws(np.arange(14), weights, seed=7)
    counts = np.bincount([draws[k] for k in range(20_000)], minlength=14)
    expected = weights / weights.sum() * 20_000
    assert not counts[expected == 0].any()
    drawn = expected > 0
    assert ((counts - expected)[drawn] ** 2 / expected[drawn]).sum() < 24.7  # p = 0.01


def test_a_draw_depends_on_seed_and_place_alone():
    uniform = np.arange(1000), np.ones(1000)
    draws = Draws(*uniform, seed=3)
    forwards = [draws[k] for k in range(50)]
    assert [draws[k] for k in reversed(range(50))] == forwards[::-1]
    assert [Draws(*uniform, seed=3)[k] for k in range(50)] == forwards
    assert [Draws(*uniform, seed=4)[k] for k in range(50)] != forwards
    assert len(set(forwards)) > 40
    assert draws[10**15] == Draws(*uniform, seed=3)[10**15]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.booleans(), st.booleans(), st.booleans())
def test_any_labels_give_weights_that_can_be_drawn(seed, count, classes, subjects, mixture):
    rng = np.random.default_rng(seed)
    labels = random_labels(rng, count)
    options = DataOptions(
        balance_classes=classes,
        balance_subjects=subjects,
        mixture_weights=(1.0, 2.0) if mixture and set(labels.part) == {0, 1} else (),
    )
    rows = everything(labels)
    assume(labels.known.any())
    weights = row_weights(labels, rows, options, SETS)
    if weights is None:
        return
    assert np.isfinite(weights).all() and abs(weights.sum() - 1) < 1e-9
    assert weights[labels.known.any(1)].min() > 0 <= weights.min()
    draws = Draws(rows + 5, weights, seed)
    assert all(5 <= draws[k] < count + 5 for k in range(20))
