"""One table in four writings, whatever is written in it."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlfau_jax.studies.tables import Table, csv_text, latex_text, p_text, signed, spread

CELL = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp")), max_size=8)


@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=4))
def test_no_cell_breaks_markdown_or_latex(rows):
    table = Table("caption", ("a", "b", "c"), tuple(rows))
    lines = table.markdown().splitlines()[2:]
    assert all(line.replace("&#124;", "").count("|") == 4 for line in lines)
    assert len(lines) == 2 + len(rows)
    body = table.latex().split(r"\midrule")[1].split(r"\bottomrule")[0]
    for line in filter(str.strip, body.split("\n")):
        bare = line.replace(r"\&", "").replace(r"\%", "").removesuffix(r" \\")
        assert bare.count("&") == 2
        assert "%" not in bare.replace(r"\textbackslash{}", "")


def test_latex_has_no_power_over_the_document():
    assert latex_text("< 0.001") == "$<$ 0.001"
    assert latex_text(r"50% \input{x} a_b ~^") == (
        r"50\% \textbackslash{}input\{x\} a\_b \textasciitilde{}\textasciicircum{}"
    )


def test_undefined_numbers_are_dashes_on_the_screen_and_empty_in_csv():
    nan = float("nan")
    assert (spread(nan, nan), spread(0.5, nan), signed(nan), p_text(None)) == (
        "-",
        "0.500",
        "-",
        "-",
    )
    assert (signed(0.0124), p_text(0.0009), spread(0.5, 0.01)) == (
        "+0.012",
        "< 0.001",
        "0.500 ± 0.010",
    )
    text = csv_text(["a", "b"], [{"a": nan, "b": 'x,"y'}, {"a": 1 / 3}])
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows[0] == {"a": "", "b": 'x,"y'}
    assert float(rows[1]["a"]) == 1 / 3


def test_a_row_of_another_length_is_an_error():
    with pytest.raises(ValueError, match="zip"):
        Table("c", ("a", "b"), (("x",),)).text()
