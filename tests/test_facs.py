from itertools import combinations

import pytest

from vlfau_jax.facs import ACTION_UNITS, BP4D_AUS, DISFA_AUS, REGIONS


def words(text: str) -> list[str]:
    return text.replace(",", " ,").replace(".", " .").split()


SENTENCES = {
    (number, state): getattr(unit, state)
    for number, unit in ACTION_UNITS.items()
    for state in ("active", "inactive")
}


def test_table_covers_both_data_sets_in_ascending_order():
    assert list(ACTION_UNITS) == sorted(set(BP4D_AUS) | set(DISFA_AUS) | {25})
    assert all(number == unit.number for number, unit in ACTION_UNITS.items())
    assert {unit.region for unit in ACTION_UNITS.values()} == set(REGIONS)
    assert len({unit.verb_phrase for unit in ACTION_UNITS.values()}) == len(ACTION_UNITS)


@pytest.mark.parametrize("key", SENTENCES, ids=str)
def test_description_is_one_plain_sentence(key):
    text = SENTENCES[key]
    tokens = words(text)
    spoken = [token for token in tokens if token not in {",", "."}]
    assert 23 <= len(spoken) <= 30
    assert tokens[-1] == "." and tokens.count(".") == 1
    assert all(token.isascii() and token.isalpha() and token.islower() for token in spoken)


def test_descriptions_are_told_apart_by_several_words():
    for (one, a), (two, b) in combinations(SENTENCES.items(), 2):
        shared = set(words(a)) & set(words(b))
        assert len(set(words(a)) | set(words(b))) - len(shared) >= 6, (one, two)


def test_only_the_inactive_description_denies():
    denials = {"not", "no", "without"}
    for unit in ACTION_UNITS.values():
        assert "not" in words(unit.inactive)
        assert not denials & set(words(unit.active))


def test_vocabulary_is_small():
    vocabulary = {word for text in SENTENCES.values() for word in words(text)}
    vocabulary |= {word for unit in ACTION_UNITS.values() for word in words(unit.verb_phrase)}
    assert len(vocabulary) < 200
