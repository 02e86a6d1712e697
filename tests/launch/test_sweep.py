"""launch/sweep.sh: which jobs a study becomes, for each launcher; printed first, then submitted."""

import os
import shlex
import subprocess
import sys

import pytest

from tests.processes import ROOT

CV = ("crossval", "--config=configs/demo.py", "--workdir=/shared/cv", "--folds=1,2,3")
ABLATION = (
    *("ablate", "--config=configs/demo.py", "--workdir=/shared/abl", "--rows=ablation:core"),
    *("--only=full,no_refinement", "--seeds=2"),
)


@pytest.fixture
def sweep(tmp_path):
    """Runs the script with launchers that write down what they get, and a python that lists."""
    (tmp_path / "bin").mkdir()
    for name in ("sbatch", "kubectl", "gcloud", "sky", "python"):
        body = f'printf "%s\\n" "$@" >>{tmp_path}/{name}; exit ${{CODE:-0}}'
        if name == "python":  # six cells; JSON by the real one
            body = (
                f'if [ "$1" = -c ]; then exec {sys.executable} "$@"; fi\n'
                f'case "$*" in *--list) printf "%s\\ta b\\tf\\n" 1 2 3 4 ;; *) {body} ;; esac'
            )
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)

    def run(*argv, **env):
        done = subprocess.run(
            ["bash", str(ROOT / "launch/sweep.sh"), *argv],
            env={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"} | env,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def commands(out):
    return [shlex.split(line) for line in out.splitlines() if line and line[0] != "#"]


def test_it_prints_first_and_runs_nothing(sweep, tmp_path):
    code, out, err = sweep("slurm", *CV, "--", "--gpus=1")
    assert code == 0, err
    array, collect = commands(out)
    expected = ["sbatch", "--array=1,2,3", "--gpus=1", "launch/slurm_study.sh", *CV]
    assert array == expected
    assert collect == ["python", "-m", "vlfau_jax", *CV, "--collect"]
    assert not (tmp_path / "sbatch").exists() and "with --go" in err


def test_with_go_it_submits_what_it_prints(sweep, tmp_path):
    code, out, _ = sweep("--go", "slurm", *ABLATION)
    assert code == 0
    assert (tmp_path / "sbatch").read_text().splitlines() == commands(out)[0][1:]
    assert commands(out)[0][1] == "--array=1,2,3,4"


def test_locally_each_is_a_process_and_a_failure_stops_none(sweep, tmp_path):
    code, out, err = sweep("--go", "local", *CV, CODE="1")
    assert code == 1 and "failed: 3 of 3" in err
    assert [line[-1] for line in commands(out)[:3]] == ["--resume"] * 3
    assert [line[-2] for line in commands(out)[:3]] == ["--fold=1", "--fold=2", "--fold=3"]
    assert (tmp_path / "python").read_text().count("--resume\n") == 3


def test_over_a_key_every_value_is_expanded(sweep):
    over = "--over=data.label_noise=0.0,0.1"
    lines = commands(sweep("slurm", *ABLATION, over)[1])
    assert [line[-1] for line in lines[:2]] == ["--at=0.0", "--at=0.1"]


def test_tpu_and_sky_get_a_machine_for_each(sweep):
    tpu = commands(sweep("tpu", *CV, "--", "us-west4-a", "--spot")[1])
    assert tpu[1] == [
        *("bash", "launch/tpu_pod.sh", "--delete", "--spot", "vlfau-cv-2", "us-west4-a"),
        *CV,
        "--fold=2",
    ]
    sky = commands(sweep("sky", *ABLATION, "--", "--infra=aws")[1])
    assert sky[3][:6] == ["sky", "jobs", "launch", "--yes", "--detach-run", "--name=vlfau-abl-4"]
    task = sky[3][sky[3].index("--env") + 1].removeprefix("TASK=")
    assert shlex.split(task) == [*ABLATION, "--cell=4", "--resume"]


def test_kubernetes_gets_a_valid_indexed_job(sweep):
    validator, yaml = pytest.importorskip("kubernetes_validate"), pytest.importorskip("yaml")
    odd = '--config.data.data_dir=/a "b"&c/d'
    given = [*ABLATION[:2], "--workdir=/shared/My Study__", *ABLATION[3:], odd]
    code, out, err = sweep("kubernetes", *given, "--", "reg/image:cuda", "faces", "queue")
    assert code == 0, err
    text = out.split("with:\n")[1].split("# when they")[0]
    job = yaml.safe_load(text)
    validator.validate(job, "1.33", strict=True)
    assert "STUDY" not in text.split("apiVersion")[1]
    assert job["spec"]["completions"] == 4
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["args"] == [*given, "--resume"]
    assert job["metadata"]["name"] == "vlfau-my-study"
    assert container["image"] == "reg/image:cuda"
    script = container["command"][2]
    assert r"/shared/My\ Study__/.attempts" in script
    assert "numbers=(1 2 3 4)" in script and "--cell=$number" in script
    assert subprocess.run(["bash", "-n", "-c", script]).returncode == 0


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("slurm", "crossval", "--workdir=w"), "give --folds"),
        (("slurm", "ablate", "--config=c"), "give --workdir"),
        (("moon", *CV), "moon: no such launcher"),
        (("slurm", "ablate", "--workdir=s3://b/x"), "--workdir=s3://b/x: give a folder"),
        (("tpu", *CV), "give -- ZONE"),
        (("kubernetes", *CV), "IMAGE CLAIM"),
        (("local", *CV, "--resume"), "leave it out"),
        (("local", *CV, "--fold=1"), "leave it out"),
    ],
)
def test_mistakes_are_one_line(sweep, argv, said):
    code, out, err = sweep(*argv)
    assert (code, out) == (2, "") and said in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("launcher", "options", "program"),
    [
        ("slurm", (), "sbatch"),
        ("kubernetes", ("--", "i", "c"), "kubectl"),
        ("tpu", ("--", "z"), "gcloud"),
        ("sky", (), "sky"),
    ],
)
def test_a_missing_launcher_is_named(sweep, tmp_path, launcher, options, program):
    (tmp_path / "bin" / program).unlink()
    (tmp_path / "few").mkdir()
    for name in ("bash", "dirname", "basename", "tr", "sed", "cut", "paste", "wc"):
        (tmp_path / "few" / name).symlink_to(f"/usr/bin/{name}")
    code, _, err = sweep("--go", launcher, *CV, *options, PATH=f"{tmp_path}/bin:{tmp_path}/few")
    assert code == 2 and err.startswith(f"error: {program} is missing;") and err.count("\n") == 1
