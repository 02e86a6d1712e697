"""The owner's split: lists that a set was prepared from, or a table; the difference is said."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.data.builds import build
from tests.data.raw.test_me_graphau import codes
from tests.data.sets import reseal
from tests.data.tree_writers import write_images, write_lists
from vlfau_jax.data.raw.bp4d import index_bp4d
from vlfau_jax.data.read.dataset import Dataset, open_dataset
from vlfau_jax.data.read.folds import read_folds
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.data.read.protocol import protocol
from vlfau_jax.errors import UserError

PEOPLE = ("F001", "F003", "F004", "M001")
NOTE = "fold 1: the lists test F001, M001, the published folds F004 of these subjects"


def write_tree(root: Path, lists: dict[str, tuple[str, ...]]) -> Path:
    """ME-GraphAU's layout; `lists` is such as {"train_1": subjects}."""
    rng = np.random.default_rng(0)
    rows = {s: [(f"{s}/T1/{n}.jpg", codes(rng, 12)) for n in (10, 11)] for s in PEOPLE}
    for subject in PEOPLE:
        write_images(root / f"img/{subject}/T1", ["10.jpg", "11.jpg"], rng)
    for name, subjects in lists.items():
        part, fold = name.split("_")
        listed = [row for subject in subjects for row in rows[subject]]
        write_lists(root, f"BP4D_{part}_{{}}_fold{fold}", listed)
    return root


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """The set of lists whose fold 1 is not the published one."""
    root = tmp_path_factory.mktemp("lists")
    lists = {"train_1": ("F003", "F004"), "test_1": ("F001", "M001")}
    build(write_tree(root / "raw", lists), root / "prepared")
    return root / "prepared"


def open_(prepared: Path, **options) -> tuple[Dataset, DataOptions]:
    options = DataOptions(data_dir=str(prepared), **options)
    return open_dataset(options), options


def test_the_lists_are_followed_when_asked_and_the_difference_is_said(prepared):
    published, options = open_(prepared)
    assert published.split(1).test == ("F004",)
    assert protocol(published, options)["folds"] == "published"
    assert published.fold_notes(1) == [f"bp4d: {NOTE}; data.folds=published is used"]
    lists, options = open_(prepared, folds="lists")
    assert lists.split(1)[::2] == (("F003", "F004"), ("F001", "M001"))
    assert lists.split(0).train == PEOPLE
    assert re.fullmatch(r"lists \(sha256 [0-9a-f]{16}\)", protocol(lists, options)["folds"])
    assert lists.fold_notes(1) == [f"bp4d: {NOTE}; data.folds=lists is used"]
    assert lists.fold_notes(2) == []
    with pytest.raises(UserError, match=r"data\.fold=2 does not exist; expected 0 .* to 1"):
        lists.split(2)
    assert published.sets[0].list_folds == {1: (("F003", "F004"), ("F001", "M001"))}


def test_prepare_says_the_difference(tmp_path, capsys):
    lists = {"train_1": ("F003", "F004"), "test_1": ("F001", "M001")}
    folder = build(write_tree(tmp_path / "raw", lists), tmp_path / "set")
    assert f"data.folds chooses ({NOTE})" in capsys.readouterr().out
    assert NOTE in (folder / "integrity.txt").read_text()
    assert json.loads((folder / "integrity.json").read_text())["remarks"]["folds_differ"] == [NOTE]


def test_published_folds_in_lists_are_no_difference(tmp_path):
    lists = {
        "train_1": ("F001", "F003", "M001"),
        "test_1": ("F004",),
        "train_3": ("F003", "F004"),
        "test_3": ("F001", "M001"),
    }
    tree = index_bp4d(write_tree(tmp_path / "raw", lists))
    assert not tree.report.remarks["folds_differ"] and sorted(tree.list_folds) == [1, 3]


def test_folds_in_which_somebody_trains_and_is_tested_cannot_be_used(tmp_path):
    lists = {"train_1": PEOPLE, "test_1": ("F001",), "train_2": PEOPLE}
    tree = index_bp4d(write_tree(tmp_path / "raw", lists))
    assert tree.list_folds == {}
    assert tree.report.remarks["folds_unusable"] == [
        "fold 1: F001 trained on and tested",
        "fold 2: no list of its test side",
    ]


def write_table(path: Path, rows: dict[str, object]) -> str:
    path.write_text("\n".join(["subject,fold", *(f"{s},{k}" for s, k in rows.items())]) + "\n")
    return str(path)


def test_a_table_of_folds(prepared, tmp_path):
    rows = {"F001": 1, "F003": 2, "F004": 2, "M001": 4}
    with pytest.raises(UserError, match=r"folds\.csv: folds are 1 to 4, and fold 3 tests nobody"):
        open_(prepared, folds=write_table(tmp_path / "folds.csv", rows))
    table = write_table(tmp_path / "folds.csv", rows | {"M001": 3})
    dataset, options = open_(prepared, folds=table)
    assert [dataset.split(k).test for k in (1, 2, 3)] == [("F001",), ("F003", "F004"), ("M001",)]
    assert dataset.split(2).train == ("F001", "M001")
    described = protocol(dataset, options)["folds"]
    assert described.startswith("folds.csv (sha256 ")
    write_table(tmp_path / "folds.csv", rows | {"M001": 2})
    assert protocol(*open_(prepared, folds=table))["folds"] != described
    with pytest.raises(UserError, match=r"data\.fold=4 does not exist; expected 0 .* to 3"):
        dataset.split(4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: expected the header subject,fold"),
        ("subject,fold,x\nF001,1,2\n", ":1: expected the header"),
        ("subject,fold\nF001,1\nF001,2\n", ":3: 'F001' comes twice"),
        ("subject,fold\nF001,1\nF009,2\n", ":3: subject 'F009' is not in the prepared set; expe"),
        ("subject,fold\nF001,0\n", ":2: fold '0'; expected 1, 2"),
        ("subject,fold\nF001,1.5\n", ":2: fold '1.5'"),
        ("subject,fold\nF001," + "9" * 5000 + "\n", ":2: fold '999"),
        ("subject,fold\nF001\n", ":2: 1 cells"),
        ("subject,fold\nF001,1\nF003,2\n", ": no row of F004, M001; expected every"),
        ("subject,fold\nF001,1\nF003,1\nF004,1\nM001,1\n", "fold 2 tests nobody; expected at lea"),
        ("fold;subject\n2;F001\n3;F003\n2;F004\n3;M001\n", "folds are 1 to 3, and fold 1 tests n"),
        ("subject,fold\n\xff\n", ""),
    ],
)
def test_tables_of_folds_that_are_refused(tmp_path, text, message):
    (tmp_path / "folds.csv").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=rf"folds\.csv.*{re.escape(message)}") as error:
        read_folds(tmp_path / "folds.csv", PEOPLE)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_a_table_that_is_none_is_named_with_its_key(prepared, tmp_path):
    for path in (tmp_path, tmp_path / "none.csv", "/dev/zero"):
        with pytest.raises(UserError, match=rf"^data\.folds={path}: .*; expected published, lists"):
            open_(prepared, folds=str(path))


def test_a_set_without_folds_of_its_own(prepared):
    one = open_(prepared)[0].sets[0]
    dataset = replace(open_(prepared, folds="lists")[0], sets=(replace(one, list_folds={}),))
    with pytest.raises(UserError, match=r"data\.folds=lists: the prepared bp4d states no folds"):
        dataset.split(1)


@pytest.mark.parametrize(
    "folds",
    [[], {"0": {}}, {"1": {"train": ["F001"]}}, {"1": {"train": ["F001"], "test": ["x"]}},
     {"1": {"train": ["F001"], "test": []}}, {"1": {"train": ["F001"], "test": ["F001"]}},
     {"1": {"train": [1], "test": ["F001"]}}],
)  # fmt: skip
def test_damaged_folds_in_the_metadata(prepared, tmp_path, folds):
    metadata = next(prepared.rglob("metadata.json"))
    text = metadata.read_text()
    metadata.write_text(json.dumps(json.loads(text) | {"list_folds": folds}))
    reseal(metadata.parent)
    try:
        with pytest.raises(UserError, match=r"metadata\.json.*list_folds"):
            open_(prepared)
    finally:
        metadata.write_text(text)
        reseal(metadata.parent)
