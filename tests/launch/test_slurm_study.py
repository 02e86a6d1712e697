"""launch/slurm_study.sh: which part of a study a job trains, and when it comes again."""

import os
import subprocess

import pytest

from tests.processes import ROOT


@pytest.fixture
def submit(tmp_path):
    """Runs the script as Slurm would, with a srun and a scontrol that write down what they get."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").touch()
    (tmp_path / "launch").symlink_to(ROOT / "launch")
    (tmp_path / "bin").mkdir()
    for name, code in (("srun", "$CODE"), ("scontrol", "0")):
        command = tmp_path / "bin" / name
        command.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" >"$SLURM_SUBMIT_DIR/{name}"\nexit {code}\n'
        )
        command.chmod(0o755)

    def run(*argv, code=0, **env):
        done = subprocess.run(
            ["bash", str(ROOT / "launch" / "slurm_study.sh"), *argv],
            env={
                "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
                "SLURM_SUBMIT_DIR": str(tmp_path),
                "SLURM_ARRAY_JOB_ID": "70",
                "CODE": str(code),
            }
            | env,
            capture_output=True,
            text=True,
            cwd="/",
        )
        told = {
            name: (tmp_path / name).read_text().split("\n")[:-1]
            if (tmp_path / name).exists()
            else []
            for name in ("srun", "scontrol")
        }
        return done, told

    return run


@pytest.mark.parametrize(("verb", "flag"), [("crossval", "--fold=3"), ("ablate", "--cell=3")])
def test_a_job_trains_its_part_and_goes_on_with_it(submit, verb, flag):
    done, told = submit(verb, "--config=a b.py", "--workdir=w", SLURM_ARRAY_TASK_ID="3")
    assert done.returncode == 0, done.stderr
    expected = ["python", "-m", "vlfau_jax", verb, "--config=a b.py", "--workdir=w", "--resume"]
    assert told == {"srun": [*expected, flag], "scontrol": []}


@pytest.mark.parametrize(("code", "restarts", "again"), [(75, "0", 1), (75, "20", 0), (1, "0", 0)])
def test_a_job_that_was_stopped_is_queued_again_but_not_for_ever(submit, code, restarts, again):
    done, told = submit("ablate", code=code, SLURM_ARRAY_TASK_ID="3", SLURM_RESTART_COUNT=restarts)
    assert done.returncode == code
    assert told["scontrol"] == ["requeue", "70_3"] * again


def test_other_verbs_and_jobs_that_are_no_array_are_refused(submit):
    assert submit("train", SLURM_ARRAY_TASK_ID="3")[0].returncode == 2
    done, told = submit("ablate")
    assert done.returncode != 0 and "--array" in done.stderr and not told["srun"]


def test_the_study_on_rendered_faces_asks_for_its_size():
    done = subprocess.run(
        ["bash", str(ROOT / "launch" / "study.sh")], capture_output=True, text=True
    )
    assert done.returncode == 2 and "quick|night|when" in done.stderr
