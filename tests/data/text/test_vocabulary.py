import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlfau_jax.data.text.descriptions import NOUNS, STATES, global_description
from vlfau_jax.data.text.vocabulary import END, PAD, SPECIAL_TOKENS, START, UNK, Vocabulary
from vlfau_jax.errors import UserError
from vlfau_jax.facs import BENCHMARK_AUS

VOCABULARY = Vocabulary.build()


def test_numbers_are_fixed_small_and_deterministic():
    assert VOCABULARY.words[:4] == SPECIAL_TOKENS == ("<pad>", "<start>", "<end>", "<unk>")
    assert list(VOCABULARY.words[4:]) == sorted(VOCABULARY.words[4:])
    assert VOCABULARY.size < 220
    assert Vocabulary.build().words == VOCABULARY.words


def test_every_description_survives():
    for text in STATES.texts():
        row = VOCABULARY.encode(text, 64)
        assert row.dtype == np.int32 and row.shape == (64,)
        assert row[0] == START and UNK not in row and (row == END).sum() == 1
        assert not row[np.argmax(row == END) + 1 :].any()
        assert VOCABULARY.decode(row) == text


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=15, max_size=15), st.sampled_from(NOUNS))
def test_every_global_sentence_survives(active, noun):
    text = global_description(BENCHMARK_AUS, active, noun)
    assert VOCABULARY.decode(VOCABULARY.encode(text)) == text


def test_decode_stops_at_the_first_end():
    row = VOCABULARY.encode("the jaw is dropped.").tolist()
    assert VOCABULARY.decode([*row, *row, PAD]) == "the jaw is dropped."
    assert VOCABULARY.decode(np.array(row[1:-1])) == "the jaw is dropped."


@given(st.lists(st.integers(0, VOCABULARY.size - 1), max_size=12))
def test_pieces_are_the_words_of_a_row_one_by_one(row):
    pieces = VOCABULARY.pieces(row)
    assert "".join(pieces) == VOCABULARY.decode(row)
    words = row[: row.index(END)] if END in row else row
    special = range(len(SPECIAL_TOKENS))
    for number, piece in zip(words, pieces, strict=True):
        assert piece.strip() == ("" if number in special else VOCABULARY.words[number])


def test_encode_refuses_a_row_that_does_not_fit():
    with pytest.raises(ValueError, match="do not fit"):
        VOCABULARY.encode("the jaw is dropped.", 6)


def test_unknown_words_are_unknown():
    assert UNK in VOCABULARY.encode("the elephant is dropped.")


def test_saved_folder_loads_here_and_in_transformers(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    VOCABULARY.save(tmp_path)
    assert Vocabulary.load(tmp_path).words == VOCABULARY.words

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.pad_token_id == PAD and tokenizer.unk_token_id == UNK
    assert tokenizer.bos_token_id == START and tokenizer.eos_token_id == END
    for text in STATES.texts():
        ids = tokenizer(text).input_ids
        assert ids == VOCABULARY.encode(text).tolist()
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    padded = tokenizer(["a man dimples."], padding="max_length", max_length=9).input_ids[0]
    assert padded == VOCABULARY.encode("a man dimples.", 9).tolist()


def test_load_names_what_is_wrong(tmp_path):
    with pytest.raises(UserError, match="missing"):
        Vocabulary.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="not a tokenizer"):
        Vocabulary.load(tmp_path)
    VOCABULARY.save(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["added_tokens"] = []
    words = content["model"]["vocab"]
    words["<pad>"], words["a"] = words["a"], words["<pad>"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="begins with"):
        Vocabulary.load(tmp_path)


def test_an_exact_vocabulary_is_loaded_as_it_was_saved(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    text = "Die „Brauen“ sind, so scheint es (kurz), HOCH gezogen!"
    texts = STATES.only((12,)).of(12).model_copy(update={"active": (text,)})
    own = STATES.model_copy(update={"units": {"12": texts}, "spelling": "exact"})
    vocabulary = Vocabulary.build(own)
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert "".join(vocabulary.pieces(vocabulary.encode(text))) == text
    vocabulary.save(tmp_path)
    loaded = Vocabulary.load(tmp_path)
    assert loaded.words == vocabulary.words and loaded.decode(loaded.encode(text)) == text

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer(text).input_ids == vocabulary.encode(text).tolist()
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text
