import hashlib
from itertools import combinations

import pytest

from vlfau_jax.facs import ACTION_UNITS, BENCHMARK_AUS, BP4D_AUS, DISFA_AUS, REGIONS


def words(text: str) -> list[str]:
    return text.replace(",", " ,").replace(".", " .").split()


SENTENCES = {
    (number, state): getattr(unit, state)
    for number, unit in ACTION_UNITS.items()
    for state in ("active", "inactive")
}


def test_table_holds_the_units_of_the_face_in_ascending_order():
    face = {1, 2, *range(4, 8), *range(9, 19), 20, *range(22, 29), *range(43, 47)}
    assert list(ACTION_UNITS) == sorted(face) and face > {*BP4D_AUS, *DISFA_AUS}
    assert tuple(sorted({*BP4D_AUS, *DISFA_AUS})) == BENCHMARK_AUS
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


@pytest.mark.parametrize(("aus", "most"), [(BENCHMARK_AUS, 170), (ACTION_UNITS, 270)])
def test_vocabulary_is_small(aus, most):
    texts = [text for (au, _), text in SENTENCES.items() if au in aus]
    texts += [ACTION_UNITS[au].verb_phrase for au in aus]
    assert len({word for text in texts for word in words(text)}) < most


def test_texts_of_the_benchmarks_are_as_they_were():
    """Models that were trained on them speak them, and their files hold the digest of the words."""
    texts = [
        (number, unit.verb_phrase, unit.active, unit.inactive)
        for number, unit in ACTION_UNITS.items()
        if number in BENCHMARK_AUS
    ]
    digest = hashlib.sha256(repr(texts).encode()).hexdigest()
    assert digest.startswith("62e2ca778119349f")
