"""The scripts are clean by shellcheck and the Dockerfile by hadolint, both from wheels."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT

LAUNCH = ROOT / "launch"
SCRIPTS = sorted(LAUNCH.glob("*.sh"))


def program(name):
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    return found or pytest.skip(f"no {name}: pip install -r requirements-launch.txt")


def test_scripts_are_clean():
    assert len(SCRIPTS) > 8
    done = subprocess.run([program("shellcheck"), *SCRIPTS], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_dockerfile_is_clean():
    done = subprocess.run(
        [program("hadolint"), "--no-color", LAUNCH / "Dockerfile"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_has_our_pins_no_root_and_no_data():
    text = (LAUNCH / "Dockerfile").read_text()
    assert "pip install --no-cache-dir -r requirements.txt" in text
    assert re.findall(r"^USER (.*)", text, re.MULTILINE) == ["1000"]
    base = {
        re.match(r"FROM python:(3\.\d+)-slim", line)[1]
        for line in text.splitlines()
        if line.startswith("FROM")
    }
    assert base <= {"3.11", "3.12", "3.13"} and len(base) == 1
    ignored = (LAUNCH / "Dockerfile.dockerignore").read_text().split()
    assert {".git", ".venv", "runs", "data"} <= {*ignored}


@pytest.mark.parametrize("device", ["cpu", "cuda", "tpu", "abacus"])
def test_the_build_argument_chooses_jax(device, tmp_path):
    """The RUN command itself, with a pip that writes down what it is asked for."""
    text = (LAUNCH / "Dockerfile").read_text().replace("\\\n", "")
    (command,) = re.findall(r"^RUN (python -m venv .*)", text, re.MULTILINE)
    (tmp_path / "bin").mkdir()
    for name, body in (
        ("python", 'case "$1" in -c) echo 1.2.3 ;; esac'),
        ("pip", f'printf "%s\\n" "$@" >>{tmp_path}/asked'),
    ):
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    command = command.replace("/venv/", f"{tmp_path}/").replace("python -m venv /venv", "true")
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env=os.environ | {"DEVICE": device},
        capture_output=True,
        text=True,
    )
    asked = (tmp_path / "asked").read_text()
    if device == "abacus":
        assert done.returncode == 2 and "give cpu, cuda or tpu" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    extra = {"cpu": [], "cuda": ["jax[cuda13]==1.2.3"], "tpu": ["jax[tpu]==1.2.3"]}[device]
    assert re.findall(r"^jax\[.*", asked, re.MULTILINE) == extra
