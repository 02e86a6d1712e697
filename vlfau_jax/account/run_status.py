"""One line on a run, going on or not: step, speed, MFU, last checkpoint, writer, expected end."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from vlfau_jax.account.devices import device_for
from vlfau_jax.account.flops import Task, flops, total
from vlfau_jax.account.roofline import mfu
from vlfau_jax.errors import FileError, UserError
from vlfau_jax.inference.stored_options import read_options
from vlfau_jax.losses.joint import ObjectiveOptions
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.train.manifest import DamagedError, finished_steps, read_record
from vlfau_jax.train.metrics import METRICS_FILE, read_lines
from vlfau_jax.train.optimizer import OptimizerOptions
from vlfau_jax.train.workdir import CHECKPOINTS, FINAL_FILE, LOCK_FILE, read_config


@dataclass(frozen=True)
class RunStatus:
    """How far a run is.

    Attributes:
        step: the newest one in metrics.jsonl, 0 for none.
        steps: how many it is to take.
        images_per_second: over the steps before the newest line; None where none says it.
        mfu: the share of the devices' peak FLOP/s that these images' products are; None where no
            checkpoint names the devices, or no peak of theirs is known.
        devices: as the newest checkpoint says, "8 x NVIDIA H100"; empty without one.
        checkpoint: step of the newest finished checkpoint; None for none.
        saved: when it was finished; None where the folder is a copy.
        writer: who is writing here, "process 12 on HOST"; empty where nobody is.
        finished: whether all steps are taken.
        end: when the last step is expected, at the newest speed; None where nobody trains.
    """

    step: int
    steps: int
    images_per_second: float | None
    mfu: float | None
    devices: str
    checkpoint: int | None
    saved: datetime | None
    writer: str
    finished: bool
    end: datetime | None

    def line(self, now: datetime) -> str:
        """The status as one line."""
        share = f"step {self.step:,} of {self.steps:,} ({self.step / self.steps:.1%})"
        speed = f"{self.images_per_second:,.1f} images/s" if self.images_per_second else "no speed"
        used = f"MFU {self.mfu:.1%} of {self.devices}" if self.mfu is not None else "MFU unknown"
        saved = "no checkpoint"
        if self.checkpoint is not None:
            saved = f"last checkpoint step {self.checkpoint:,}"
            if self.saved is not None:
                saved += f", {_span(now - self.saved)} ago"
        if self.finished:
            who = "finished"
        elif self.writer:
            who = f"written by {self.writer}"
            who += f", ends about {self.end:%Y-%m-%d %H:%M} UTC" if self.end else ""
        else:
            who = "nobody writes it: go on with train --resume"
        return "; ".join((share, speed, used, saved, who))


def run_status(workdir: Path, writer: str | None = None) -> RunStatus:
    """Reads the files of a run; nothing is written or locked for longer than a look takes.

    Args:
        workdir: the run, or a copy of its small files.
        writer: who writes it, where the folder is a copy and cannot say; None to look.

    Raises:
        UserError: it holds no run.
    """
    config = read_config(workdir)
    train = config.get("train", {})
    step, speed = 0, None
    for _, metrics in read_lines(workdir / METRICS_FILE):
        if metrics is not None:
            step = metrics.step
            speed = metrics.model_dump().get("images_per_second") or speed
    saved = finished_steps(workdir / CHECKPOINTS)
    record, folder = {}, workdir / CHECKPOINTS / str(saved[-1] if saved else 0)
    with suppress(DamagedError):
        record = read_record(folder) if saved else {}
    steps, step = int(train.get("steps") or 1), max([step, *saved[-1:]])
    devices = ((record.get("progress") or {}).get("computed_on") or "").split(", ")[0]
    finished = (workdir / FINAL_FILE).exists()
    here = writer is None  # else the files have the time of the copy
    writer = _writer(workdir) if writer is None else writer
    end = None
    if writer and speed and not finished:
        seconds = (steps - step) * int(train.get("batch_size") or 0) / speed
        end = _modified(workdir / METRICS_FILE) + timedelta(seconds=min(seconds, 1e9))
    return RunStatus(
        step=step,
        steps=steps,
        images_per_second=speed,
        mfu=_mfu(record.get("inference") or {}, config, devices, speed),
        devices=devices,
        checkpoint=saved[-1] if saved else None,
        saved=_modified(folder) if saved and here else None,
        writer=writer,
        finished=finished,
        end=end,
    )


def _mfu(
    inference: Mapping[str, Any], config: Mapping[str, Any], devices: str, speed: float | None
) -> float | None:
    counted = re.fullmatch(r"(\d+) x (.+)", devices)
    if not (inference and counted and speed) or counted[2] == "cpu":
        return None
    source = f"{CHECKPOINTS}'s record"
    model = read_options(ModelOptions, inference["model"], source)
    optimizer = read_options(OptimizerOptions, config.get("optimizer", {}), source)
    objective = read_options(ObjectiveOptions, config.get("objective", {}), source)
    task = Task(
        image_size=inference["image_size"],
        au_count=len(inference["aus"]),
        vocabulary=len(inference["vocabulary"]),
        local_tokens=inference["lengths"][0],
        global_tokens=inference["lengths"][1],
        batch=config["train"]["batch_size"],
    )
    try:
        peak = device_for(counted[2]).peak(model.dtype)
    except UserError:  # no peak of it is known
        return None
    work = total(flops(model, task, objective, optimizer.frozen)).training
    return mfu(work * speed, 1.0, peak * int(counted[1]))


def _writer(workdir: Path) -> str:
    """Who holds the run's lock; empty for nobody, or where that cannot be found out."""
    try:
        handle = os.open(workdir / LOCK_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return ""
    except BlockingIOError:
        return os.pread(handle, 200, 0).decode(errors="replace") or "a process"
    except OSError:  # a file system without locks
        return ""
    finally:
        os.close(handle)


def _modified(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _span(time: timedelta) -> str:
    seconds = max(int(time.total_seconds()), 0)
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def inspect_run(workdir: Path, name: str, writer: str | None = None) -> str:
    """The line that `inspect --workdir` prints; `name` is what the user calls the folder.

    Raises:
        UserError: it holds no run.
    """
    try:
        status = run_status(workdir, writer)
    except FileError as error:
        raise UserError(f"--workdir={name}: {error}") from error
    return f"{name}: {status.line(datetime.now(UTC))}"
