"""Records from files: one line for whatever is no such record, whatever the bytes."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlfau_jax.errors import LONGEST_LINE, FileError, outcome
from vlfau_jax.records import PlainName, Probability, Record, parse_record, read_record


class Unit(Record):
    number: int
    threshold: Probability


class Model(Record):
    name: PlainName
    units: tuple[Unit, ...]


GOOD = {"name": "a", "units": [{"number": 1, "threshold": 0.5}]}


def parsed(content):
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    return parse_record(text, Model, "config.json")


def test_a_good_record_is_read():
    assert parsed(GOOD) == Model(name="a", units=(Unit(number=1, threshold=0.5),))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "config.json: holds a list of 0; should be"),
        (GOOD | {"name": 3}, "config.json: name is 3; should be a valid string"),
        (GOOD | {"name": "../x"}, "config.json: name is '../x'; string should match"),
        ({"name": "a"}, "config.json: units is missing"),
        (GOOD | {"more": 1}, "config.json: more is no key of such a record"),
        (
            {"name": "a", "units": [{"number": 1, "threshold": 2.0}]},
            "config.json: units.0.threshold is 2.0; should be less than or equal to 1",
        ),
        (
            {"name": "a", "units": [{"number": True, "threshold": float("nan")}]},
            "config.json: units.0.number is True; should be a valid integer (and 1 more such)",
        ),
        ('{"name": "a', "config.json: not JSON: EOF while parsing a string at line 1 column 11"),
        (b"\xff\xfe{}", "config.json: not JSON: "),
        ("[" * 100_000, "config.json: not JSON: "),
        ('{"name": ' + "9" * 100_000 + "}", "config.json: "),
    ],
)
def test_the_line_names_file_key_value_and_what_would_be_right(content, message):
    with pytest.raises(FileError, match="^" + re.escape(message)):
        parsed(content)


@given(
    st.binary()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["name"]), inner)
        ),
    ).map(lambda value: json.dumps({"name": value, "units": value}))
)
def test_whatever_is_no_record_is_one_short_line(content):
    try:
        parsed(content)
    except FileError as error:
        line, code = outcome(error)
        assert code == 2
        assert "\n" not in line
        assert len(line) <= LONGEST_LINE


def test_the_file_is_bounded(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(GOOD))
    assert read_record(path, Model).name == "a"
    with pytest.raises(FileError, match="has 57 bytes; at most 10 are read"):
        read_record(path, Model, limit=10)
