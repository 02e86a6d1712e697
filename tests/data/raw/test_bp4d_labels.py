"""Random BP4D label files: equal cell by cell, or one line that says what is wrong."""

import csv
import io
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlfau_jax.data.raw.bp4d_labels import read_intensity, read_occurrence
from vlfau_jax.errors import UserError
from vlfau_jax.facs import BP4D_AUS

FUZZ = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
TOKENS = ["7", "-1", "1.0", "x", "", "²", '"', "\x00", "9" * 5000]
CODES = {"0": 0, "1": 1, "9": -1}


@st.composite
def occurrence_tables(draw) -> list[list[str]]:
    """Rows of cells: a shuffled header with frame column 0 and all units, then coded frames."""
    extra = draw(st.sets(st.sampled_from([3, 5, 8, 13, 25, 26, 41])))
    header = ["0", *draw(st.permutations([str(au) for au in (*BP4D_AUS, *extra)]))]
    frames = draw(st.lists(st.integers(0, 9999), unique=True, max_size=8))
    cell = st.sampled_from(list(CODES))
    rows = [[str(n), *draw(st.tuples(*[cell] * (len(header) - 1)))] for n in frames]
    return [header, *rows]


def write(folder: Path, rows: list[list[str]], ending: str = "\n") -> Path:
    path = folder / "F001_T1.csv"
    text = io.StringIO()
    csv.writer(text, lineterminator=ending).writerows(rows)
    path.write_bytes(text.getvalue().encode())
    return path


@FUZZ
@given(rows=occurrence_tables(), ending=st.sampled_from(["\n", "\r\n"]))
def test_labels_equal_the_file_cell_by_cell(tmp_path, rows, ending):
    columns, labels = read_occurrence(write(tmp_path, rows, ending), BP4D_AUS)
    assert columns == tuple(map(int, rows[0]))
    assert sorted(labels) == sorted(int(row[0]) for row in rows[1:])
    for row in rows[1:]:
        for i, au in enumerate(BP4D_AUS):
            assert labels[int(row[0])][i] == CODES[row[rows[0].index(str(au))]]


@FUZZ
@given(
    rows=occurrence_tables(),
    data=st.data(),
    token=st.text(max_size=6)
    | st.sampled_from(["7", "-1", "1.0", "x", "", "²", '"', "\x00", "9" * 5000]),
)
def test_a_corrupted_token_is_a_user_error_or_harmless(tmp_path, rows, data, token):
    line = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.integers(0, len(rows[0]) - 1))
    clean = [list(row) for row in rows]
    rows[line][column] = token
    try:
        path = write(tmp_path, rows)
    except (UnicodeEncodeError, csv.Error):
        return  # no such file can be written
    try:
        labels = read_occurrence(path, BP4D_AUS).codes
    except UserError as error:
        assert str(path) in str(error) and len(str(error).splitlines()) == 1
        return
    # Accepted: then every label must still be one that stands in the file under its unit.
    for n, codes in labels.items():
        row = next(row for row in rows[1:] if row[0].strip().isdigit() and int(row[0]) == n)
        for i, au in enumerate(BP4D_AUS):
            place = [cell.strip() for cell in rows[0]].index(str(au))
            assert codes[i] == CODES[row[place].strip()]
    assert len(labels) == len(clean) - 1


@FUZZ
@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_user_error_or_labels(tmp_path, content):
    path = tmp_path / "any.csv"
    path.write_bytes(content)
    for read in (lambda: read_occurrence(path, BP4D_AUS), lambda: read_intensity(path)):
        try:
            read()
        except UserError as error:
            assert len(str(error).splitlines()) == 1


HEADER = ",".join(["0", *map(str, BP4D_AUS)])
ZEROS = ",0" * 12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: empty"),
        (f"5{ZEROS}\n", ":1: no header"),
        ("frame,AU1\n", ":1: no header"),
        ("0,1,2,4,6,7,10,12,14,15,17,23\n", ":1: no column for AU 24"),
        (f"{HEADER},1\n", ":1: a column number comes twice"),
        (f"{HEADER}\n5{ZEROS}\n6{ZEROS},0\n", ":3: 14 cells; the header has 13"),
        (f"{HEADER}\n5{ZEROS}\n5{ZEROS}\n", ":3: frame 5 comes twice"),
        (f"{HEADER}\n5.0{ZEROS}\n", ":2: frame '5.0' is not a number"),
        (f"{HEADER}\n5,7{ZEROS[2:]}\n", ":2: AU 1 is '7'; expected one of 0, 1, 9"),
        (f"{HEADER}\n\n5{ZEROS}\n", ":2: an empty line"),
    ],
)
def test_occurrence_errors_name_file_and_line(tmp_path, text, message):
    path = tmp_path / "F001_T1.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(message)) as error:
        read_occurrence(path, BP4D_AUS)
    assert str(error.value).startswith(str(path))


def test_a_byte_order_mark_and_a_last_empty_line_are_harmless(tmp_path):
    path = tmp_path / "F001_T1.csv"
    path.write_text(f"\ufeff{HEADER}\n5,1{ZEROS[2:]}\n\n", encoding="utf-8")
    assert read_occurrence(path, BP4D_AUS).codes[5].tolist() == [1] + [0] * 11


def test_intensity_levels_and_unknowns(tmp_path):
    path = tmp_path / "F001_T1_AU06.csv"
    path.write_text("10,0\n11,5\n12,9\n")
    assert read_intensity(path) == {10: 0, 11: 5, 12: -1}
    for text, message in [
        ("10,6\n", ":1: intensity is '6'"),
        ("10,1\n10,2\n", ":2: frame 10 comes twice"),
        ("10\n", ":1: 1 cells"),
    ]:
        path.write_text(text)
        with pytest.raises(UserError, match=re.escape(message)):
            read_intensity(path)
