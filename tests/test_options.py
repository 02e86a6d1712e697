"""Every option has bounds, and whatever is given for one ends as its type or as one line."""

import dataclasses
import typing
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from vlfau_jax.cli.settings import Settings, resolve
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.errors import UserError
from vlfau_jax.losses import joint
from vlfau_jax.losses.joint import ObjectiveOptions
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.model.remat import POLICIES
from vlfau_jax.options import checked, option_kinds, wanted
from vlfau_jax.sharding.mesh import MeshOptions
from vlfau_jax.train.experiment import TrainOptions
from vlfau_jax.train.optimizer import OptimizerOptions

GROUPS = {
    kind.group: kind
    for kind in (
        DataOptions,
        ModelOptions,
        ObjectiveOptions,
        OptimizerOptions,
        TrainOptions,
        MeshOptions,
    )
}
KEYS = [(group, name) for group, kind in GROUPS.items() for name in option_kinds(kind)]

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 0, 10**6, 2**31, 10**9, 2**63, -(2**63), 10**400]),
    st.floats(),
    st.text(st.characters()),
    st.binary(),
    st.lists(st.one_of(st.integers(), st.floats(), st.none(), st.text()), max_size=5),
    st.tuples(*[st.integers()] * 4),
    st.dictionaries(st.text(), st.integers(), max_size=2),
)


def test_the_groups_of_an_experiment_are_all_tested():
    hints = typing.get_type_hints(Settings)
    assert {name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind)} == GROUPS


@pytest.mark.parametrize(("group", "name"), KEYS)
def test_no_number_and_no_list_is_without_bounds(group, name):
    kind = option_kinds(GROUPS[group])[name]
    if kind is not bool:
        assert kind not in (int, float, str), "declare its bounds, Annotated[..., Field(...)]"
        assert wanted(kind) != "values"


@given(st.sampled_from(KEYS), ODD)
def test_every_odd_value_is_taken_or_refused_in_one_line(key, value):
    group, name = key
    try:
        made = GROUPS[group](**{name: value})
    except UserError as error:
        text = str(error)
        assert text.startswith(f"{group}.") or text.startswith(f"objective.{name[:4]}"), text
        assert "\n" not in text.replace(repr(value), "")
        assert len(text) < 500
    else:
        kept = getattr(made, name)
        assert checked(name, kept, option_kinds(GROUPS[group])[name]) == kept
        assert made == GROUPS[group](**{name: kept})


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"model": {"depths": (10**6, 1, 1, 1)}}, "model.depths=(1000000, 1, 1, 1): give 4 values"),
        ({"model": {"heads": (4, 8, 16)}}, "model.heads=(4, 8, 16): give 4 values, each 1 to"),
        ({"model": {"window": 10**9}}, "model.window=1000000000: give 1 to 64"),
        ({"model": {"stem": "conf"}}, "model.stem='conf': give one of 'patch', 'conv'"),
        ({"model": {"dropout": float("nan")}}, "model.dropout=nan: give a finite number, 0 to 0."),
        ({"model": {"flip": 1}}, "config.model.flip: no such config key"),
        ({"data": {"flip": 1}}, "data.flip=1: give True or False"),
        ({"data": {"image_size": 10**6}}, "data.image_size=1000000: give 16 to 1024"),
        ({"data": {"data_dir": "a\0b"}}, r"data.data_dir='a\x00b': give text without NUL"),
        ({"data": {"name": "x" * 10**6}}, "...: give at most 1000 characters"),
        ({"train": {"batch_size": 10**9}}, "train.batch_size=1000000000: give 1 to 1048576"),
        ({"train": {"steps": 2**40}}, "train.steps=1099511627776: give 1 to 2**30"),
        ({"train": {"steps": 1.0}}, "train.steps=1.0: give a whole number, 1 to 2**30"),
        ({"train": {"steps": True}}, "train.steps=True: give a whole number, 1 to 2**30"),
        ({"train": {"steps": 10**5000}}, "train.steps=a number of 16610 bits: give "),
        ({"optimizer": {"learning_rate": float("inf")}}, "give a finite number, more than 0, up"),
        ({"optimizer": {"b1": 1}}, "optimizer.b1=1: give 0 to below 1"),
        ({"objective": {"dice_ramp": (0, 1, 2)}}, "objective.dice_ramp=(0, 1, 2): give 2 values"),
        ({"mesh": {"data": -2}}, "mesh.data=-2: give -1 to 1048576"),
        ({"mesh": 3}, "mesh=3: a group of keys is expected here"),
        ({"seed": 2**31}, "seed=2147483648: give 0 to 2**31 - 1"),
    ],
)
def test_key_value_and_what_would_be_right(tree, message):
    with pytest.raises(UserError) as error:
        resolve(tree)
    assert message in str(error.value)
    assert len(str(error.value)) < 200


def test_lists_and_whole_numbers_become_what_the_field_is():
    options = ModelOptions(depths=[2, 2, 6, 2], mlp_ratio=4)
    assert options.depths == (2, 2, 6, 2)
    assert isinstance(options.mlp_ratio, float)


def test_the_name_of_a_folder_may_be_no_utf_8():
    assert DataOptions(data_dir="a\udcff").data_dir == "a\udcff"
    assert checked("--out", "a\udcff", str) == "a\udcff"


def test_choices_are_those_of_the_tables_that_are_looked_up():
    assert set(typing.get_args(option_kinds(ModelOptions)["remat"])) == {"none", *POLICIES}
    assert set(typing.get_args(option_kinds(ObjectiveOptions)["au_loss"])) == {*joint._AU_LOSSES}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (float, "a finite number"),
        (Annotated[int, Field(ge=3)], "3 or more"),
        (Annotated[float, Field(lt=2.5)], "below 2.5"),
        (Annotated[float, Field(le=2.5)], "up to 2.5"),
        (Annotated[float, Field(gt=0, lt=1)], "more than 0, below 1"),
        (Annotated[float, Field(gt=0, le=1)], "more than 0, up to 1"),
        (Annotated[int, Field(ge=0, lt=2**31)], "0 to below 2**31"),
        (Annotated[tuple[int, ...], Field(max_length=2)], "at most 2 values, each a whole number"),
        (Literal["a", "b"], "one of 'a', 'b'"),
        (Annotated[int, Field(ge=1)] | None, "1 or more"),
    ],
)
def test_the_words_for_each_kind_of_bound(kind, words):
    assert wanted(kind) == words
    with pytest.raises(UserError, match=r"^here=b'x': give "):
        checked("here", b"x", kind)


def test_none_is_a_value_only_where_the_kind_says_so():
    assert checked("maybe", None, Annotated[int, Field(ge=1)] | None) is None
    with pytest.raises(UserError, match=r"^maybe=None: give a whole number, 1 or more$"):
        checked("maybe", None, Annotated[int, Field(ge=1)])
