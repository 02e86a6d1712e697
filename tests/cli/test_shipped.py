"""The configs ship with the package: an installed wheel finds them from any folder."""

import csv
import os
import shutil
import subprocess
import sys

import pytest

from tests.photographs import photograph
from tests.processes import ROOT, TIMEOUT
from vlfau_jax import shipped


def test_the_files_of_a_checkout():
    assert shipped.CONFIGS == ROOT / "configs"
    assert shipped.MODEL == ROOT / "configs" / "rendered"
    assert {"ablation", "bp4d", "demo", "disfa", "hardware"} <= set(shipped.names())
    warm_start = "configs/demo_warm_start.safetensors"
    assert shipped.find(warm_start).samefile(ROOT / warm_start)


def test_a_name_with_a_folder_is_no_shipped_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shipped.find("demo") == ROOT / "configs" / "demo.py"
    for name in ("x/demo", "../configs/demo", "configs/../demo", str(tmp_path / "demo"), ""):
        assert str(shipped.find(name)) in (name, ".")


def test_one_experiment_begins_from_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shipped.experiment("disfa").get_config("swin_t").model.depths == (2, 2, 6, 2)


@pytest.mark.slow
def test_an_installed_wheel_has_them(tmp_path):
    pytest.importorskip("setuptools")  # builds it, without a network
    source = tmp_path / "source"
    leave_out = shutil.ignore_patterns("__pycache__", ".*")
    for folder in ("vlfau_jax", "configs"):
        shutil.copytree(ROOT / folder, source / folder, ignore=leave_out)
    model_here = {path.name for path in (source / "configs" / "rendered").iterdir()}
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)

    def pip(*argv):
        done = subprocess.run(
            [sys.executable, "-m", "pip", *argv, "--no-deps", "--no-index"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        assert done.returncode == 0, done.stderr

    pip("wheel", "--no-build-isolation", "-w", str(tmp_path), str(source))
    (wheel,) = tmp_path.glob("*.whl")
    pip("install", "--target", str(tmp_path / "site"), str(wheel))
    configs = tmp_path / "site" / "vlfau_jax" / "shipped_configs"
    shipped_here = {path.name for path in (ROOT / "configs").iterdir() if path.is_file()}
    assert {path.name for path in configs.glob("*.*")} == shipped_here - {"README.md"}
    assert {path.name for path in (configs / "rendered").iterdir()} == model_here

    empty = tmp_path / "empty"
    empty.mkdir()
    code = (
        "from vlfau_jax import shipped; from vlfau_jax.cli.config_files import ConfigParser;"
        "config = ConfigParser('config');"
        "assert config.parse('disfa:swin_t').data.name == 'disfa';"
        "path = shipped.find(config.parse('demo').train.warm_start);"
        "assert path.is_file(), path; print(path)"
    )

    def python(*argv):
        return subprocess.run(
            [sys.executable, *argv],
            cwd=empty,
            env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )

    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(configs / "demo_warm_start.safetensors")

    picture = str(photograph("astronaut"))
    done = python("-m", "vlfau_jax", "predict", picture)
    assert done.returncode == 0, done.stderr
    assert f"the one that ships is used, {configs / 'rendered'}, " in done.stderr
    (row,) = csv.DictReader((empty / "predicted" / "predictions.csv").read_text().splitlines())
    assert row["success"] == "1"
    shutil.rmtree(configs / "rendered")
    done = python("-m", "vlfau_jax", "predict", "--out=other", picture)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {configs / 'rendered'} is missing: ")
    assert done.stderr.count("\n") == 1
