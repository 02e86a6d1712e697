import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest

from vlfau_jax.data.text.descriptions import built_in, global_description, local_description
from vlfau_jax.data.text.reading import Reader
from vlfau_jax.metrics.statements import ExplainedFaces, states
from vlfau_jax.metrics.table import explain

AUS = (1, 12)


def test_states_needs_the_right_unit():
    right, wrong = local_description(1, True), local_description(2, True)
    off = local_description(12, False)
    sentences = [[right, off], [wrong, off]]
    assert states(AUS, sentences, Reader()).tolist() == [[1, 0], [-1, 0]]


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


FACES = {  # two faces of AU 1 and 12
    "labels": np.array([[1, 0], [1, 1]]),
    "known": np.array([[True, True], [True, False]]),
    "active": np.array([[True, False], [False, True]]),
    "nouns": ["man", "woman"],
    "constant": np.array([True, False]),
}


def test_faithfulness_is_counted_near_the_threshold_alone():
    said, nothing = local_description(1, True), "the the the"
    off, on = local_description(12, False), local_description(12, True)
    margin = np.array([[0.05, -0.1], [-0.2, 0.3]])
    faces = ExplainedFaces(AUS, [[said, on], [said, nothing]], None, **FACES, margin=margin)
    found = explain(faces)
    assert (found["agreement"], found["contradiction"], found["unsaid"]) == (0.25, 0.5, 0.25)
    assert found["agreement_near"] == 0.5  # the first face's, of which one sentence agrees
    better = explain(dataclasses.replace(faces, local=[[said, off], [said, nothing]]))
    assert (better["agreement_near"], better["contradiction"]) == (1.0, 0.25)
    for other in (None, margin + 9):
        assert math.isnan(explain(dataclasses.replace(faces, margin=other))["agreement_near"])
    taught = dataclasses.replace(faces, taught=np.array([True, False]))
    assert explain(taught)["agreement_near"] == 1.0


def test_units_named_in_the_sentence_are_held_against_scores_and_labels():
    whole = [
        "a man raises inner brow and drops jaw.",
        "a man raises inner brow and pulls lip corner.",
    ]
    found = explain(ExplainedFaces(AUS, None, whole, **FACES))
    # Named are AU 1, 26 (which the data lack), 1 and 12: scores 1 0 0 1, known labels 1 0 1.
    assert found["named_inactive"] == 0.5
    assert found["named_untrue"] == pytest.approx(1 / 3)
    assert found["active_unnamed"] == 0.0
    silent = explain(ExplainedFaces(AUS, None, ["a man shows no action unit."] * 2, **FACES))
    assert silent["active_unnamed"] == 1.0
    assert math.isnan(silent["named_inactive"]) and math.isnan(silent["named_untrue"])


def test_what_a_sentence_says_is_known_from_the_texts_of_the_model():
    texts = built_in("paraphrased")
    said = [
        [texts.sentences(au, bool(on))[2] for au, on in zip(AUS, row, strict=True)]
        for row in FACES["active"]
    ]
    whole = [texts.whole(AUS, row, "man", (1, 1)) for row in FACES["active"]]
    other = ExplainedFaces(AUS, said, whole, **FACES)
    known = explain(dataclasses.replace(other, descriptions=texts))
    assert known["agreement"] == 1.0 and known["unsaid"] == known["named_inactive"] == 0.0
    assert explain(other)["unsaid"] == 1.0 and explain(other)["active_unnamed"] == 1.0


def test_texts_that_speak_of_nobody_have_no_noun_to_be_right():
    texts = built_in()
    face = texts.face.model_copy(update={"active": "{phrases}.", "inactive": "nothing."})
    faces = ExplainedFaces(AUS, None, ["dimples."] * 2, **FACES)
    assert explain(faces)["noun_accuracy"] == 0.0
    nobody = dataclasses.replace(faces, descriptions=texts.model_copy(update={"face": face}))
    assert math.isnan(explain(nobody)["noun_accuracy"])
