"""Mistakes in what compile_only and benchmark are asked: one line that says what would be right."""

import sys

import jax
import pytest

from vlfau_jax.account import benchmark, comparison, compile_only, data_benchmark
from vlfau_jax.cli.main import main

COMPILE = ("compile_only", "--config=tests/tiny.py", "--topology=v5e:2x4")
BENCHMARK = ("benchmark", "--config=tests/tiny.py")
FOLDER = "--config.data.name=folder"


@pytest.fixture(autouse=True)
def nothing_begins(monkeypatch):
    """Eight CPU devices as every topology's; what would compile or measure fails the test."""

    def begun(*_, **__):
        raise AssertionError("the work began")

    monkeypatch.setattr(compile_only, "open_topology", lambda _: jax.devices())
    monkeypatch.setattr("vlfau_jax.account.topology.open_topology", lambda _: jax.devices())
    for module, name in (
        (compile_only, "account_of"),
        (compile_only, "usable_memory"),
        (benchmark, "_end_to_end"),
        (comparison, "_Ours"),
        (comparison, "Reference"),
        (data_benchmark, "_stream"),
    ):
        monkeypatch.setattr(module, name, begun)


@pytest.fixture
def told(tmp_path, monkeypatch, capsys):
    """Runs a verb beside a file and a folder, and gives the one line that it ends with."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()

    def run(*argv):
        argv = [one.replace("HERE", str(tmp_path)) for one in argv]
        assert main(argv) == 2
        lines = capsys.readouterr().err.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        assert lines[-1:] == errors and "Traceback" not in "".join(lines)
        assert (tmp_path / "file").read_text() == "mine"
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]
        return errors[0].removeprefix("error: ").replace(str(tmp_path), "HERE")

    return run


@pytest.mark.parametrize("number", ["0", "-3", "many", "1.5", "", "99999999"])
def test_images_a_chip(told, number):
    line = told(*COMPILE, f"--per_chip={number}")
    assert f"--per_chip={number}: give" in line and ("1 to 65536" in line or "number" in line)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.mesh.fsdp=3"], "product 3 does not divide the 8 devices"),
        (["--config.mesh.data=16"], "8 devices"),
        (["--config.train.batch_size=12"], "train.batch_size=12 does not split"),
        ([FOLDER], "--config.data.aus="),
        ([FOLDER, "--config.data.aus=(3,)"], "AU3"),
        (["--config.data.name=moon"], "bp4d"),
        (["--config.data.image_size=1"], "data.image_size=1"),
    ],
)
@pytest.mark.parametrize("verb", [COMPILE, BENCHMARK, (*BENCHMARK, "--reference")])
def test_an_experiment_that_does_not_fit(told, monkeypatch, verb, flags, message):
    monkeypatch.setattr(comparison, "reference_modules", lambda: (None,))
    assert message in told(*verb, *flags)


@pytest.mark.parametrize("verb", [COMPILE, BENCHMARK, (*BENCHMARK, "--data")])
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--out=HERE/file"], "--out=HERE/file exists; give --overwrite to replace it"),
        (["--out=HERE/folder"], "--out=HERE/folder: this is a folder; name a file"),
        (["--out="], "--out is empty; give a value"),
        (["--out=HERE/file/new.json"], "HERE/file is not a folder; name another place"),
        (["--overwrite"], "--overwrite: without --out nothing is written; give both"),
    ],
)
def test_where_no_file_can_be_written(told, verb, flags, message):
    assert message in told(*verb, *flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--profile="], "--profile is empty; give a value"),
        (["--profile=HERE/file"], "HERE/file is not a folder; name another place"),
        (["--profile=HERE/file/new"], "HERE/file is not a folder; name another place"),
        (["--profile=HERE/new", "--data"], "leave out --data, --reference"),
        (["--profile=HERE/new", "--reference"], "leave out --data, --reference"),
        (["--data", "--reference"], "exclude each other; give one"),
        (["--compiled"], "--compiled: only --reference compares; give both"),
        (["--tasks=training"], "--tasks: only --reference compares; give both"),
        (["--reference", "--tasks="], "training,recognition,describing"),
        (["--reference", "--tasks=moon"], "training,recognition,describing"),
        (["--seconds=0"], "give more than 0 and up to 3600"),
        (["--seconds=nan"], "give a finite number"),
        (["--seconds=-inf", "--data"], "give a finite number"),
        (["--seconds=long"], "--seconds=long: give a number"),
        (["--second=1"], "Did you mean: seconds ?; see benchmark --help"),
        (["--data", "--config.data.data_dir=HERE/folder"], "holds no prepared bp4d"),
    ],
)
def test_a_measurement_that_is_none(told, flags, message):
    assert message in told(*BENCHMARK, *flags)


def test_a_missing_pytorch(told, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    line = told(*BENCHMARK, "--reference")
    assert "torch" in line and "requirements-test.txt" in line
