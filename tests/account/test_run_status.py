"""The line on a run: what it says of one that is finished, going on, or neither."""

import fcntl
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.object_stores import emulated, need
from vlfau_jax.account import run_status as module
from vlfau_jax.account.devices import device_for
from vlfau_jax.account.run_status import inspect_run, run_status
from vlfau_jax.cli.main import main
from vlfau_jax.train.bucket_workdir import local_workdir


def run_folder(folder, *steps, total=40, **files):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(
        json.dumps({"seed": 0, "data": {}, "model": {}, "train": {"steps": total, "batch_size": 8}})
    )
    lines = ({"step": step, "images_per_second": 4.0} for step in steps)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content)
    return folder


def test_a_run_that_was_stopped(tmp_path):
    folder = run_folder(tmp_path / "run", 1, 10)
    assert inspect_run(folder, "runs/a") == (
        "runs/a: step 10 of 40 (25.0%); 4.0 images/s; MFU unknown; no checkpoint; nobody writes "
        "it: go on with train --resume"
    )


def test_a_run_that_goes_on_says_who_writes_it_and_when_it_ends(tmp_path):
    folder = run_folder(tmp_path / "run", 10, run_lock="process 7 on here")
    with (folder / "run.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status = run_status(folder)
    assert status.writer == "process 7 on here"
    written = datetime.fromtimestamp((folder / "metrics.jsonl").stat().st_mtime, UTC)
    assert status.end == written + timedelta(seconds=30 * 8 / 4)
    assert "written by process 7 on here, ends about 2" in status.line(datetime.now(UTC))
    assert run_status(folder).writer == ""  # the file stays behind and means nothing


def test_no_speed_is_no_end(tmp_path):
    folder = run_folder(tmp_path / "run")
    status = run_status(folder, "process 1 on x")
    assert (status.step, status.images_per_second, status.end) == (0, None, None)


def test_a_run_with_a_checkpoint(workdir):
    line = inspect_run(workdir, "w")
    assert re.fullmatch(
        r"w: step 7 of 1,000 \(0.7%\); no speed; MFU unknown; last checkpoint step 7, "
        r"\d+ (s|min|h|d) ago; nobody writes it: go on with train --resume",
        line,
    )


def test_a_finished_run(tmp_path):
    folder = run_folder(tmp_path / "run", 40, final_json="{}")
    status = run_status(folder, "process 1 on x")  # about to give its lock back
    assert status.end is None
    assert inspect_run(folder, "w").endswith(
        "step 40 of 40 (100.0%); 4.0 images/s; MFU unknown; no checkpoint; finished"
    )


def test_mfu_is_of_all_devices_of_the_checkpoint(workdir, monkeypatch):
    config = json.loads((workdir / "config.json").read_text())
    step = max(int(path.name) for path in (workdir / "checkpoints").iterdir())
    record = json.loads((workdir / f"checkpoints/{step}/manifest.json").read_text())["body"]
    inference = record["record"]["inference"]
    one = module._mfu(inference, config, "1 x NVIDIA H100 80GB HBM3", 1000.0)
    eight = module._mfu(inference, config, "8 x NVIDIA H100 80GB HBM3", 1000.0)
    assert one == pytest.approx(8 * eight) and 0 < one < 1
    peak = device_for("NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(module, "device_for", lambda _: replace(peak, peaks=halved(peak.peaks)))
    assert module._mfu(inference, config, "1 x NVIDIA H100 80GB HBM3", 1000.0) == 2 * one
    monkeypatch.undo()
    assert module._mfu(inference, config, "1 x an abacus", 1000.0) is None
    assert module._mfu(inference, config, "1 x cpu", 1000.0) is None


def halved(peaks):
    return {name: peak / 2 for name, peak in peaks.items()}


def test_from_the_command_line(tmp_path, capsys):
    folder = run_folder(tmp_path / "run", 10, final_json="{}")
    assert main(["inspect", f"--workdir={folder}"]) == 0
    assert capsys.readouterr().out.startswith(f"{folder}: step 10 of 40 (25.0%)")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "--data must be given"),
        (("--workdir=w", "--data"), "--workdir alone"),
        (("--workdir=nowhere",), "config.json is missing"),
    ],
)
def test_mistakes_are_one_line(flags, said, capsys):
    assert main(["inspect", *flags]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_of_a_bucket_no_array_is_copied(tmp_path, capsys):
    need("s3")
    with emulated("s3", tmp_path / "store") as url, local_workdir(url, writes=True) as folder:
        run = run_folder(tmp_path / "run", 10)
        for path in run.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        (folder / "checkpoints/8/params").mkdir(parents=True)
        (folder / "checkpoints/8/params/d").write_text("arrays")
        (folder / "checkpoints/8/manifest.json").write_text("{}")
        line = ""
        while "last checkpoint step 8;" not in line:
            main(["inspect", f"--workdir={url}"])
            line = capsys.readouterr().out
    assert line.startswith(f"{url}: step 10 of 40")
    assert "written by process" in line
    assert not folder.with_name("runs.read").joinpath("checkpoints/8/params").exists()
