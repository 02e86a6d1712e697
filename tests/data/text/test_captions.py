import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlfau_jax.data.text import captions
from vlfau_jax.data.text.captions import CaptionTables
from vlfau_jax.data.text.descriptions import (
    built_in,
    global_description,
    local_description,
    noun_of,
)
from vlfau_jax.data.text.vocabulary import START, Vocabulary
from vlfau_jax.facs import ACTION_UNITS, BP4D_AUS, DISFA_AUS


def global_row(tables, au, known, noun, coded=None, draws=None) -> np.ndarray:
    """The row of one face, of a data set that codes all units if it is not said."""
    coded = np.ones_like(known) if coded is None else coded
    draws = None if draws is None else draws[None]
    return tables.global_tokens(au[None], known[None], [noun], coded[None], draws)[0]


def test_global_description_of_the_papers_example():
    active = [0, 1, 0, 1, 0, 0, 0, 1, 1, 0, 0, 1]
    assert global_description(BP4D_AUS, active, "man") == (
        "a man raises outer brow, raises cheek, dimples, depresses lip corner and presses lips."
    )


@pytest.mark.parametrize(
    ("active", "sentence"),
    [
        ([0, 0, 0], "a woman shows no action unit."),
        ([0, 1, 0], "a woman dimples."),
        ([1, 0, 1], "a woman raises inner brow and drops jaw."),
    ],
)
def test_global_description_of_few_units(active, sentence):
    assert global_description((1, 14, 26), active, "woman") == sentence


def test_global_description_needs_one_state_per_unit():
    with pytest.raises(ValueError):
        global_description((1, 2), [True], "man")


@pytest.mark.parametrize(
    ("subject", "noun"), [("F023", "woman"), ("M001", "man"), ("SN001", "person"), ("F1", "person")]
)
def test_noun_of_subject(subject, noun):
    assert noun_of(subject) == noun


@pytest.mark.parametrize(
    ("subject", "sex", "noun"),
    [("anna", "female", "woman"), ("F1", "male", "man"), ("M001", "female", "woman")],
)
def test_the_data_sets_word_comes_before_the_id(subject, sex, noun):
    assert noun_of(subject, sex) == noun


@pytest.mark.parametrize("aus", [BP4D_AUS, DISFA_AUS, (12,)])
def test_table_rows_spell_the_descriptions(aus, rng):
    vocabulary = Vocabulary.build()
    tables = CaptionTables(aus, vocabulary)
    longest_local = longest_global = 0
    for states in (np.zeros(len(aus)), np.ones(len(aus)), rng.integers(0, 2, len(aus))):
        au = states.astype(np.float32)
        local = tables.local_tokens(au, np.ones(len(aus), bool))
        assert local.shape == (len(aus), tables.max_local_tokens) and local.dtype == np.int32
        for row, unit, on in zip(local, aus, states, strict=True):
            assert vocabulary.decode(row) == local_description(unit, bool(on))
        for noun in ("man", "woman", "person"):
            row = global_row(tables, au, np.ones(len(aus), bool), noun)
            assert row.shape == (tables.max_global_tokens,) and row.dtype == np.int32
            assert vocabulary.decode(row) == global_description(aus, states, noun)
            longest_global = max(longest_global, np.count_nonzero(row))
        longest_local = max(longest_local, np.count_nonzero(local, axis=1).max())
    assert longest_local == tables.max_local_tokens
    assert longest_global == tables.max_global_tokens


def test_unknown_units_are_not_spoken_of():
    tables = CaptionTables(BP4D_AUS, Vocabulary.build())
    known = np.ones(12, bool)
    known[3] = False
    local = tables.local_tokens(np.ones(12), known)
    assert not local[3].any() and (local[known, 0] == START).all()
    assert not global_row(tables, np.ones(12), known, "man").any()


def test_units_that_the_data_set_does_not_code_are_passed_over():
    vocabulary = Vocabulary.build()
    tables = CaptionTables((1, 4, 12), vocabulary)
    coded = np.array([True, False, True])
    known = coded.copy()
    row = global_row(tables, np.array([1, 0, 1]), known, "man", coded)
    assert vocabulary.decode(row) == global_description((1, 12), [True, True], "man")
    row = global_row(tables, np.array([0, 0, 0]), known, "man", coded)
    assert vocabulary.decode(row) == "a man shows no action unit."
    # A label that is missing among those that are coded silences the whole row.
    assert not global_row(tables, np.array([1, 0, 0]), known & [1, 1, 0], "man", coded).any()
    assert not global_row(tables, np.array([1, 0, 1]), known, "man").any()
    assert not global_row(tables, np.zeros(3), np.zeros(3, bool), "man", np.zeros(3, bool)).any()


def test_each_row_is_that_of_its_own_face(rng):
    tables = CaptionTables(BP4D_AUS, Vocabulary.build())
    au, known, coded = (rng.random((50, 12)) < share for share in (0.5, 0.98, 0.9))
    nouns = rng.choice(["man", "woman", "person"], 50).tolist()
    rows = tables.global_tokens(au, known, nouns, coded)
    assert 5 < rows.any(1).sum() < 50
    for row, *face in zip(rows, au, known, nouns, coded, strict=True):
        assert np.array_equal(row, global_row(tables, *face))


def test_rows_handed_out_are_the_callers_own():
    tables = CaptionTables((1, 2), Vocabulary.build())
    known = np.ones((1, 2), bool)
    for tokens, *more in ((tables.global_tokens, ["man"], known), (tables.local_tokens,)):
        tokens(np.ones((1, 2)), known, *more)[:] = 0
        assert tokens(np.ones((1, 2)), known, *more).any()


def test_every_unit_has_both_descriptions():
    for au in ACTION_UNITS:
        assert local_description(au, True) != local_description(au, False)


GRADED = built_in("graded")
PARAPHRASED = built_in("paraphrased")


def test_intensities_are_spoken_of_where_they_are_coded():
    tables = CaptionTables((6, 12), Vocabulary.build(GRADED), GRADED)
    au = np.array([[1, 0], [1, 1], [1, 1], [1, 0]])
    known = np.array([[True, True]] * 3 + [[True, False]])
    level = np.array([[3, 4], [-1, 5], [0, 1], [2, 2]], np.int8)
    said = [
        [tables.vocabulary.decode(row) for row in face]
        for face in tables.local_tokens(au, known, level)
    ]
    assert said == [
        [GRADED.local(6, True, 3), local_description(12, False)],  # off: its level is not told
        [local_description(6, True), GRADED.local(12, True, 5)],  # on, and no level is coded
        [local_description(6, True), GRADED.local(12, True, 1)],
        [GRADED.local(6, True, 2), ""],
    ]
    assert len({GRADED.local(12, True, grade) for grade in range(6)}) == 6
    plain = CaptionTables((6, 12), Vocabulary.build())
    assert np.array_equal(plain.local_tokens(au, known, level), plain.local_tokens(au, known))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=4, max_size=4), st.data())
def test_a_draw_chooses_one_of_the_texts_of_a_state(draws, data):
    aus, known = (6, 12), np.ones(2, bool)
    au = np.array(data.draw(st.lists(st.integers(0, 1), min_size=2, max_size=2)))
    tables = TABLES
    of_units, of_face = np.array(draws[:2]), np.array(draws[2:])
    for row, unit, on, draw in zip(
        tables.local_tokens(au, known, None, of_units), aus, au, of_units, strict=True
    ):
        text = PARAPHRASED.sentences(unit, bool(on))[int(draw * 3)]
        assert tables.vocabulary.decode(row) == text
    row = global_row(tables, au, known, "woman", None, of_face)
    choices = (of_face * 2).astype(int)
    assert tables.vocabulary.decode(row) == PARAPHRASED.whole(aus, au, "woman", choices)


TABLES = CaptionTables((6, 12), Vocabulary.build(PARAPHRASED), PARAPHRASED)


def test_rows_have_room_for_the_longest_text():
    texts = [text for _, text, fact in PARAPHRASED.facts() if fact.au in TABLES.aus]
    longest = max(len(TABLES.vocabulary.encode(text)) for text in texts)
    assert TABLES.max_local_tokens == longest
    wholes = [
        PARAPHRASED.whole((6, 12), (1, 1), noun, (i, j))
        for noun in ("man", "woman", "person")
        for i in (0, 1)
        for j in (0, 1)
    ]
    longest = max(len(TABLES.vocabulary.encode(text)) for text in wholes)
    assert TABLES.max_global_tokens == longest > len(TABLES.vocabulary.encode(wholes[0]))


def test_kept_sentences_are_bounded(monkeypatch):
    monkeypatch.setattr(captions, "_MOST_KEPT", 2)
    tables = CaptionTables((6, 12), Vocabulary.build())
    for _ in range(2):
        for au in ([0, 0], [0, 1], [1, 0], [1, 1]):
            row = global_row(tables, np.array(au), np.ones(2, bool), "man")
            assert tables.vocabulary.decode(row) == global_description((6, 12), au, "man")
            assert len(tables._global) <= 2


def test_wordings_have_every_phrase_of_the_active_units():
    six = PARAPHRASED.of(6)
    longer = six.model_copy(update={"phrases": (*six.phrases, "lifts the cheeks")})
    texts = PARAPHRASED.model_copy(update={"units": {**PARAPHRASED.units, "6": longer}})
    (one, two, three), (first, second) = texts.of(6).phrases, texts.of(12).phrases
    assert texts.wordings((6, 12), (True, True), "man") == (
        f"a man {one} and {first}.",
        f"a man {two} and {second}.",
        f"a man {three} and {first}.",
    )
    assert texts.wordings((6, 12), (False, True), "man") == (f"a man {first}.", f"a man {second}.")
    assert texts.wordings((6, 12), (False, False), "man") == (texts.whole((), (), "man"),)
