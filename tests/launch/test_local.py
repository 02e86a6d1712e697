"""launch/local.sh: trains, evaluates and exports, each only after the one before."""

import os
import subprocess

import pytest

from tests.launch.recorder import recorder


@pytest.fixture
def local(tmp_path):
    """Runs the script in a checkout whose python writes down what it gets."""
    recorder(tmp_path, '[[ "$*" != *"$FAIL"* ]]')

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
