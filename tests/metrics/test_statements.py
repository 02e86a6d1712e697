import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlfau_jax.data.text.descriptions import global_description, local_description
from vlfau_jax.facs import ACTION_UNITS, BP4D_AUS
from vlfau_jax.metrics.statements import ExplainedFaces, named, stated, states
from vlfau_jax.metrics.table import explain

FACTS = [(au, active) for au in ACTION_UNITS for active in (False, True)]
AUS = (1, 12)


@pytest.mark.parametrize(("au", "active"), FACTS)
def test_every_description_states_itself(au, active):
    assert stated(local_description(au, active)) == (au, active)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(FACTS), st.data())
def test_one_or_two_wrong_words_keep_the_fact(fact, data):
    sentence = local_description(*fact).split()
    for _ in range(2):
        place = data.draw(st.integers(3, len(sentence) - 1))
        edit = data.draw(st.sampled_from(["drop", "double", "swap for <unk>"]))
        if edit == "drop":
            del sentence[place]
        elif edit == "double":
            sentence.insert(place, sentence[place])
        else:
            sentence[place] = "<unk>"
    assert stated(" ".join(sentence)) == fact


@pytest.mark.parametrize("sentence", ["", ".", "the the the the", "a man shows no action unit."])
def test_a_sentence_about_nothing_states_nothing(sentence):
    assert stated(sentence) is None


def test_a_broken_off_sentence_states_nothing():
    assert stated(" ".join(local_description(1, True).split()[:6])) is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.booleans(), min_size=12, max_size=12), st.sampled_from(["man", "woman"]))
def test_a_global_sentence_names_its_active_units(active, noun):
    true = {au for au, on in zip(BP4D_AUS, active, strict=True) if on}
    assert named(global_description(BP4D_AUS, active, noun)) == true


def test_states_needs_the_right_unit():
    right, wrong = local_description(1, True), local_description(2, True)
    off = local_description(12, False)
    assert states(AUS, [[right, off], [wrong, off]]).tolist() == [[1, 0], [-1, 0]]


def sentences_of(labels):
    local = [
        [local_description(a, bool(on)) for a, on in zip(AUS, row, strict=True)] for row in labels
    ]
    return local, [global_description(AUS, row, "man") for row in labels]


def explained(*fields):
    """`explain` with the scores as attributes."""
    return SimpleNamespace(**explain(ExplainedFaces(AUS, *fields)))


def test_perfect_sentences_score_one():
    labels = np.array([[1, 0], [0, 1], [1, 1]])
    known = np.ones((3, 2), bool)
    result = explained(
        *sentences_of(labels), labels, known, labels > 0, ["man"] * 3, np.array([True, False])
    )
    assert (result.polarity_accuracy, result.agreement) == (1.0, 1.0)
    assert (result.global_f1, result.noun_accuracy) == (1.0, 1.0)
    assert result.polarity_constant == pytest.approx(3 / 6)


def test_a_model_that_writes_no_such_sentence_has_no_such_score():
    labels, known = np.array([[1, 0]]), np.ones((1, 2), bool)
    local, global_ = sentences_of(labels)
    rest = (labels, known, labels > 0, ["man"], np.array([True, False]))
    partial = explained(None, global_, *rest)
    assert math.isnan(partial.polarity_accuracy) and math.isnan(partial.agreement)
    assert (partial.polarity_constant, partial.global_f1, partial.noun_accuracy) == (1.0, 1.0, 1.0)
    partial = explained(local, None, *rest)
    assert math.isnan(partial.global_f1) and math.isnan(partial.noun_accuracy)
    assert (partial.polarity_accuracy, partial.agreement) == (1.0, 1.0)


def test_truth_and_agreement_are_two_questions():
    labels = np.array([[1, 0]])
    scored = np.array([[False, False]])
    result = explained(
        *sentences_of(labels),
        labels,
        np.ones((1, 2), bool),
        scored,
        ["woman"],
        np.array([True, True]),
    )
    assert result.polarity_accuracy == 1.0
    assert result.agreement == 0.5
    assert result.noun_accuracy == 0.0


def test_unknown_labels_are_not_judged_but_agreement_is():
    labels, known = np.array([[1, 0]]), np.array([[False, True]])
    local, global_ = sentences_of(np.array([[0, 0]]))
    result = explained(local, global_, labels, known, labels > 0, ["man"], np.array([True, True]))
    assert result.polarity_accuracy == 1.0
    assert result.agreement == 0.5
    assert math.isnan(result.global_f1)  # nothing true, nothing named


def test_global_f1_counts_a_unit_the_data_set_does_not_have():
    labels = np.array([[1, 0]])
    local, _ = sentences_of(labels)
    result = explained(
        local,
        ["a man raises inner brow and drops jaw."],
        labels,
        np.ones((1, 2), bool),
        labels > 0,
        ["man"],
        np.array([True, False]),
    )
    assert result.global_f1 == pytest.approx(2 / 3)


def test_units_that_were_not_taught_count_nowhere():
    labels, known = np.array([[1, 0], [1, 1]]), np.ones((2, 2), bool)
    local, global_ = sentences_of(np.array([[1, 1], [1, 0]]))  # wrong about the second unit alone
    given = (local, global_, labels, known, labels > 0, ["man"] * 2, np.array([True, True]))
    assert explained(*given).polarity_accuracy == 0.5
    result = explained(*given, np.array([True, False]))
    assert (result.polarity_accuracy, result.agreement, result.global_f1) == (1.0, 1.0, 1.0)
    assert result.polarity_constant == 1.0
