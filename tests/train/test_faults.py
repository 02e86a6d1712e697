"""Disks that are full, read-only or in the way: one line, the last good step, nothing lost."""

import errno
import json
import os
import resource
import shutil
import subprocess
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import jax.numpy as jnp
import pytest

from tests.processes import wait_until
from vlfau_jax.errors import DataError, RunError, UserError
from vlfau_jax.train import loop
from vlfau_jax.train.checkpoint import Checkpoints, translate_errors
from vlfau_jax.train.loop import train
from vlfau_jax.train.manifest import what_is_left
from vlfau_jax.train.state import TrainState
from vlfau_jax.train.writer import MetricWriter

pytestmark = pytest.mark.slow


def mount(*arguments):
    """Mounts, or skips the test: it needs root."""
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"NOT TESTED, this machine may not mount: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path):
    """A file system of 4 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", place)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def fill(disk, leaving):
    """Takes all of a disk's room but some bytes."""
    there = os.statvfs(disk)
    with (disk / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, there.f_bavail * there.f_frsize - leaving)


def at(step, workdir, action):
    """An evaluator that acts once after a step, when the checkpoint before it is finished."""
    steps = iter(range(1, 100))

    def score(experiment, params):
        if next(steps) == step:
            saved = workdir / "checkpoints" / str(step - 1)
            wait_until(saved.is_dir, f"{saved} was never finished")
            action()
        return {"mean_f1": 0.5}

    return score


def scored(settings):
    return replace(settings, data=replace(settings.data, fold=1))


def one_line(error, capfd):
    assert "\n" not in str(error.value)
    err = capfd.readouterr().err
    assert "Traceback" not in err and "Error" not in err, err


def logged_steps(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def test_a_full_disk_ends_the_run_and_room_lets_it_go_on(tiny, disk, tmp_path, capfd):
    whole = train(scored(tiny(steps=6)), tmp_path / "whole")
    settings, run = scored(tiny(steps=6, checkpoint_every=2, eval_every=1)), disk / "run"
    capfd.readouterr()
    message = (
        r"run/checkpoints/4 cannot be written \(.*No space left on device.*\); "
        r"the last good checkpoint is of step 2: once that is mended, go on with --resume$"
    )
    with pytest.raises(RunError, match=message) as error:
        train(settings, run, evaluator=at(3, run, lambda: fill(disk, leaving=64_000)))
    one_line(error, capfd)
    (disk / "filler").unlink()
    settings = scored(tiny(steps=6, checkpoint_every=2))
    assert train(settings, run, resume=True)["params_digest"] == whole["params_digest"]
    assert logged_steps(run) == [1, 2, 3, 4, 5, 6]
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["4", "6"]


@pytest.mark.parametrize("name", ["metrics.jsonl", "tensorboard"])
def test_no_room_for_metrics(disk, tmp_path, name, capfd):
    roomy = tmp_path / "roomy"
    roomy.mkdir()
    workdir, events = (disk, roomy) if name == "metrics.jsonl" else (roomy, disk)
    (events / "events").mkdir()
    (workdir / "tensorboard").symlink_to(events / "events")
    message = rf"/{name}: No space left on device; there is no good checkpoint to go on from$"
    with (
        pytest.raises(RunError, match=message) as error,
        translate_errors(workdir),
        MetricWriter(workdir, 0) as writer,
    ):
        fill(disk, leaving=0)
        for step in range(1, 1000):
            writer.write(step, {"total": 1.0})
    one_line(error, capfd)


def test_an_error_in_the_background_is_raised_without_another_save(disk, capfd):
    state = TrainState(jnp.int32(1), {"w": jnp.zeros((64, 1024))}, ())
    with Checkpoints(disk, keep=1) as checkpoints:
        fill(disk, leaving=64_000)
        checkpoints.save(1, state, {})
        message = (
            r"checkpoints/1 cannot be written \(.*No space left.*; there is no good checkpoint"
        )
        with pytest.raises(RunError, match=message) as error:
            while True:
                checkpoints.check()
    one_line(error, capfd)


def test_a_second_error_does_not_hide_what_ended_the_run(disk, capfd):
    state = TrainState(jnp.int32(1), {"w": jnp.zeros((64, 1024))}, ())
    with pytest.raises(RunError, match=r"^first$"), Checkpoints(disk, keep=1) as checkpoints:
        fill(disk, leaving=64_000)
        checkpoints.save(1, state, {})
        raise RunError("first")
    err = capfd.readouterr().err
    assert err.startswith("warning: ") and "No space left" in err and err.count("\n") == 1


def test_a_folder_that_becomes_read_only(silent, tmp_path, capfd):
    settings, run = scored(silent(steps=6, checkpoint_every=2, eval_every=1)), tmp_path / "run"
    place = run / "checkpoints"

    def lock():
        mount("--bind", place, place)
        mount("-o", "remount,bind,ro", place)

    try:
        message = r"checkpoints/4 cannot be written \(.*Read-only.*last good .* step 2: .*--resume$"
        with pytest.raises(RunError, match=message) as error:
            train(settings, run, evaluator=at(3, run, lock))
        one_line(error, capfd)
        with pytest.raises(UserError, match=r"checkpoints may not be written to; .* step 2: once"):
            train(settings, run, resume=True, evaluator=lambda *_: {})
    finally:  # ismount() knows no bind mounts
        subprocess.run(["umount", "--lazy", place], stderr=subprocess.DEVNULL)


def test_a_read_only_workdir(silent, disk):
    run = disk / "run"
    train(silent(steps=1), run)
    mount("-o", "remount,ro", disk)
    with pytest.raises((UserError, RunError), match=r"last good checkpoint is of step 1: once"):
        train(silent(steps=2), run, resume=True)
    with pytest.raises(UserError, match=r"disk/new.*Read-only file system; there is no good"):
        train(silent(steps=2), disk / "new")


@contextmanager
def limited(kind, soft):
    """Lowers a limit of this process; Python ignores SIGXFSZ, so that a write fails with EFBIG."""
    before, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (before, hard))


@pytest.mark.parametrize(
    ("kind", "soft", "reason"),
    [
        (resource.RLIMIT_FSIZE, 2000, "File too large"),
        (resource.RLIMIT_NOFILE, 3, "Too many open files"),
    ],
)
def test_a_limit_of_the_process_ends_the_run(silent, tmp_path, capfd, kind, soft, reason):
    whole = train(scored(silent(steps=6)), tmp_path / "whole")
    run, limits = tmp_path / "run", ExitStack()
    settings = scored(silent(steps=6, checkpoint_every=2, eval_every=1))
    capfd.readouterr()
    lower = at(3, run, lambda: limits.enter_context(limited(kind, soft)))
    with limits, pytest.raises(RunError, match=rf"{reason}.*(of step 2|unchecked)") as error:
        train(settings, run, evaluator=lower)
    one_line(error, capfd)
    # Threads of this process may still write what the run has abandoned.
    left = shutil.copytree(run, tmp_path / "left", ignore=shutil.ignore_patterns("*-tmp*"))
    settings = scored(silent(steps=6, checkpoint_every=2))
    assert train(settings, left, resume=True)["params_digest"] == whole["params_digest"]


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT", "EFBIG", "EMFILE", "EIO", "EROFS"])
def test_whatever_the_system_refuses_in_a_run_is_a_failure_that_says_what_is_left(tmp_path, number):
    code = getattr(errno, number)
    message = rf"metrics\.jsonl: {os.strerror(code)}; there is no good checkpoint to go on from$"
    with pytest.raises(RunError, match=message), translate_errors(tmp_path):
        raise OSError(code, os.strerror(code), str(tmp_path / "metrics.jsonl"))


def test_what_is_left_is_never_said_to_be_nothing_where_it_cannot_be_told(tmp_path, monkeypatch):
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, TrainState(jnp.int32(1), {"w": jnp.zeros(4)}, ()), {})
    place = tmp_path / "checkpoints"
    assert "is of step 1" in what_is_left(place)
    with limited(resource.RLIMIT_NOFILE, 3):
        told = what_is_left(place)
    assert told == f"its checkpoints are in {place}, unchecked (Too many open files)"


def test_what_is_in_the_way(silent, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / ".final.json.partial").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"\.final\.json\.partial is in the way \(.*; remove it"):
        train(silent(steps=2), run)
    (run / ".final.json.partial").unlink()
    (run / "checkpoints").rename(tmp_path / "away")
    (run / "checkpoints").write_text("")
    with pytest.raises(UserError, match=r"checkpoints is not a folder; there is no good"):
        train(silent(steps=2), run, resume=True)


def test_a_run_that_replaces_another_and_fails_at_once_loses_nothing(silent, tmp_path, monkeypatch):
    run = tmp_path / "run"
    train(silent(steps=2), run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    def fail(_):
        raise RuntimeError("no memory on the device")

    monkeypatch.setattr(loop._Run, "compile", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        train(silent(steps=3), run, overwrite=True)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    monkeypatch.undo()


def test_data_that_fail_end_with_a_line_on_what_is_left(tmp_path):
    message = r"^a picture is damaged; .*no .*checkpoint"
    with pytest.raises(RunError, match=message) as error, translate_errors(tmp_path):
        raise DataError("a picture is damaged")
    assert not isinstance(error.value, DataError)
