"""launch/tpu_pod.sh with a gcloud that writes down what it is asked, and answers as told."""

import os
import subprocess

import pytest

from tests.processes import ROOT

GCLOUD = """#!/usr/bin/env bash
# Each call takes the first line of $FOLDER/KIND for its answer: an exit code and what it prints.
case "$*" in
    *" queued-resources describe "*) kind=queue ;;
    *" describe "*) kind=describe ;;
    *" ssh "*"cat ~/vlfau_jax/run.code"*) kind=code ;;
    *" ssh "*tail*) kind=follow ;;
    *" ssh "*attempt.sh*) kind=start ;;
    *" ssh "*gcsfuse*) kind=mount ;;
    *" ssh "*) kind=install ;;
    *" scp "*) kind=copy ;;
    *" create "*) kind=create ;;
    *" delete "*) kind=delete ;;
esac
{ printf '%s' "$kind"; printf '\\t%s' "$@"; printf '\\n'; } >>"$FOLDER/calls"
if [ -s "$FOLDER/$kind" ]; then
    read -r code text <"$FOLDER/$kind"
    sed -i 1d "$FOLDER/$kind"
    if [ "$code" -ne 0 ]; then echo "$text" >&2; else echo "$text"; fi
    exit "$code"
fi
if [ "$kind" = code ]; then echo 0; fi
if [ "$kind" = describe ]; then echo "ERROR: (gcloud) NOT_FOUND: no such node" >&2; exit 1; fi
"""


@pytest.fixture
def tpu(tmp_path):
    """Runs the script; gives the exit code, stderr and the calls as (kind, arguments)."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "gcloud"
    command.write_text(GCLOUD)
    command.chmod(0o755)

    def run(*argv, path=None, **answers):
        for kind, lines in answers.items():
            (tmp_path / kind).write_text("".join(f"{line}\n" for line in lines))
        (tmp_path / "calls").unlink(missing_ok=True)
        done = subprocess.run(
            ["bash", str(ROOT / "launch/tpu_pod.sh"), *argv],
            env={
                "PATH": path or f"{tmp_path}/bin:{os.environ['PATH']}",
                "FOLDER": str(tmp_path),
                "POLL": "0",
            },
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        calls = tmp_path / "calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        return done.returncode, done.stderr, [tuple(line.split("\t", 1)) for line in lines]

    return run


TASK = ("pod", "us-west4-a", "configs/demo.py", "/shared/run")
NEW = ["describe", "create", "copy", "install", "start", "follow", "code"]


def kinds(calls):
    return [kind for kind, _ in calls]


def test_a_missing_slice_is_made_and_all_of_it_trains(tpu):
    code, err, calls = tpu("--spot", "--type=v5e-8", *TASK, "--config.seed=1 2")
    assert code == 0, err
    assert kinds(calls) == NEW
    said = dict(calls)
    assert "--accelerator-type=v5e-8" in said["create"] and "--spot" in said["create"]
    assert "jax[tpu]==" in said["install"] and "source launch/setup.sh" in said["install"]
    assert "--worker=all" in said["start"] and "--worker=all" in said["copy"]
    assert "launch/attempt.sh" in said["start"] and r"--config.seed=1\ 2" in said["start"]


def test_a_slice_that_is_ready_is_used_again_and_deleted_only_if_asked(tpu):
    assert kinds(tpu(*TASK, describe=["0 READY"])[2]) == [k for k in NEW if k != "create"]
    code, _, calls = tpu("--delete", *TASK, describe=["0 READY"] * 2, code=["0 1"])
    assert code == 1 and kinds(calls)[-1] == "delete"


def test_a_run_that_was_stopped_is_started_again(tpu):
    code, _, calls = tpu(*TASK, describe=["0 READY", "0 READY", "0 READY"], code=["0 75", "0 137"])
    assert code == 0
    assert kinds(calls).count("start") == 3 and kinds(calls).count("copy") == 1


def test_a_slice_that_was_taken_away_is_made_anew_and_prepared(tpu):
    code, err, calls = tpu(
        "--spot", *TASK, describe=["0 READY", "0 PREEMPTED"], follow=["255 gone"], code=["255 gone"]
    )
    assert code == 0, err
    assert kinds(calls) == [
        *("describe", "copy", "install", "start", "follow", "code"),
        *("describe", "delete", "create", "copy", "install", "start", "follow", "code"),
    ]


def test_a_connection_that_breaks_is_taken_up_again_but_not_for_ever(tpu):
    ready = ["0 READY"] * 7
    code, _, calls = tpu(*TASK, describe=ready, follow=["255 broken"], code=["1 none yet"])
    assert code == 0
    assert kinds(calls).count("follow") == 2 and kinds(calls).count("copy") == 1
    code, err, calls = tpu(*TASK, describe=ready, code=["1 none yet"] * 6)
    assert code == 1 and "does not tell how its run goes" in err


def test_a_queued_resource_that_is_refused_is_waited_for_no_longer(tpu):
    code, err, calls = tpu("--queued", *TASK, queue=["0 WAITING_FOR_RESOURCES", "0 FAILED"])
    assert code == 2 and "is not to be had; see: gcloud" in err
    assert kinds(calls).count("queue") == 2 and "copy" not in kinds(calls)


def test_a_failure_of_the_run_ends_it(tpu):
    code, _, calls = tpu(*TASK, describe=["0 READY", "0 READY"], code=["0 2"])
    assert code == 2 and kinds(calls).count("start") == 1


def test_a_queued_resource_is_waited_for(tpu):
    missing = "1 ERROR: NOT_FOUND"
    code, err, calls = tpu("--queued", *TASK, describe=[missing, missing, "0 CREATING", "0 READY"])
    assert code == 0, err
    asked = ["describe", "queue"]
    assert kinds(calls)[:8] == ["describe", "create", *asked, *asked, *asked]
    assert "queued-resources\tcreate" in dict(calls)["create"]


def test_a_bucket_is_mounted_on_all_hosts(tpu):
    calls = tpu("--mount=faces", *TASK)[2]
    assert kinds(calls)[3:5] == ["install", "mount"]
    assert "--worker=all" in dict(calls)["mount"]


def test_a_study_is_a_task(tpu):
    code, err, calls = tpu("pod", "z", "ablate", "--config=c.py", "--workdir=/s/a", "--cell=3")
    assert code == 0, err
    assert "vlfau_jax ablate --config=c.py --workdir=/s/a --cell=3 --resume" in dict(calls)["start"]


def test_dry_run_prints_every_command_and_runs_none(tpu):
    code, err, calls = tpu("--dry_run", "--delete", "--mount=faces", *TASK, path="/usr/bin:/bin")
    assert (code, calls) == (0, [])
    printed = [line for line in err.splitlines() if line.startswith("+ ")]
    for kind in ("describe", "create", "scp", "gcsfuse", "attempt.sh", "tail", "delete"):
        assert any(kind in line for line in printed), kind


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("1 ERROR: Permission denied on locations/nowhere (or it may not exist)", "nowhere"),
        ("1 ERROR: There was a problem refreshing your current auth tokens", "gcloud auth login"),
    ],
)
def test_what_gcloud_refuses_is_one_line(tpu, answer, said):
    code, err, calls = tpu(*TASK, describe=[answer])
    assert code == 2 and kinds(calls) == ["describe"]
    assert err.count("\n") == 1 and said in err and "locations list" in err


def test_without_gcloud_the_line_names_it(tpu, tmp_path):
    (tmp_path / "none").mkdir()
    for name in ("bash", "dirname", "sed"):
        (tmp_path / "none" / name).symlink_to(f"/usr/bin/{name}")
    code, err, _ = tpu(*TASK, path=str(tmp_path / "none"))
    assert code == 2 and err.startswith("error: gcloud is missing;") and err.count("\n") == 1


def test_other_options_are_refused(tpu):
    code, err, calls = tpu("--dryrun", *TASK)
    assert (code, calls) == (2, []) and "--dryrun" in err


def test_the_remote_commands_are_shell_that_runs(tpu, tmp_path):
    """The start and follow commands themselves, in a home that has a python of ours."""
    said = dict(tpu("pod", "z", "c'o d.py", f"{tmp_path}/run")[2])
    home = tmp_path / "home"
    (home / "vlfau_jax/.venv/bin").mkdir(parents=True)
    (home / "vlfau_jax/launch").symlink_to(ROOT / "launch")
    python = home / "vlfau_jax/.venv/bin/python"
    python.write_text('#!/bin/bash\nprintf "[%s]" "$@"; echo; exit 75\n')
    python.chmod(0o755)
    codes, printed = [], []
    for kind in ("start", "follow", "code"):
        (command,) = [part for part in said[kind].split("\t") if part.startswith("--command=")]
        done = subprocess.run(
            ["bash", "-c", command.removeprefix("--command=")],
            env=os.environ | {"HOME": str(home)},
            capture_output=True,
            text=True,
        )
        codes.append(done.returncode)
        printed.append(done.stdout)
    assert codes == [0, 0, 0], done.stderr
    assert "[train][--config=c'o d.py]" in printed[1] and printed[2] == "75\n"
