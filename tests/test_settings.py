import dataclasses
import importlib
import typing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlfau_jax.data.expected import DISFA_EXCLUDED, PUBLISHED
from vlfau_jax.data.folds import PARTS
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


def test_the_papers_configs_share_a_network_and_take_20_epochs_of_fold_1():
    def trained(name, excluded):
        stretches = ((s, run) for s, runs in excluded.items() for run in runs)
        lost = [(s, first, last) for s, (first, last) in stretches]
        runs = [(s, first, last) for (s, _), (first, last) in PUBLISHED[name].runs.items()]
        people = {s for part in PARTS[name][:2] for s in part}
        return sum(
            sign * (last - first + 1)
            for sign, some in ((1, runs), (-1, lost))
            for s, first, last in some
            if s in people
        )

    frames = {"bp4d": trained("bp4d", {}), "disfa": trained("disfa", DISFA_EXCLUDED)}
    frames["bp4d_disfa"] = frames["bp4d"] + frames["disfa"]
    networks = set()
    for file, count in frames.items():
        config = resolve(importlib.import_module(f"configs.{file}").get_config("swin_t"))
        assert config.train.steps == count * 20 // config.train.batch_size
        assert config.data.name == file.replace("_", "+")
        networks.add((config.model, config.optimizer, config.objective, config.data.image_size))
        assert f"{count:,} frames" in importlib.import_module(f"configs.{file}").__doc__
    assert len(networks) == 1


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
