"""launch/slurm.sh: processes a node or a GPU, and containers, by what srun is given."""

import os
import subprocess

import pytest

from tests.processes import ROOT


@pytest.fixture
def submit(tmp_path):
    """Runs the script as Slurm would; gives what srun got, and the GPUs that JAX was told."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").write_text("export ENTERED=yes\n")
    (tmp_path / "launch").symlink_to(ROOT / "launch")
    (tmp_path / "bin").mkdir()
    srun = tmp_path / "bin/srun"
    srun.write_text(
        "#!/bin/sh\n"
        'exec >"$SLURM_SUBMIT_DIR/got"\n'
        'printf "%s\\n" "${JAX_LOCAL_DEVICE_IDS-none}" "${ENTERED-no}" "$@"\n'
    )
    srun.chmod(0o755)

    def run(script="slurm.sh", argv=("c.py", "w"), **env):
        done = subprocess.run(
            ["bash", str(ROOT / "launch" / script), *argv],
            env={
                "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
                "SLURM_SUBMIT_DIR": str(tmp_path),
                "SLURM_JOB_ID": "7",
            }
            | env,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        gpus, entered, *words = (tmp_path / "got").read_text().splitlines()
        return gpus, entered, words

    return run


def test_one_process_of_a_node_has_all_its_gpus(submit):
    assert submit(SLURM_GPUS_ON_NODE="4")[0] == "0,1,2,3"
    assert submit(SLURM_GPUS_ON_NODE="4", SLURM_NTASKS_PER_NODE="1")[0] == "0,1,2,3"


def test_a_process_for_each_gpu_is_left_to_jax(submit):
    assert submit(SLURM_GPUS_ON_NODE="4", SLURM_NTASKS_PER_NODE="4")[0] == "none"


def test_without_a_container_it_enters_the_environment(submit):
    _, entered, words = submit()
    assert entered == "yes" and words[2] == "python"


@pytest.mark.parametrize(
    ("script", "argv", "more"),
    [("slurm.sh", ("c.py", "w"), {}),
     ("slurm_study.sh", ("crossval", "--workdir=w"), {"SLURM_ARRAY_TASK_ID": "2"})],
)  # fmt: skip
def test_a_container_has_the_checkout_and_no_environment_of_ours(
    submit, tmp_path, script, argv, more
):
    _, entered, words = submit(script, argv, CONTAINER="reg#vlfau:cuda", **more)
    assert entered == "no"
    python = words.index("python")
    assert words[python - 3 : python] == [
        "--container-image=reg#vlfau:cuda",
        f"--container-mounts={tmp_path}:{tmp_path}",
        f"--container-workdir={tmp_path}",
    ]
    _, _, words = submit(script, argv, CONTAINER="i", MOUNTS="/a:/a,/b:/b", **more)
    assert "--container-mounts=/a:/a,/b:/b" in words
