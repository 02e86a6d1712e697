"""Overlap of sentences: the COCO caption scorer's numbers, and corpora that are added."""

import json
import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlfau_jax.data.text.descriptions import STATES
from vlfau_jax.data.text.splitting import words
from vlfau_jax.data.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from vlfau_jax.metrics.overlap import bleu, cider_d, distinct, rouge_l

STORED = json.loads((Path(__file__).parent / "coco_caption_scores.json").read_text())["corpora"]


def corpus_of(rows):
    return Counter((sentence, tuple(references)) for sentence, references in rows)


@pytest.mark.parametrize("name", STORED)
def test_scores_are_the_coco_scorers(name):
    stored = STORED[name]
    corpus = corpus_of(stored["rows"])
    assert bleu(corpus) == pytest.approx(stored["bleu"], rel=1e-9)
    assert rouge_l(corpus) == pytest.approx(stored["rouge_l"], rel=1e-9)
    assert cider_d(corpus) == pytest.approx(stored["cider_d"], rel=1e-9, abs=1e-12)


def test_the_stored_scores_are_not_trivial():
    assert 0.1 < STORED["local"]["bleu"][3] < 0.9 and 1 < STORED["local"]["cider_d"] < 9
    assert 0.1 < STORED["global"]["rouge_l"] < 0.99


def test_without_sentences_nothing_is_defined():
    assert all(map(math.isnan, (*bleu({}), rouge_l({}), cider_d({}))))
    assert distinct({}) == 0


WORDS = st.sampled_from(["the", "brows", "lids", "nose", "is", "are", "not", "raised", "flat"])
SENTENCES = st.lists(WORDS, max_size=8).map(" ".join)
ROWS = st.lists(st.tuples(SENTENCES, st.tuples(SENTENCES)), min_size=1, max_size=6)


@given(ROWS)
def test_what_is_written_twice_counts_twice(rows):
    """Copies in capitals have the same words and are rows of their own."""
    apart = Counter(rows) + Counter((text.upper() + " ", true) for text, true in rows)
    for metric in (bleu, rouge_l, cider_d):
        twice = metric(Counter(rows) + Counter(rows))
        assert twice == pytest.approx(metric(apart), rel=1e-9, abs=1e-12)


@given(st.lists(st.tuples(SENTENCES.filter(bool), st.tuples(SENTENCES)), min_size=1, max_size=6))
def test_ranges_and_the_perfect_corpus(rows):
    corpus = Counter(rows)
    assert all(0 <= value <= 1 + 1e-9 for value in (*bleu(corpus), rouge_l(corpus)))
    assert 0 <= cider_d(corpus) <= 10 + 1e-9
    perfect = Counter((true, (true,)) for true, _ in rows)
    assert bleu(perfect)[0] == pytest.approx(1) and rouge_l(perfect) == pytest.approx(1)


def test_our_sentences_are_split_into_the_vocabularys_words():
    known = set(Vocabulary.build().words) - set(SPECIAL_TOKENS)
    for text in STATES.texts():
        assert set(words(text)) <= known
    assert words("Die Brauen sind GEHOBEN, ü.") == ("die", "brauen", "sind", "gehoben", "ü")


def test_distinct_counts_sentences_not_faces():
    corpus = corpus_of([("a", ["x"]), ("a", ["y"]), ("b", ["x"]), ("a", ["x"])])
    assert distinct(corpus) == 2
