"""A file of the user's own texts: what is accepted is spelled and read back, or a line says why."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vlfau_jax
from vlfau_jax.data.text.captions import CaptionTables
from vlfau_jax.data.text.description_file import descriptions_of, stored_descriptions
from vlfau_jax.data.text.descriptions import KINDS, NOUNS, built_in
from vlfau_jax.data.text.reading import Reader
from vlfau_jax.data.text.vocabulary import UNK, Vocabulary
from vlfau_jax.errors import UserError

AUS = (4, 12)
QUIET = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def german() -> dict:
    """Two units in German, as a user writes them."""
    return {
        "units": {
            "4": {
                "phrases": ["senkt die Brauen"],
                "active": ["die Brauen sind gesenkt; dazwischen stehen Falten."],
                "inactive": ["die Brauen sind nicht gesenkt, die Stirn ist glatt."],
            },
            "12": {
                "phrases": ["lächelt", "zieht die Mundwinkel hoch"],
                "active": ["die Mundwinkel sind hochgezogen.", "„der Mund“ lächelt (breit)."],
                "inactive": ["die Mundwinkel liegen auf der Höhe der Mundmitte."],
                "grades": [[f"die Mundwinkel sind {how} hochgezogen."] for how in "ABCDE"],
            },
        },
        "face": {
            "nouns": {"man": "ein Mann", "woman": "eine Frau", "person": "eine Person"},
            "active": "{noun} {phrases}.",
            "inactive": "{noun} zeigt keine Bewegung.",
            "separator": ", ",
            "last_separator": " und ",
        },
    }


def read(folder: Path, content, aus=AUS, coded=None):
    path = folder / "texts.json"
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    path.write_text(text, encoding="utf-8")
    return descriptions_of(str(path), aus, coded)


def check_spoken_and_read(texts, aus):
    """Every text survives the vocabulary, and says what it was written for."""
    vocabulary, reader = Vocabulary.build(texts), Reader(texts)
    tables = CaptionTables(aus, vocabulary, texts)
    for _, text, fact in texts.facts():
        row = vocabulary.encode(text)
        assert UNK not in row and vocabulary.decode(row) == text
        assert reader.stated(vocabulary.decode(row)) == fact
        assert fact.au not in aus or len(row) <= tables.max_local_tokens
    for noun in NOUNS:
        for active in (
            (False,) * len(aus),
            (True,) * len(aus),
            (True,) + (False,) * (len(aus) - 1),
        ):
            for last in range(len(texts.of(aus[-1]).phrases)):
                choices = (0,) * (len(aus) - 1) + (last,)
                text = texts.whole(aus, active, noun, choices)
                row = vocabulary.encode(text, tables.max_global_tokens)
                assert UNK not in row and vocabulary.decode(row) == text
                true = {au for au, on in zip(aus, active, strict=True) if on}
                assert reader.named(text) == true


def test_german(tmp_path):
    texts = read(tmp_path, german(), coded={1, 4, 12})
    check_spoken_and_read(texts, AUS)
    assert texts.whole(AUS, (1, 1), "woman") == "eine Frau senkt die Brauen und lächelt."
    assert texts.local(12, True, 3) == "die Mundwinkel sind C hochgezogen."
    assert texts.local(4, True, 3) == texts.local(4, True)  # no grades there
    assert texts.graded and texts.drawn
    marked = "\ufeff" + json.dumps(german(), ensure_ascii=False)  # as Windows' editors write it
    assert read(tmp_path, marked, coded={1, 4, 12}) == texts


SCRIPTS = {
    "Latin": "abcdefghijklmnopqrstuvwxyzäöüßéèçñœİA'",
    "Cyrillic": "абвгдежзиклмнопрстуф",
    "Greek": "αβγδεζηθικλμνξος",
    "Arabic": "ابتثجحخدذرزسش\u200c",
    "Devanagari": "कखगघचछजझिीुू्",
    "Han": "眉毛内侧抬起额头中央有皱纹",
    "Kana": "まゆがあがるアイウエオ",
    "Thai": "คิ้วด้านในยกขึ้น",
    "Hangul": "눈썹안쪽이올라간다",
}


@st.composite
def files(draw):
    """A file of two units in a script, with random texts, separators and templates."""
    alphabet = SCRIPTS[draw(st.sampled_from(list(SCRIPTS)))]
    space = (
        draw(st.sampled_from([" ", ""])) if alphabet in (SCRIPTS["Han"], SCRIPTS["Kana"]) else " "
    )
    word = st.text(alphabet, min_size=1, max_size=6)
    sentence = st.lists(word, min_size=1, max_size=6).map(space.join)
    end = draw(st.sampled_from([".", "。", "!", " !", "…", ""]))
    longer = st.lists(word, min_size=4, max_size=8).map(space.join)
    texts = st.lists(longer.map(lambda text: text + end), min_size=1, max_size=3)
    unit = st.fixed_dictionaries(
        {"phrases": st.lists(sentence, min_size=1, max_size=2), "active": texts, "inactive": texts},
        optional={"grades": st.lists(texts, min_size=5, max_size=5)},
    )
    face = {
        "nouns": draw(st.fixed_dictionaries(dict.fromkeys(NOUNS, sentence))),
        "active": draw(st.sampled_from(["{noun} {phrases}.", "{noun}、{phrases}。", "{phrases}!"])),
        "inactive": "{noun} — " + draw(longer),
        "separator": draw(st.sampled_from([", ", "、", "، ", " + "])),
        "last_separator": draw(st.sampled_from([" & ", "和", " und "])),
    }
    return {"units": {"4": draw(unit), "12": draw(unit)}, "face": face}


@QUIET
@given(content=files())
def test_whatever_is_accepted_is_spelled_and_read_back(tmp_path, content):
    try:
        texts = read(tmp_path, content)
    except UserError as error:
        assert "\n" not in str(error) and "texts.json" in str(error)
        return
    check_spoken_and_read(texts, AUS)
    assert stored_descriptions(json.loads(json.dumps(texts.to_json())), AUS, "run") == texts
    assert read(tmp_path, texts.to_json()) == texts


def changed(*places, to=None):
    """The German file with a value at some place, or without the key."""
    content = german()
    *above, key = places
    parent = content
    for one in above:
        parent = parent[one]
    if to is None:
        del parent[key]
    else:
        parent[key] = to
    return content


BAD = [
    (changed("units", "4"), r"units\.4 is missing: AU4 is learned"),
    (changed("units", "12", "inactive"), r"units\.12\.inactive is missing"),
    (changed("units", "4", "active", to=[]), r"units\.4\.active is a list of 0; .*at least 1"),
    (changed("units", "4", "active", 0, to=""), r"units\.4\.active\.0 is ''; should hold a word"),
    (changed("units", "4", "active", 0, to=" .\n"), r"units\.4\.active\.0 is .*should hold a word"),
    (changed("units", "4", "active", 0, to=7), r"units\.4\.active\.0 is 7; .*string"),
    (
        changed("units", "4", "active", to="Brauen"),
        r"units\.4\.active is 'Brauen'; .*(array|tuple)",
    ),
    (changed("units", "4", "active", 0, to="a" * 601), r"units\.4\.active\.0 is 'a.*at most 600"),
    (
        changed("units", "4", "active", 0, to="眉" * 129),
        r"units\.4\.active\.0 has 129 words and marks; give at most 128",
    ),
    (
        changed("units", "4", "active", 0, to="DIE Brauen sind nicht gesenkt die Stirn ist glatt"),
        r"units\.4\.active\.0 has the words of units\.4\.inactive\.0; a text should state one fact",
    ),
    (
        changed("units", "4", "inactive", 0, to="die Mundwinkel sind hochgezogen!"),
        r"units\.12\.active\.0 has the words of units\.4\.inactive\.0",
    ),
    (
        changed("units", "12", "grades", 4, 0, to="die Mundwinkel sind D hochgezogen."),
        r"units\.12\.grades\.4\.0 has the words of units\.12\.grades\.3\.0",
    ),
    (changed("units", "12", "grades", 4), r"units\.12\.grades is a list of 4; .*at least 5"),
    (
        changed("units", "4", "phrases", 0, to="Lächelt"),
        r"units\.12\.phrases\.0 has the words of a",
    ),
    (
        changed("units", "4", "phrases", 0, to="lächelt und zieht"),
        "does not name AU 12, 12 alone|does not name AU 4, 12 alone|does not name AU 12, 4 alone",
    ),
    (changed("face", "last_separator", to="und"), "does not name AU 4, 12 alone; choose phrases"),
    (
        changed("face", "inactive", to="{noun} lächelt"),
        r"face\.inactive holds the phrase of a unit",
    ),
    (
        changed("face", "active", to="{noun}"),
        r"face\.active is '\{noun\}'; should hold \{phrases\}",
    ),
    (changed("face", "active", to="{phrases} {noun.__class__}"), r"AU 4"),
    (changed("face", "nouns", "man"), r"face\.nouns\.man is missing"),
    (changed("face", "separator", to="\x1b[31m"), r"face\.separator .*U\+001B"),
    (changed("units", "4", "active", 0, to="die \u202eBrauen"), r"units\.4\.active\.0 .*U\+202E"),
    (changed("units", "4", "active", 0, to="▁die"), r"units\.4\.active\.0 .*U\+2581"),
    (changed("units", "4", "active", 0, to="<end> der Brauen"), r"units\.4\.active\.0 .*<end>"),
    (
        changed("units", "3", to=german()["units"]["4"]),
        r"units\.3.* should be an action unit among",
    ),
    (changed("units", "04", to=german()["units"]["4"]), r"units\.04.* should be an action unit"),
    (changed("units", to={}), r"units is an object; .*at least 1"),
    (changed("language", to="de"), "language is no key of such a record"),
    (changed("spelling", to="lower"), r'would be spoken as .*; "spelling": "exact" keeps texts'),
    (
        json.dumps(german()).replace(
            '"4": {', '"12": ' + json.dumps(german()["units"]["12"]) + ', "4": {'
        ),
        "has the key '12' twice in one object",
    ),
    ("[1, 2]", "holds a list of 2"),
    ("{", "not JSON: EOF"),
    ("", "not JSON: EOF"),
]


@pytest.mark.parametrize(("content", "message"), BAD)
def test_a_mistake_is_one_line_with_its_place(tmp_path, content, message):
    if message == "AU 4":  # what looks like a format string is text
        assert "{noun.__class__}" in read(tmp_path, content).whole(AUS, (1, 0), "man")
        return
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path, content)
    text = str(error.value)
    assert "\n" not in text and text.startswith(str(tmp_path / "texts.json")) and len(text) < 600
    assert text.isprintable()


def test_a_unit_that_the_data_lack_is_refused(tmp_path):
    with pytest.raises(
        UserError, match=r"units\.12: the data code no AU12, but only AU 1, 4; take"
    ):
        read(tmp_path, german(), (4,), {1, 4})
    assert read(tmp_path, german(), (4,), {4, 12}).aus == (4, 12)  # coded, and not learned


def test_sentences_of_many_long_phrases_are_refused(tmp_path):
    content = german()
    for au, letter in (("4", "眉"), ("12", "口")):
        content["units"][au]["phrases"] = [letter * 100]
    assert read(tmp_path, content, (4,))
    content["face"]["active"] = "脸" * 60 + "{phrases}"
    with pytest.raises(UserError, match="with all units has 262 words and marks; give shorter"):
        read(tmp_path, content)


@pytest.mark.parametrize("option", ["", "grded", "none.json", "a\0b", "x" * 300, "/proc/self/mem"])
def test_what_is_no_file_names_what_there_is(option):
    with pytest.raises(UserError) as error:
        descriptions_of(option, AUS)
    assert "\n" not in str(error.value)
    if "/" not in option:
        assert re.search("states, graded, paraphrased, or the path of a JSON", str(error.value))


def test_a_folder_and_a_large_file_are_refused(tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        descriptions_of(str(tmp_path), AUS)
    with pytest.raises(UserError, match="bytes"):
        read(tmp_path, " " * (1 << 20) + json.dumps(german()))


@QUIET
@given(st.data())
def test_a_damaged_file_is_one_line_or_texts(tmp_path, data):
    """Any value at any place: accepted and sound, or refused in one line."""
    content = german()
    parent, key = {"": content}, ""
    while True:
        inner = parent[key]
        if not isinstance(inner, (dict, list)) or not inner or data.draw(st.booleans()):
            break
        keys = list(inner) if isinstance(inner, dict) else range(len(inner))
        parent, key = inner, data.draw(st.sampled_from(keys))
    odd = st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(max_size=9), st.lists(st.text(max_size=5))
    )
    parent[key] = data.draw(odd)
    if parent.keys() == {""} if isinstance(parent, dict) else False:
        content = parent[""]
    try:
        texts = read(tmp_path, json.dumps(content))
    except UserError as error:
        assert "\n" not in str(error) and str(error).isprintable()
    else:
        check_spoken_and_read(texts, AUS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_built_in_texts_pass_as_a_file(tmp_path, kind):
    texts = built_in(kind, (5, 46))
    assert read(tmp_path, texts.to_json(), texts.aus) == texts


def test_the_readmes_example_is_accepted(tmp_path):
    readme = (Path(vlfau_jax.__file__).parent / "data" / "text" / "README.md").read_text(
        encoding="utf-8"
    )
    (example,) = re.findall("```json\n(.*?)```", readme, re.DOTALL)
    check_spoken_and_read(read(tmp_path, example, (12,), {12}), (12,))
    texts = built_in("paraphrased").only(AUS)
    assert read(tmp_path, texts.to_json(), coded=set(AUS)) == texts and texts.aus == AUS
