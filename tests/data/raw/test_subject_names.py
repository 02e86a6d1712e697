"""One person under two names: found by how the names are written, and asked about."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlfau_jax.data.raw.folder import index_folder
from vlfau_jax.data.raw.label_options import LabelOptions
from vlfau_jax.data.raw.subject_names import similar_names
from vlfau_jax.errors import UserError

ONE = [
    ("F01", "f01"),
    ("F03", "F3"),
    ("F003", "f_3"),
    ("P-12", "p_12"),
    ("anna b", "Anna_B"),
    (" anna", "anna "),
    ("anna", "\uff41\uff4e\uff4e\uff41"),
    ("J\u00f6rg", "Jo\u0308rg"),
    ("stra\u00dfe", "STRASSE"),
    ("s\u0661", "s1"),
    ("1_11", "01-11"),
    ("a.b", "ab"),
]
TWO = [("F01", "F10"), ("F01", "M01"), ("1_11", "11_1"), ("a1", "a11"), ("s1_2", "s12"), ("_", "-")]


@pytest.mark.parametrize("names", ONE)
def test_spellings_of_one_name(names):
    assert similar_names([*names, "other"]) == [tuple(sorted(names))]


@pytest.mark.parametrize("names", TWO)
def test_names_of_two_people(names):
    assert similar_names(names) == []


@given(
    name=st.from_regex(r"[A-Za-z]{1,6}[0-9]{1,4}", fullmatch=True),
    spell=st.sampled_from(
        [
            str.swapcase,
            lambda name: f" {name} ",
            lambda name: unicodedata.normalize("NFD", name).upper(),
            lambda name: "".join(chr(ord(c) + 0xFEE0) for c in name),
            lambda name: name.rstrip("0123456789") + "_0" + name.lstrip(name.rstrip("0123456789")),
        ]
    ),
)
def test_any_name_spelt_anew_is_found(name, spell):
    other = spell(name)
    assert similar_names([name, other]) == ([tuple(sorted((name, other)))])


@given(st.lists(st.text(max_size=40), max_size=6, unique=True))
def test_any_text_is_grouped(names):
    groups = similar_names(names)
    grouped = [name for group in groups for name in group]
    assert len(set(grouped)) == len(grouped) and set(grouped) <= set(names)


def test_a_table_with_one_person_twice_is_refused_unless_accepted(tmp_path):
    rows = ["a.jpg,F01,1", "b.jpg,f01,0", "c.jpg,F3,1", "d.jpg,F03,1", "e.jpg,M1,1"]
    for name in "abcde":
        (tmp_path / f"{name}.jpg").touch()
    (tmp_path / "labels.csv").write_text("\n".join(["image,subject,AU1", *rows]))
    message = (
        r"subjects F01 \(.*labels\.csv:2\) and f01 \(.*labels\.csv:3\) may be one person.*; "
        r"1 more such groups.*--accept_similar_subjects"
    )
    with pytest.raises(UserError, match=message):
        index_folder(tmp_path)
    tree = index_folder(tmp_path, options=LabelOptions(accept_similar_subjects=True))
    assert tree.report.remarks["subject_similar"] == ["F01 and f01", "F03 and F3"]
    assert len({s.subject for s in tree.sequences}) == 5
