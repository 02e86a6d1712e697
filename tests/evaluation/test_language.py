"""Scores of the sentences' words are taken against the texts that the model learned."""

from types import SimpleNamespace

import numpy as np
import pytest

from vlfau_jax.data.text.descriptions import STATES, built_in
from vlfau_jax.evaluation.answers import Answers
from vlfau_jax.evaluation.scoring import _language

AUS = (6, 12)
LABELS = np.array([[1, 0], [1, 1], [0, 1], [1, 1]])
LEVELS = np.array([[3, 0], [-1, 5], [0, 1], [2, 4]], np.int8)


def words_of(local, whole, descriptions):
    """The scores of sentences, `local` [m][n] and `whole` [m], where the texts are these."""
    trained = SimpleNamespace(aus=AUS, captions=("local", "global"))
    dataset = SimpleNamespace(
        aus=AUS, nouns=("man",), parts=np.zeros(1, int), coded=np.ones((1, 2), bool)
    )
    predictions = [
        SimpleNamespace(aus=AUS, untaught={}, sentences=said, sentence=about)
        for said, about in zip(local, whole, strict=True)
    ]
    known = np.ones(LABELS.shape, bool)
    keys = np.zeros((len(LABELS), 3), int)
    return _language(
        trained, dataset, Answers(keys, LABELS, known, predictions, descriptions, LEVELS)
    )


def test_every_wording_of_a_state_is_true():
    texts = built_in("paraphrased")
    for k in range(3):
        local = [
            [texts.sentences(au, bool(on))[k] for au, on in zip(AUS, row, strict=True)]
            for row in LABELS
        ]
        whole = [texts.whole(AUS, row, "man", [k % 2] * 2) for row in LABELS]
        found = words_of(local, whole, texts)
        assert found["local"]["bleu_4"] == pytest.approx(1)
        assert found["global"]["bleu_4"] == pytest.approx(1)
        assert (found["local"]["distinct"], found["local"]["distinct_true"]) == (4, 12)
        assert (found["global"]["distinct"], found["global"]["distinct_true"]) == (3, 6)
        # Among the two texts of each unit alone, other wordings are not.
        plain = words_of(local, whole, STATES)
        assert (plain["local"]["bleu_4"] < 0.9) == (k > 0)
        assert (plain["global"]["bleu_4"] < 0.9) == (k % 2 > 0)


def test_a_coded_intensity_has_its_own_sentence():
    texts = built_in("graded")
    local = [
        [
            texts.local(au, bool(on), max(int(level), 0))
            for au, on, level in zip(AUS, *row, strict=True)
        ]
        for row in zip(LABELS, LEVELS, strict=True)
    ]
    whole = [texts.whole(AUS, row, "man") for row in LABELS]
    assert words_of(local, whole, texts)["local"]["bleu_4"] == pytest.approx(1)
    other = [row[:] for row in local]
    other[0][0] = texts.local(6, True, 5)
    assert words_of(other, whole, texts)["local"]["bleu_4"] < 0.99
