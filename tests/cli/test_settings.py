import dataclasses
import importlib
import typing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from configs import bp4d, hardware
from vlfau_jax.cli.main import main
from vlfau_jax.cli.settings import Settings, check_key, default_config, for_device, resolve
from vlfau_jax.data.sets import SETS
from vlfau_jax.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted({path.stem for path in (ROOT / "configs").glob("*.py")} - {"hardware", "ablation"})


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
    def trained(name):
        published = SETS[name].published
        stretches = ((s, run) for s, runs in published.excluded.items() for run in runs)
        lost = [(s, first, last) for s, (first, last) in stretches]
        runs = [(s, first, last) for (s, _), (first, last) in published.runs.items()]
        people = {s for part in published.parts[:2] for s in part}
        return sum(
            sign * (last - first + 1)
            for sign, some in ((1, runs), (-1, lost))
            for s, first, last in some
            if s in people
        )

    frames = {"bp4d": trained("bp4d"), "disfa": trained("disfa")}
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
    ("key", "message"),
    [
        ("config.trian.steps", "'train'"),
        ("config.train.step", "'steps'"),
        ("config.train.steps.x", "config.train.steps is one value"),
        ("config.mesh", "config.mesh.tensor"),
    ],
)
def test_an_override_of_no_key_is_explained(key, message):
    with pytest.raises(UserError) as error:
        check_key(key)
    assert message in str(error.value)


@pytest.mark.parametrize(("section", "name"), list(fields()))
def test_every_key_can_be_overridden(section, name):
    check_key(f"config.{section}.{name}")


@given(st.one_of(st.none(), st.text(), st.binary(), st.floats(), st.lists(st.text(min_size=1))))
def test_a_value_of_the_wrong_type_is_one_line(value):
    with pytest.raises(UserError) as error:
        resolve({"train": {"steps": value}})
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("train.steps=")


def rows(*some):
    return ConfigDict({"rows": tuple(ConfigDict(row) for row in some)})


# What jax.devices()[0].device_kind is on machines that people have.
KINDS = {
    "TPU v5 lite": 64,
    "TPU v5": 256,
    "TPU v5p": 256,
    "TPU7x": 256,
    "TPU v4": 128,
    "TPU v6 lite": 128,
    "NVIDIA H100 80GB HBM3": 192,
    "NVIDIA H200": 384,
    "NVIDIA A100-SXM4-40GB": 96,
    "NVIDIA A100-SXM4-80GB": 192,
    "NVIDIA A100 80GB PCIe": 192,
    "NVIDIA GeForce RTX 4090": 64,
    "cpu": 8,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_device_of_the_table_has_an_experiment_that_resolves(kind):
    config = bp4d.get_config()
    config, chosen = for_device(config, hardware.get_config(), kind)
    settings = resolve(config)
    assert settings.train.device_batch == chosen["train.device_batch"] == KINDS[kind]
    assert settings.mesh.data == -1
    assert settings.model.dtype == ("float32" if kind == "cpu" else "bfloat16")
    names = {"data", "fsdp", "tensor"}
    assert chosen.keys() == {f"mesh.{name}" for name in names} | {
        "train.device_batch",
        "model.remat",
        "model.dtype",
    }


def test_the_first_row_that_is_the_whole_name_counts_and_given_keys_stay():
    table = rows(
        {"device_kind": "GPU", "train": {"steps": 1}},
        {"device_kind": "GPU.*", "seed": 5, "train": {"steps": 2}, "mesh": {"fsdp": 2}},
        {"device_kind": ".*", "train": {"steps": 3}},
    )
    config = default_config()
    config.mesh.fsdp = 4
    found, chosen = for_device(config, table, "GPU 9", {"mesh.fsdp"})
    assert chosen == {"seed": 5, "train.steps": 2}
    settings = resolve(found)
    assert (settings.seed, settings.train.steps, settings.mesh.fsdp) == (5, 2, 4)
    assert resolve(config).train.steps == Settings().train.steps, "the experiment was changed"
    assert resolve(for_device(ConfigDict(), table, "GPU 9")[0]).mesh.fsdp == 2


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (rows(), "no row of it is for 'GPU'; there are no rows"),
        (ConfigDict(), "there are no rows"),
        (rows({"device_kind": "TPU.*"}, {"device_kind": "cpu"}), "are 'TPU[.][*]', 'cpu'"),
        (rows({"device_kind": "GPU", "train": {"step": 1}}), "config.train.step: no such config"),
        (rows({"device_kind": "(GPU"}), r"device_kind='\(GPU': missing \)"),
        (rows({"train": {"steps": 1}}), "device_kind=None of a row"),
        (rows({"device_kind": "GPU", "mesh": 3}), "config.mesh: this is a group of keys"),
        (
            rows({"device_kind": "GPU", "mesh": {"data": "all"}}),
            "mesh.data='all': give a whole number",
        ),
    ],
)
def test_a_table_that_does_not_do_is_one_line(table, words):
    with pytest.raises(UserError, match=words) as error:
        resolve(for_device(default_config(), table, "GPU")[0])
    assert "\n" not in str(error.value)


def test_train_applies_the_table_and_says_what_it_set(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    run = ["train", "--config=configs/demo.py", f"--workdir={tmp_path}/run"]
    run += [f"--config.data.data_dir={tmp_path}/none", "--config.model.remat=full"]
    assert main([*run, "--hardware=configs/hardware.py"]) == 2
    applied, stopped = capsys.readouterr().err.splitlines()
    assert applied == (
        "hardware: cpu: mesh.data=-1, mesh.fsdp=1, mesh.tensor=1, model.dtype=float32, "
        "train.device_batch=8"
    )
    assert f"{tmp_path}/none" in stopped

    (tmp_path / "gpus.py").write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config():\n"
        "    return ConfigDict({'rows': (ConfigDict({'device_kind': 'GPU'}),)})\n"
    )
    assert main([*run, f"--hardware={tmp_path}/gpus.py"]) == 2
    assert capsys.readouterr().err == (
        "error: --hardware: no row of it is for 'cpu'; there are 'GPU'\n"
    )
    assert main([*run, f"--hardware={tmp_path}/none.py"]) == 2
    assert "none.py: no such file; give a table of devices" in capsys.readouterr().err
