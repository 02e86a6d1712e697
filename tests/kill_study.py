"""Kills a study with SIGKILL at random moments, goes on with it, and compares its table.

    python -m tests.kill_study --verb=crossval --kills=8 --seed=0
    python -m tests.kill_study --verb=ablate --kills=8 --seed=0

Every life of the study is a process of the real command line. The moments are drawn from what a
cell goes through: its folder, steps, checkpoints, the end of training, answers of the evaluation,
scores, counts, and the table. Exit code 0 where the killed study ends with the files of an
uninterrupted one, byte by byte, and no process is left behind.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.processes import ROOT, TIMEOUT, Process

STEPS, EVERY = 24, 6
CONFIG = {
    "data.aus": (1, 2, 4, 12),
    "model.local_captions": False,
    "model.global_captions": False,
    "optimizer.decay_steps": 0,
    "train.steps": STEPS,
    "train.checkpoint_every": EVERY,
}
ROWS = """
def get_rows():
    return {"full": {}, "no DAIR": {"model.refinement": "none"}}
"""
# What a cell writes, in order: `begun` kills after one of them has come.
MARKS = (
    "config.json",
    "metrics.jsonl",
    f"checkpoints/{EVERY}",
    f"checkpoints/{STEPS}",
    "final.json",
    ".scores.json.partial",
    "scores.json",
    "cell.json",
)


class Study:
    """A study's folder, and the processes that work in it, one after the other."""

    def __init__(self, verb: str, folder: Path, config: Sequence[str], rows: Path) -> None:
        self.folder, self._name = folder, {"crossval": "crossval", "ablate": "ablation"}[verb]
        more = {
            "crossval": ["--folds=1,3"],
            "ablate": [f"--rows={rows}", "--seeds=1", "--folds=1"],
        }[verb]
        self._argv = [verb, f"--config={ROOT}/tests/tiny.py", f"--workdir={folder}", "--resume"]
        self._argv += [*config, *more]
        cells = {"crossval": ("fold1", "fold3"), "ablate": ("full", "no_DAIR")}[verb]
        inner = {"crossval": "", "ablate": "/seed3/fold1"}[verb]
        self.marks = [folder / f"{cell}{inner}" / mark for cell in cells for mark in MARKS]
        self.marks.append(folder / "table.lock")

    def start(self) -> Process:
        """A process that goes on with the study, to be used as a context."""
        return Process(self._argv, 1, self.folder.parent / "logs")

    def files(self) -> dict[str, bytes]:
        """The table's files."""
        return {path.name: path.read_bytes() for path in self.folder.glob(f"{self._name}.*")}


def kill(study: Study, rng: random.Random, number: int, kills: int) -> tuple[str, int]:
    """Starts a process and kills it; returns where that was, and how many outlived it.

    The marks are aimed at in order, so that every life gets further than the one before.
    """
    share = len(study.marks) * (number + rng.random()) / kills
    mark = study.marks[min(int(share), len(study.marks) - 1)]
    end = time.monotonic() + TIMEOUT
    longest = (
        3.0 if mark.exists() else 0.3
    )  # there from an earlier life: kill while this one starts
    with study.start() as process:
        while process.alive and not mark.exists():
            if time.monotonic() > end:
                raise SystemExit(f"a process took more than {TIMEOUT} s")
            time.sleep(0.002)
        time.sleep(rng.uniform(0, longest))
        process.send(signal.SIGKILL)
        code = process.wait()
        if code not in (0, -signal.SIGKILL):
            raise SystemExit(f"exit code {code}:\n{process.log[-3000:]}")
        ended = " (it had ended)" if code == 0 else ""
        return f"{mark.relative_to(study.folder)}{ended}", len(process.left())


def finish(study: Study) -> None:
    """Lets the study reach its end."""
    with study.start() as process:
        if code := process.wait():
            raise SystemExit(f"exit code {code}:\n{process.log[-3000:]}")


def test(folder: Path, verb: str, kills: int, seed: int) -> list[str]:
    """Kills and compares; returns all that went wrong. `folder` is an empty one."""
    import numpy as np

    from tests.data.sets import coded, write_set

    people = ("F001", "F004", "M001", "M003")  # fold 1 tests F004 and M003, fold 3 the others
    write_set(folder / "set", "bp4d", coded(np.random.default_rng(3), "bp4d", people, 6))
    (folder / "rows.py").write_text(ROWS)
    config = [
        f"--config.{key}={value}"
        for key, value in {**CONFIG, "data.data_dir": folder / "set"}.items()
    ]
    whole, parts = (
        Study(verb, folder / name, config, folder / "rows.py") for name in ("whole", "parts")
    )
    finish(whole)
    rng, faults = random.Random(seed), []
    for number in range(kills):
        start = time.monotonic()
        where, left = kill(parts, rng, number, kills)
        print(f"kill {number + 1}: after {where}, {time.monotonic() - start:.1f} s", flush=True)
        if left:
            faults.append(f"kill {number + 1}: {left} processes outlived it")
    finish(parts)
    expected, found = whole.files(), parts.files()
    if not expected or found.keys() != expected.keys():
        faults.append(f"files are {', '.join(found)}, not {', '.join(expected)}")
    faults += [f"{name} differs" for name in expected if found.get(name) != expected[name]]
    return faults


def main() -> int:
    """Prints every kill and what went wrong; 0 where nothing did."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--verb", choices=("crossval", "ablate"), default="crossval")
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kill_study_") as folder:
        faults = test(Path(folder), given.verb, given.kills, given.seed)
    print("\n".join(faults) or "the killed study has the table of the uninterrupted one")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
