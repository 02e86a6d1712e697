"""Kills a training run with SIGKILL at random moments, resumes it, and compares it bit for bit.

    python -m tests.kill_train --kills=20 --seed=0 [--mesh=2,2,2] [--workers=0] [--bucket=s3|gs]

Every life of the run is a process of the real command line; the moments are drawn from its
start-up, its steps and its saves. Exit code 0 where the killed run ended as an uninterrupted one:
the same parameters, optimizer state and metrics, each step once; where no kill lost more steps than
were taken since the last save; and where no process was left behind. With --bucket, the workdir is
in a bucket of an emulator, and every second kill takes the machine's copy of it, too.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.object_stores import emulated
from tests.processes import ROOT, TIMEOUT, Process
from vlfau_jax.buckets import open_bucket
from vlfau_jax.train.bucket_workdir import local_workdir

EVERY = 24  # steps between checkpoints: a save must not outlast them, or every kill falls in one
# Of the tiny experiment: data that draws at random, and an average of the parameters. Captioners
# would take half of the time of every start.
CONFIG = {
    "data.fold": 0,
    "data.aus": (1, 2, 4, 12),
    "data.jitter": 0.3,
    "data.erasing": 0.3,
    "optimizer.ema_decay": 0.9,
    "train.checkpoint_every": EVERY,
    "model.local_captions": False,
    "model.global_captions": False,
}


@dataclass(frozen=True)
class Kill:
    """One SIGKILL.

    Attributes:
        where: "start-up" (no step of this life was told yet), "step" or "save" (one was under way).
        done: the newest step told.
        saved: the newest finished checkpoint, 0 for none.
    """

    where: str
    done: int
    saved: int

    @property
    def lost(self) -> int:
        """Steps that must be taken again."""
        return 0 if self.where == "start-up" else self.done - self.saved

    @property
    def allowed(self) -> int:
        """Steps since the last save; while one is being written, training goes on to the next."""
        return EVERY if self.where != "save" else 2 * EVERY


class Run:
    """A workdir and the processes that train in it, one after the other."""

    def __init__(
        self, workdir: Path, config: Sequence[str], devices: int, logs: Path, bucket: str = ""
    ) -> None:
        """`bucket` is the URL of which `workdir` is the copy, if any."""
        self.workdir, self._config, self._devices = workdir, config, devices
        self.metrics = workdir / "metrics.jsonl"
        self.bucket, self._logs = bucket, logs

    def start(self) -> Process:
        """A process that trains, to be used as a context: it ends there with all its workers."""
        place = self.bucket or self.workdir
        argv = ["train", f"--config={ROOT}/tests/tiny.py", f"--workdir={place}", "--resume"]
        return Process([*argv, *self._config], self._devices, self._logs)

    def lose_machine(self) -> None:
        """What is not in the bucket is gone."""
        shutil.rmtree(self.workdir, ignore_errors=True)

    def fetched(self) -> Run:
        """The run as another machine would read it from the bucket."""
        with local_workdir(self.bucket, writes=False) as copy:
            kept = shutil.copytree(copy, self._logs.parent / "fetched")
        return Run(kept, self._config, self._devices, self._logs)

    def steps(self) -> list[int]:
        """The steps told so far; the last line may be under way."""
        with suppress(FileNotFoundError):
            lines = self.metrics.read_text().split("\n")[:-1]
            return [json.loads(line)["step"] for line in lines]
        return []

    def done(self) -> int:
        """The newest step told."""
        return max(self.steps(), default=0)

    def saved(self) -> int:
        """The newest finished checkpoint, 0 for none."""
        names = self._checkpoints()
        return max((int(name) for name in names if name.isdecimal()), default=0)

    def drafts(self) -> set[int]:
        """The folders of checkpoints under way, by inode: a name comes again after a kill."""
        names = (name for name in self._checkpoints() if "tmp" in name)
        found = set()
        for name in names:
            with suppress(FileNotFoundError):
                found.add((self.workdir / "checkpoints" / name).stat().st_ino)
        return found

    def file(self) -> int:
        """Which metrics.jsonl this is: a life that begins to train writes its own."""
        with suppress(FileNotFoundError):
            return self.metrics.stat().st_ino
        return 0

    def _checkpoints(self) -> list[str]:
        with suppress(FileNotFoundError):
            return os.listdir(self.workdir / "checkpoints")
        return []


def wait(until: Callable[[], Any], process: Process) -> bool:
    """Whether `until` became true while the process lived."""
    end = time.monotonic() + TIMEOUT
    while process.alive:
        if until():
            return True
        if time.monotonic() > end:
            raise SystemExit(f"a process took more than {TIMEOUT} s")
        time.sleep(0.002)
    return False


def finish(run: Run) -> float:
    """Lets the run reach its end; returns the seconds until its first step was written."""
    before, start = run.file(), time.monotonic()
    with run.start() as process:
        wait(lambda: run.file() != before and run.steps(), process)
        first = time.monotonic() - start
        if code := process.wait():
            raise SystemExit(f"exit code {code}:\n{process.log[-3000:]}")
    return first


def kill(run: Run, rng: random.Random, start_up: float, steps: int) -> tuple[Kill, list[int]]:
    """Starts a process and kills it; returns the kill, and the processes that outlived it."""
    begun, file, old = run.saved(), run.file(), run.drafts()
    target = min(begun + rng.randint(1, 3 * EVERY), steps - EVERY)
    aim = rng.choices(("start-up", "step", "save"), (3, 4, 5))[0]
    with run.start() as process:
        if aim == "start-up":
            moment = time.monotonic() + rng.uniform(0, start_up)
            wait(lambda: time.monotonic() > moment, process)
        else:
            wait(lambda: run.file() != file and run.done() >= target, process)
            wait(lambda: bool(run.drafts() - old) == (aim == "save"), process)
            time.sleep(rng.uniform(0, 0.1))
        process.send(signal.SIGKILL)
        if process.wait() != -signal.SIGKILL:
            raise SystemExit(f"it ended before the kill:\n{process.log[-3000:]}")
        trained = run.file() != file and run.done() > begun
        where = "save" if run.drafts() - old else "step" if trained else "start-up"
        return Kill(where, run.done(), run.saved()), process.left()


def difference(one: Run, other: Run, steps: int) -> str:
    """The first thing in which two finished runs differ; "" for none."""
    import jax
    import numpy as np
    from orbax.checkpoint import v1 as ocp

    final, expected = (json.loads((run.workdir / "final.json").read_text()) for run in (one, other))
    for key in ("step", "params_digest"):
        if final[key] != expected[key]:
            return f"{key} is {final[key]}, not {expected[key]}"
    told, wanted = (
        [json.loads(line) for line in run.metrics.read_text().splitlines()] for run in (one, other)
    )
    if [line["step"] for line in told] != [*range(1, steps + 1)]:
        return f"metrics.jsonl tells steps {[line['step'] for line in told]}"
    for line, right in zip(told, wanted, strict=True):
        keys = line.keys() | right.keys()
        apart = {key for key in keys if line.get(key) != right.get(key)} - {"images_per_second"}
        if apart:
            return f"step {line['step']} has other {', '.join(sorted(apart))}"
    trees, here = [], jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    for run in (one, other):
        folder = run.workdir / "checkpoints" / str(run.saved())
        wanted = {
            name: jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), tree
            )
            for name, tree in ocp.checkpointables_metadata(folder).metadata.items()
        }
        items = ocp.load_checkpointables(folder, wanted)
        leaves = jax.tree_util.tree_leaves_with_path(items)
        trees.append({jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves})
    if trees[0].keys() != trees[1].keys() or not {"params", "optimizer"} <= items.keys():
        return "other arrays in the last checkpoint"
    for path, array in trees[0].items():
        if array.tobytes() != trees[1][path].tobytes():
            return f"{path} differs in the last checkpoint"
    return ""


def test(
    folder: Path,
    kills: int,
    seed: int,
    mesh: tuple[int, int, int] = (1, 1, 1),
    workers: int = 0,
    bucket: str = "",
) -> tuple[list[Kill], list[str]]:
    """Kills and compares; returns the kills and all that went wrong.

    Args:
        folder: an empty one.
        kills: how many.
        seed: of the moments.
        mesh: sizes of the axes data, fsdp and tensor.
        workers: processes that load the data.
        bucket: URL of the killed run's workdir, empty for a folder. After every second kill the
            machine is lost, too, and with it what was not sent to the bucket.
    """
    import numpy as np

    from tests.data.sets import coded, write_set

    people = ("F001", "F003", "M001", "M003")
    write_set(folder / "set", "bp4d", coded(np.random.default_rng(3), "bp4d", people, 6))
    steps = (kills + 6) * EVERY
    values = {
        **CONFIG,
        "data.data_dir": folder / "set",
        "data.workers": workers,
        "train.steps": steps,
        **{f"mesh.{axis}": n for axis, n in zip(("data", "fsdp", "tensor"), mesh, strict=True)},
    }
    config = [f"--config.{key}={value}" for key, value in values.items()]
    logs, devices = folder / "logs", math.prod(mesh)
    whole = Run(folder / "whole", config, devices, logs)
    place = open_bucket("bucket", bucket).local if bucket else folder / "parts"
    parts = Run(place, config, devices, logs, bucket)
    start_up = finish(whole) / 2  # the first fills the cache of compiled programs
    faults, found = [], []
    rng = random.Random(seed)
    for number in range(1, kills + 1):
        start = time.monotonic()
        one, left = kill(parts, rng, start_up, steps)
        found.append(one)
        print(
            f"kill {number}: {one.where}, step {one.done}, last save {one.saved}, "
            f"{one.lost} lost, {time.monotonic() - start:.1f} s",
            flush=True,
        )
        if left:
            faults.append(f"kill {number}: {len(left)} processes outlived it")
        if one.lost > one.allowed:
            faults.append(f"kill {number}: {one.lost} steps lost, {one.allowed} allowed")
        if bucket and number % 2 == 0:
            parts.lose_machine()
    finish(parts)
    if apart := difference(parts.fetched() if bucket else parts, whole, steps):
        faults.append(f"the killed run is not the uninterrupted one: {apart}")
    return found, faults


def summary(kills: list[Kill]) -> str:
    """Where they fell and what they cost, in a line."""
    places = ", ".join(
        f"{n} in a {where}" for where, n in sorted(Counter(k.where for k in kills).items())
    )
    lost = [one.lost for one in kills]
    calm = max((k.lost for k in kills if k.where != "save"), default=0)
    return (
        f"{len(kills)} kills ({places}); steps lost: {sum(lost) / max(len(lost), 1):.1f} on "
        f"average, {max(lost, default=0)} at most, {calm} where no save was under way "
        f"(checkpoint_every={EVERY})"
    )


def main() -> int:
    """Prints every kill, a summary and what went wrong; 0 where nothing did."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mesh", default="1,1,1", help="data,fsdp,tensor on virtual devices")
    parser.add_argument("--workers", type=int, default=1, help="processes that load the data")
    parser.add_argument("--bucket", choices=("s3", "gs"), help="an emulator of this store")
    given = parser.parse_args()
    mesh = tuple(map(int, given.mesh.split(",")))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kill_train_")))
        bucket = ""
        if given.bucket:
            bucket = f"{stack.enter_context(emulated(given.bucket, folder / 'store'))}/killed"
        start = time.monotonic()
        kills, faults = test(folder, given.kills, given.seed, mesh, given.workers, bucket)
        print(f"{summary(kills)}; {time.monotonic() - start:.0f} s")
    print("\n".join(faults) or "the killed run equals the uninterrupted one bit for bit")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
