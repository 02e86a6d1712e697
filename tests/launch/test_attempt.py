"""Launchers start a run again only while it makes progress."""

import os
import re
import subprocess

import pytest

from tests.processes import ROOT
from vlfau_jax.buckets import Bucket

ATTEMPT = ["bash", str(ROOT / "launch" / "attempt.sh")]


def shell(argv, cwd=ROOT, **env):
    done = subprocess.run(
        list(map(str, argv)), cwd=cwd, env=os.environ | env, capture_output=True, text=True
    )
    return done.returncode, done.stderr


def attempt(workdir, *command, run="job-1", **env):
    return shell([*ATTEMPT, run, workdir, *(command or ("bash", "-c", "exit 75"))], **env)


def test_it_ends_after_so_many_starts_without_a_new_checkpoint(tmp_path):
    run = tmp_path / "run"
    assert [attempt(run, ATTEMPTS="2")[0] for _ in range(4)] == [75, 75, 1, 1]
    code, err = attempt(run, ATTEMPTS="2")
    assert code == 1 and err.count("\n") == 1
    assert "2 starts in a row made no progress (newest checkpoint: none)" in err
    (run / "checkpoints" / "0").mkdir(parents=True)
    assert [attempt(run, ATTEMPTS="2")[0] for _ in range(3)] == [75, 75, 1]
    for number in (3, 20, 100):
        (run / "checkpoints" / str(number)).mkdir()
        assert attempt(run, ATTEMPTS="1")[0] == 75
        assert attempt(run, ATTEMPTS="1")[0] == 1


def test_a_start_counts_even_where_it_is_killed_outright(tmp_path):
    kill = ("bash", "-c", "kill -9 $$")
    assert [attempt(tmp_path, *kill, ATTEMPTS="2")[0] for _ in range(3)] == [-9, -9, 1]


def test_another_job_counts_anew_and_processes_count_for_themselves(tmp_path):
    assert [attempt(tmp_path, ATTEMPTS="1")[0] for _ in range(2)] == [75, 1]
    assert attempt(tmp_path, run="job-2", ATTEMPTS="1")[0] == 75


def test_of_a_folder_in_a_bucket_the_local_copies_count(tmp_path):
    url = "s3://faces/runs/a b"
    copy = Bucket("--workdir", url, None, "faces/runs/a b")
    env = {"XDG_CACHE_HOME": str(tmp_path), "ATTEMPTS": "1"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path))
        local = copy.local
    codes = []
    for folder in (local, local.with_name(f"{local.name}.copy.x")):
        codes += [attempt(f"{url}/", **env)[0] for _ in range(2)]
        (folder / "checkpoints" / str(7 + len(codes))).mkdir(parents=True)
    assert codes == [75, 1, 75, 1] and attempt(url, **env)[0] == 75
    assert not (ROOT / "s3:").exists()


@pytest.mark.parametrize("name", ["7.orbax-checkpoint-tmp", "notes", "007", "9" * 40, "-1", "a b"])
def test_what_is_no_finished_checkpoint_is_no_progress(tmp_path, name):
    assert attempt(tmp_path, ATTEMPTS="1")[0] == 75
    (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert attempt(tmp_path, ATTEMPTS="1")[0] == 1


@pytest.mark.parametrize("content", ["", "\0", "none", "none x", "none 99999999999999999999", "[["])
def test_a_damaged_count_begins_anew(tmp_path, content):
    attempt(tmp_path)
    (file,) = tmp_path.glob(".attempts-*")
    file.write_text(content)
    assert attempt(tmp_path, ATTEMPTS="1")[0] == 75


def test_nothing_is_written_through_a_link(tmp_path):
    run, precious = tmp_path / "run", tmp_path / "precious"
    attempt(run)
    (file,) = run.glob(".attempts-*")
    precious.write_text("words")
    file.unlink()
    file.symlink_to(precious)
    assert attempt(run)[0] == 75
    assert precious.read_text() == "words" and not file.is_symlink()
    assert [path.name for path in run.iterdir()] == [file.name]


def test_the_command_gets_its_arguments_and_replaces_the_shell(tmp_path):
    out = tmp_path / "out"
    code = f'echo "$$ $PPID $1" >"{out}"; exit 3'
    assert attempt(tmp_path / "run", "bash", "-c", code, "_", "a b")[0] == 3
    assert out.read_text().split()[1:] == [str(os.getpid()), "a", "b"]


@pytest.mark.parametrize("most", ["0", "-1", "x", "1.5", " "])
def test_limits_that_cannot_be(tmp_path, most):
    code, err = attempt(tmp_path, ATTEMPTS=most)
    assert code == 2 and "give a number of 1 or more" in err


def fake(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def checkout(tmp_path):
    """A checkout in a home of its own, whose Python ends as CODE says."""
    home = tmp_path / "home"
    fake(tmp_path / "bin", "python", 'echo start >>"$STARTS"; exit "$CODE"')
    (home / "vlfau_jax" / ".venv" / "bin").mkdir(parents=True)
    (home / "vlfau_jax" / "launch").symlink_to(ROOT / "launch")
    (home / "vlfau_jax" / ".venv" / "bin" / "activate").touch()
    (home / "vlfau_jax" / ".venv" / "bin" / "python").symlink_to(tmp_path / "bin" / "python")
    env = {"HOME": str(home), "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    env |= {"STARTS": str(tmp_path / "starts"), "ATTEMPTS": "3"}
    return home / "vlfau_jax", env


def starts(env):
    with open(env["STARTS"]) as file:
        return len(file.readlines())


@pytest.mark.parametrize(
    ("code", "ends", "count"), [(75, 1, 3), (137, 1, 3), (0, 0, 1), (1, 1, 1), (2, 2, 1)]
)
def test_a_tpu_slice_is_not_started_for_ever(checkout, tmp_path, code, ends, count):
    folder, env = checkout
    gcloud = (
        'for last; do :; done; case "$*" in *describe*) echo READY ;; *setup.sh*) ;; '
        '*" ssh "*) exec bash -c "${last#--command=}" ;; esac'
    )
    fake(tmp_path / "bin", "gcloud", gcloud)
    fake(tmp_path / "bin", "git", "")  # packs what the slice has already
    argv = ["bash", "launch/tpu_pod.sh", "name", "zone", "configs/x.py", tmp_path / "a run"]
    assert shell(argv, folder, CODE=str(code), **env)[0] == ends
    assert starts(env) == count


@pytest.mark.parametrize(
    ("code", "ends", "count"), [(75, 1, 3), (137, 1, 3), (0, 0, 1), (1, 1, 1), (2, 2, 1)]
)
def test_a_slurm_job_is_not_queued_for_ever(checkout, tmp_path, code, ends, count):
    folder, env = checkout
    fake(tmp_path / "bin", "srun", 'while [[ $1 == --* ]]; do shift; done; exec "$@"')
    fake(tmp_path / "bin", "scontrol", 'echo requeue >"$STARTS.queue"')
    env |= {"SLURM_SUBMIT_DIR": str(folder), "SLURM_JOB_ID": "7", "CODE": str(code)}
    queue = tmp_path / "starts.queue"
    while True:
        queue.unlink(missing_ok=True)
        found, _ = shell(["bash", "launch/slurm.sh", "x.py", tmp_path / "a run"], folder, **env)
        if not queue.exists():
            break
    assert (found, starts(env)) == (ends, count)


def test_kubernetes_counts_as_well():
    text = (ROOT / "launch" / "kubernetes.yaml").read_text()
    command = re.search(r"command:\n((?: +- .*\n)+)", text)[1]
    words = [line.strip().removeprefix("- ").partition(" #")[0] for line in command.splitlines()]
    assert words[:2] == ["bash", "launch/attempt.sh"]
    assert f"--workdir={words[3]}" in text
    assert re.findall(r"values: \[(.*)\]", text) == ["75, 137", "0, 75, 137"]
