import dataclasses
import importlib
import typing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlfau_jax.errors import UserError
from vlfau_jax.settings import Settings, check_key, default_config, resolve

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))


def fields():
    """(section, field name) of every key of an experiment."""
    for section, kind in typing.get_type_hints(Settings).items():
        if dataclasses.is_dataclass(kind):
            for field in dataclasses.fields(kind):
                yield section, field.name


def test_the_defaults_resolve_to_the_dataclasses_defaults():
    assert resolve(default_config()) == Settings()


@pytest.mark.parametrize("name", CONFIGS)
def test_every_experiment_resolves_and_says_what_it_is(name):
    module = importlib.import_module(f"configs.{name}")
    assert isinstance(resolve(module.get_config()), Settings)
    assert module.__doc__


def test_an_unknown_key_names_the_nearest():
    config = default_config()
    with config.unlocked():
        config.data.fld = 2
    with pytest.raises(UserError, match=r"config\.data\.fld.*nearest is 'fold'"):
        resolve(config)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("config.trian.steps", "'train'"),
        ("config.train.step", "'steps'"),
        ("config.train.steps.x", "config.train.steps is one value"),
        ("config.mesh", "config.mesh.tensor"),
    ],
)
def test_an_override_of_no_key_is_explained(key, said):
    with pytest.raises(UserError) as error:
        check_key(key)
    assert said in str(error.value)


@pytest.mark.parametrize(("section", "name"), list(fields()))
def test_every_key_can_be_overridden(section, name):
    check_key(f"config.{section}.{name}")


@given(st.one_of(st.none(), st.text(), st.binary(), st.floats(), st.lists(st.text(min_size=1))))
def test_a_value_of_the_wrong_type_is_one_line(value):
    with pytest.raises(UserError) as error:
        resolve({"train": {"steps": value}})
    assert "\n" not in str(error.value)
    assert "config.train.steps" in str(error.value)
