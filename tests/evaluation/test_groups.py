"""Scores by group of people: what the data or a table state, and means that are comparable."""

import math

import numpy as np
import pytest

from tests.data.sets import Person, coded, write_set
from vlfau_jax.cli.main import main
from vlfau_jax.data.read.dataset import open_dataset
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.errors import FileError, UserError
from vlfau_jax.evaluation.groups import NOT_STATED, groups_of, read_groups, score_groups
from vlfau_jax.metrics.scored import ScoredFrames

PEOPLE = ("F001", "F004", "M002")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    rng = np.random.default_rng(0)
    write_set(folder, "bp4d", coded(rng, "bp4d", PEOPLE, 2))
    disfa = [Person("SN001", [1], intensity=np.zeros((1, 12))), *coded(rng, "disfa", ["SN002"], 1)]
    write_set(folder, "disfa", disfa)
    return open_dataset(DataOptions(name="bp4d+disfa", data_dir=str(folder)))


def table(tmp_path, text):
    path = tmp_path / "groups.csv"
    path.write_text(text)
    return path


def test_sex_and_data_set_are_groups_where_they_differ(dataset):
    found = groups_of(dataset, ("F001", "M002", "SN001"), None)
    assert found == {
        "sex": {"F001": "female", "M002": "male", "SN001": NOT_STATED},
        "dataset": {"F001": "bp4d", "M002": "bp4d", "SN001": "disfa"},
    }
    assert groups_of(dataset, ("F001", "F004"), None) == {}


def test_a_table_adds_columns_and_replaces_those_of_its_names(dataset, tmp_path):
    path = table(tmp_path, " subject ; skin tone;sex\nM002;VI;x\nF001;;y\nF004; II ;y\nX;I;z\n")
    found = groups_of(dataset, ("F001", "M002"), path)
    assert found == {
        "skin tone": {"F001": NOT_STATED, "M002": "VI"},
        "sex": {"F001": "y", "M002": "x"},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "csv:1: expected a header"),
        ("subject\nF001\n", "csv:1: expected a header"),
        ("person,sex\nF001,f\n", "csv:1: expected a header"),
        ("subject,sex,sex\nF001,f,f\n", "csv:1: expected a header"),
        ("subject,subject,sex\nF001,F001,f\n", "csv:1: expected a header"),
        ("subject,\nF001,f\n", "csv:1: a column needs a name"),
        ("subject,sex\nF001,f\nF001,m\n", "csv:3: subject 'F001' a second time"),
        ("subject,sex\nF001\n", "csv:2: 1 cells; expected 2"),
        ("subject,sex\nF001," + "f" * 101 + "\n", "csv:2: more than 100 characters"),
        ('subject,"se\nx"\nF001,f\n', "csv:1: 'se\\nx'; expected printable text"),
        ('subject,sex\nF001,"f\n|"\n', "'f\\n|'; expected printable text"),
        ("subject,sex\nF001,f\n", "no row of F004, M002; expected every tested subject"),
    ],
)
def test_what_is_no_table_of_groups_is_one_line(tmp_path, text, message):
    with pytest.raises(UserError, match=r"^--groups=.*groups\.csv") as error:
        read_groups(table(tmp_path, text), PEOPLE)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_table_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileError, match=r"none\.csv"):
        read_groups(tmp_path / "none.csv", PEOPLE)


def test_the_flag_is_read_before_the_model_runs(silent_workdir, tmp_path, capsys):
    path = table(tmp_path, "subject,sex\nF001,f\n")
    assert main(["evaluate", f"--workdir={silent_workdir}", f"--groups={path}"]) == 2
    assert "no row of F004; expected every tested subject" in capsys.readouterr().err


def test_means_are_over_the_units_that_all_groups_have():
    """The second unit is never on in one group: it is in no group's mean F1."""
    labels = np.array([[1, 1], [0, 1], [1, 0], [1, 0]])
    probabilities = np.array([[0.9, 0.9], [0.1, 0.1], [0.9, 0.9], [0.1, 0.1]], np.float32)
    known = np.ones((4, 2), bool)
    scored = ScoredFrames((1, 2), probabilities, probabilities > 0.5, labels, known)
    subjects, names = np.array([0, 0, 1, 2]), ("a", "b", "c")
    columns = {"tone": {"a": "light", "b": "dark", "c": "dark"}}
    found = score_groups(columns, scored, subjects, names)["tone"]
    assert found["aus"] == [1] and found["units"]["f1"] == 1 and found["units"]["accuracy"] == 2
    light, dark = found["groups"]["light"], found["groups"]["dark"]
    assert light["mean"]["f1"] == 1.0 and dark["mean"]["f1"] == pytest.approx(2 / 3)
    assert light["per_au"][2]["f1"] == pytest.approx(2 / 3)
    assert math.isnan(dark["per_au"][2]["f1"])
    assert (light["subjects"], light["frames"], dark["subjects"]) == (1, 2, 2)
    assert light["mean_f1_interval"] is None  # one person
    assert dark["mean"]["auc"] is None and found["units"]["auc"] == 0
