"""launch/local.sh: trains, evaluates and exports, each only after the one before."""

import hashlib
import os
import subprocess

import pytest

from tests.processes import ROOT


@pytest.fixture
def local(tmp_path):
    """Runs the script in a checkout whose python writes down what it gets."""
    (tmp_path / "launch").symlink_to(ROOT / "launch")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").write_text(f"export PATH={tmp_path}/.venv/bin:$PATH\n")
    (tmp_path / "requirements.txt").write_text("")
    digest = hashlib.sha256(b"").hexdigest()
    (tmp_path / ".venv/requirements.installed").write_text(digest)
    python = tmp_path / ".venv/bin/python"
    python.write_text(f'#!/bin/bash\necho "$@" >>{tmp_path}/got\n[[ "$*" != *"$FAIL"* ]]\n')
    python.chmod(0o755)

    def run(*argv, fail="nothing"):
        done = subprocess.run(
            ["bash", str(tmp_path / "launch/local.sh"), *argv],
            env=os.environ | {"FAIL": fail},
            capture_output=True,
            text=True,
        )
        got = tmp_path / "got"
        return done, [line.split() for line in got.read_text().splitlines()] if got.exists() else []

    return run


def test_it_trains_evaluates_and_exports(local):
    done, got = local("configs/demo.py", "runs/mine", "--config.seed=1")
    assert done.returncode == 0, done.stderr
    assert got == [
        ["-m", "vlfau_jax", "train", "--config=configs/demo.py", "--workdir=runs/mine", "--resume",
         "--config.seed=1"],
        ["-m", "vlfau_jax", "evaluate", "--workdir=runs/mine"],
        ["-m", "vlfau_jax", "export", "--workdir=runs/mine", "--out=runs/mine/model",
         "--overwrite"],
    ]  # fmt: skip


def test_what_fails_ends_it(local):
    done, got = local("configs/demo.py", "runs/mine", fail="evaluate")
    assert done.returncode == 1 and len(got) == 2


def test_a_missing_folder_is_asked_for(local):
    done, got = local("configs/demo.py")
    assert done.returncode == 2 and "usage:" in done.stderr and not got
