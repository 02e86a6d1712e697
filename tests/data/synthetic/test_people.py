"""people.csv of rendered trees: whom it calls what, and that it disturbs no reader."""

import csv
from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pytest

from vlfau_jax.data.sets import SETS, layouts
from vlfau_jax.data.synthetic.identity import SKIN_TONES, draw_identity
from vlfau_jax.data.synthetic.mesh.traits import draw_traits
from vlfau_jax.data.synthetic.people import PEOPLE, group_row, write_people
from vlfau_jax.data.synthetic.renderer import RENDERED_AUS
from vlfau_jax.data.synthetic.trees import write_tree
from vlfau_jax.evaluation.groups import read_groups

OF_ALL = ["subject", "sex", "skin_tone", "hair", "beard", "glasses"]
OF_HEADS = ["age", "lipstick", "resting"]


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("name", [*layouts()])
def test_every_layout_has_it_and_its_reader_is_not_disturbed(tmp_path, name):
    root = tmp_path / "raw"
    write_tree(layouts()[name], root, subjects=4, frames=4, seed=0, size=64)
    names = layouts()[name].choose_subjects(4)
    header, *rows = rows_of(root / PEOPLE)
    assert header == OF_ALL and tuple(row[0] for row in rows) == names
    groups = read_groups(root / PEOPLE, names)
    assert list(groups) == OF_ALL[1:]
    sexes = {"F": "female", "M": "male"}
    assert groups["sex"] == {s: sexes[draw_identity(0, s).sex] for s in names}
    with_it = SETS[name].read(root)
    assert set(names) >= {sequence.subject for sequence in with_it.sequences}
    (root / PEOPLE).unlink()
    without = SETS[name].read(root)
    assert asdict(with_it.report) == asdict(without.report)
    assert with_it.tables == without.tables


@pytest.mark.parametrize("renderer", ["relief", "mesh"])
def test_a_seed_gives_the_same_file(tmp_path, renderer):
    names = layouts()["disfa"].choose_subjects(30)
    texts = []
    for k in range(2):
        (tmp_path / str(k)).mkdir()
        write_people(tmp_path / str(k), names, 5, renderer)
        texts.append((tmp_path / str(k) / PEOPLE).read_bytes())
    assert texts[0] == texts[1]
    write_people(tmp_path, names[:3], 5, renderer)
    assert rows_of(tmp_path / PEOPLE) == rows_of(tmp_path / "0" / PEOPLE)[:4]
    write_people(tmp_path, names, 6, renderer)
    assert (tmp_path / PEOPLE).read_bytes() != texts[0]


def test_a_tree_of_heads_has_their_traits_besides(tmp_path):
    root = tmp_path / "raw"
    write_tree(layouts()["folder"], root, subjects=2, frames=4, seed=3, size=64, renderer="mesh")
    header, *rows = rows_of(root / PEOPLE)
    assert header == OF_ALL + OF_HEADS
    for row in rows:
        face = draw_identity(3, row[0])
        assert row == [row[0], *group_row(face, draw_traits(face)).values()]


# The same on every machine: none of these is within 1e-4 of a limit.
PINNED = """\
subject,sex,skin_tone,hair,beard,glasses,age,lipstick,resting
F001,female,light,fringe,none,square,smooth,yes,yes
M001,male,middle,part,moustache,none,old,no,yes
F002,female,light,long,none,none,middle,yes,yes
M002,male,middle,crop,stubble,none,smooth,no,no
"""


def test_these_people_stay_who_they_are(tmp_path):
    write_people(tmp_path, ("F001", "M001", "F002", "M002"), 0, "mesh")
    assert (tmp_path / PEOPLE).read_text() == PINNED


def face_with(**changes):
    return replace(draw_identity(0, "M001"), **changes)


def traits_with(**changes):
    return replace(draw_traits(draw_identity(0, "M001")), **changes)


def skin(place):
    return tuple(np.array(SKIN_TONES[place]) / 255)


def resting(level):
    return tuple(level if au == 4 else 0.1 for au in RENDERED_AUS)


@pytest.mark.parametrize(
    ("face", "column", "group"),
    [
        ({"sex": "F"}, "sex", "female"),
        ({"sex": "M"}, "sex", "male"),
        ({"skin": skin(0)}, "skin_tone", "light"),
        ({"skin": skin(1)}, "skin_tone", "light"),
        ({"skin": skin(2)}, "skin_tone", "middle"),
        ({"skin": skin(3)}, "skin_tone", "middle"),
        ({"skin": skin(4)}, "skin_tone", "dark"),
        ({"skin": skin(5)}, "skin_tone", "dark"),
        ({"hair_style": "fringe"}, "hair", "fringe"),
        ({"beard": 0.16, "beard_style": "goatee"}, "beard", "none"),
        ({"beard": 0.25, "beard_style": "goatee"}, "beard", "goatee"),
        ({"glasses": "square"}, "glasses", "square"),
    ],
)
def test_groups_of_a_face(face, column, group):
    assert group_row(face_with(**face), None)[column] == group


@pytest.mark.parametrize(
    ("traits", "column", "group"),
    [
        ({"age": 0.0}, "age", "smooth"),
        ({"age": 0.001}, "age", "young"),
        ({"age": 0.25}, "age", "middle"),
        ({"age": 0.5}, "age", "old"),
        ({"lipstick": 0.0}, "lipstick", "no"),
        ({"lipstick": 0.3}, "lipstick", "yes"),
        ({"resting": resting(0.99)}, "resting", "no"),
        ({"resting": resting(1.0)}, "resting", "yes"),
    ],
)
def test_groups_of_traits(traits, column, group):
    assert group_row(face_with(), traits_with(**traits))[column] == group


def test_no_group_is_empty_and_skins_are_thirds():
    everybody = [draw_identity(k, f"{'FM'[k % 2]}001") for k in range(1500)]
    rows = [group_row(face, draw_traits(face)) for face in everybody]
    shares = {
        column: {group: n / len(rows) for group, n in Counter(r[column] for r in rows).items()}
        for column in rows[0]
    }
    thirds = dict.fromkeys(("light", "middle", "dark"), 1 / 3)
    assert shares["skin_tone"] == pytest.approx(thirds, abs=0.04)
    assert set(shares["beard"]) == {"none", "stubble", "goatee", "moustache"}
    assert set(shares["glasses"]) == {"none", "round", "square"}
    assert set(shares["age"]) == {"smooth", "young", "middle", "old"}
    assert all(share > 0.1 for share in shares["age"].values())
    for column in ("lipstick", "resting"):
        assert 0.1 < shares[column]["yes"] < 0.9
    women = [row for row in rows if row["sex"] == "female"]
    assert women and all(row["beard"] == "none" for row in women)
