"""What is written is read back: the reader inverts the writer for all descriptions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlfau_jax.data.text.descriptions import KINDS, NOUNS, built_in, local_description
from vlfau_jax.data.text.reading import Reader
from vlfau_jax.facs import ACTION_UNITS, BENCHMARK_AUS

AUS = tuple(ACTION_UNITS)
READERS = {
    (kind, aus): Reader(built_in(kind, aus)) for kind in KINDS for aus in (BENCHMARK_AUS, AUS)
}
FACTS = [(au, active) for au in AUS for active in (False, True)]


@pytest.mark.parametrize(("kind", "aus"), READERS)
def test_every_text_states_its_unit_state_and_grade(kind, aus):
    texts, reader = built_in(kind, aus), READERS[kind, aus]
    facts = {text: fact for _, text, fact in texts.facts()}
    each = {"states": 2, "graded": 7, "paraphrased": 6}[kind]
    assert len(facts) == each * len(aus)  # no two are the same
    for text, fact in facts.items():
        assert reader.stated(text) == fact
        state = "active" if fact.active else "inactive"
        assert reader.read(text, aus) == {au: state if au == fact.au else "unsaid" for au in aus}


@settings(max_examples=200, deadline=None)
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
    aus = BENCHMARK_AUS if fact[0] in BENCHMARK_AUS else AUS
    assert READERS["states", aus].stated(" ".join(sentence))[:2] == fact


def test_a_lost_word_for_the_intensity_loses_the_intensity_alone():
    texts, reader = built_in("graded"), READERS["graded", BENCHMARK_AUS]
    for grade in range(1, 6):
        text = texts.local(12, True, grade)
        assert reader.stated(text) == (12, True, grade)
        word = text.split()[6]
        assert reader.stated(text.replace(word, "<unk>", 1)) == (12, True, 0)
        assert reader.stated(text.replace("mouth", "<unk>")) == (12, True, grade)


@pytest.mark.parametrize("sentence", ["", ".", "the the the the", "a man shows no action unit."])
def test_a_sentence_about_nothing_states_nothing(sentence):
    assert Reader().stated(sentence) is None


def test_a_broken_off_sentence_states_nothing():
    assert Reader().stated(" ".join(local_description(1, True).split()[:6])) is None


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(READERS)), st.sampled_from(NOUNS), st.data())
def test_a_global_sentence_names_its_active_units(key, noun, data):
    texts, reader, aus = built_in(*key), READERS[key], key[1]
    active = data.draw(st.lists(st.booleans(), min_size=len(aus), max_size=len(aus)))
    most = len(texts.of(1).phrases) - 1
    choices = data.draw(st.lists(st.integers(0, most), min_size=len(aus), max_size=len(aus)))
    sentence = texts.whole(aus, active, noun, choices)
    true = {au for au, on in zip(aus, active, strict=True) if on}
    assert reader.named(sentence) == true and reader.nouns(sentence) == {noun}
    rest = "unsaid" if true else "inactive"
    assert reader.read(sentence, aus) == {au: "active" if au in true else rest for au in aus}


def test_a_text_of_another_kind_of_descriptions_is_not_taken_for_one():
    """Sentences are read by the texts that the model learned, not by all that there are."""
    known = {text for _, text, _ in built_in("states").facts()}
    others = [text for _, text, _ in built_in("paraphrased").facts() if text not in known]
    said = [Reader().stated(text) is not None for text in others]
    assert np.mean(said) < 0.02 and len(others) == 4 * len(BENCHMARK_AUS)
