"""`predict` on a long video: memory, kills, people's numbers, and the time of its frames as files.

    python -m tests.long_video --model=runs/demo/model --seconds=600 --kills=5

The video is made of rendered people, 25 frames a second: two who cross, cuts, empty stretches. One
run is left alone while its resident memory is watched; another is killed with SIGKILL and goes on
again and again; a third reads the same frames as JPEG files, which have no frame before them and so
a sentence each. Exit code 0 where the killed run ends
with the files of the first one byte by byte, everybody keeps one number, memory stays below
`--most_memory` and does not grow, and frames of the video take less time than pictures by
`--faster`. Times are of the process's own CPU and of the clock, from the first row on; they say
something on an idle machine only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.inference.films import Cast, head, who, write_video
from tests.processes import Process
from vlfau_jax.data.raw.frames import encode_jpeg
from vlfau_jax.files import partial_name
from vlfau_jax.inference.prediction_files import CSV, JSONL, NAMES
from vlfau_jax.inference.video import read_video

RATE, WIDTH, HEIGHT, SIDE = 25, 640, 360, 240
_TICKS = os.sysconf("SC_CLK_TCK")
_GROWTH = 1.1  # of the memory's peak from the second third of a run to the last one


def scenes(seconds: float) -> list[Cast]:
    """Who is where in each frame: scenes of some seconds, with a cut between each two."""
    found: list[Cast] = []
    scene = 0
    while len(found) < seconds * RATE:
        length = (4, 3, 1, 4, 3)[scene % 5] * RATE
        for k in range(length):
            share, drift = k / length, 10 * round(np.sin(k / 9), 3)
            found.append(
                [
                    {"F001": (int(20 + drift), 60), "F002": (int(370 - drift), 80)},
                    {"F002": (int(200 + 3 * drift), 50)},
                    {},
                    {"F001": (int(380 * share), 40), "F002": (int(380 * (1 - share)), 100)},
                    {"F001": (int(160 - 2 * drift), 90)},
                ][scene % 5]
            )
        scene += 1
    return found[: int(seconds * RATE)]


def pictures(film: Sequence[Cast]) -> Iterator[np.ndarray]:
    """The frames, RGB uint8; every person moves through eight rendered pictures."""
    for number, cast in enumerate(film):
        picture = np.full((HEIGHT, WIDTH, 3), (96, 110, 104), np.uint8)
        for person, (left, top) in cast.items():
            picture[top : top + SIDE, left : left + SIDE] = head(person, number // 5 % 8, SIDE)
        yield picture


@dataclass
class Watched:
    """What a run took.

    Attributes:
        memory: resident bytes, each with the seconds of the run since its first row.
        processor: seconds of CPU from the first row to the end.
        clock: the same of the clock.
    """

    memory: list[tuple[float, int]] = field(default_factory=list)
    processor: float = 0.0
    clock: float = 0.0

    def peak(self, begin: float, end: float) -> int:
        """The most memory between two shares of the run, 0-1."""
        within = [m for t, m in self.memory if begin * self.clock <= t <= end * self.clock]
        return max(within, default=0)


class Predict:
    """Runs of `predict` with the same flags into one folder, as processes of the command line."""

    def __init__(self, flags: Sequence[str], out: Path, logs: Path, source: Path) -> None:
        self.out, self._logs = out, logs
        self._argv = ["predict", f"--out={out}", *flags, str(source)]
        self._rows = partial_name(out / NAMES[0]) / JSONL

    def start(self) -> Process:
        """A process that goes on where the last one ended, to be used as a context."""
        return Process(self._argv, 1, self._logs, ("-m", "vlfau_jax"), XLA_FLAGS="")

    def size(self) -> int:
        """Bytes of the rows so far."""
        with suppress(FileNotFoundError):
            return self._rows.stat().st_size
        return 0

    def finish(self) -> Watched:
        """Runs to the end, and watches."""
        seen, begin = Watched(), None
        with self.start() as process:
            while process.alive:
                with suppress(OSError, ValueError, IndexError):
                    now, used, resident = time.monotonic(), *_uses(process.pid)
                    if begin is None and self.size():
                        begin = now, used
                    if begin is not None:
                        seen.clock, seen.processor = now - begin[0], used - begin[1]
                        seen.memory.append((seen.clock, resident))
                time.sleep(0.1)
            if code := process.wait():
                raise SystemExit(f"exit code {code}:\n{process.log[-3000:]}")
        return seen

    def kill_at(self, size: int) -> int:
        """Starts, kills once the rows have so many bytes, and returns how many there are then."""
        with self.start() as process:
            while process.alive and self.size() < size:
                time.sleep(0.02)
            process.send(signal.SIGKILL)
            if process.wait() != -signal.SIGKILL:
                raise SystemExit(f"it ended before it was killed:\n{process.log[-3000:]}")
            return self._rows.read_bytes().count(b"\n")

    def files(self) -> dict[str, bytes]:
        """All that was written."""
        return {path.name: path.read_bytes() for path in self.out.iterdir() if path.is_file()}


def _uses(process: int) -> tuple[float, int]:
    """Seconds of CPU and resident bytes of a process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return (int(fields[11]) + int(fields[12])) / _TICKS, pages * os.sysconf("SC_PAGE_SIZE")


def numbers_of_people(out: Path, film: Sequence[Cast]) -> dict[str, set[int]]:
    """Person of the film -> the numbers that it had in frames in which nobody covers anybody."""
    found: dict[str, set[int]] = {}
    for line in (out / JSONL).read_text().splitlines():
        record = json.loads(line)
        lefts = [left for left, _ in film[record["frame"] - 1].values()]
        if record["box"] and (len(lefts) < 2 or abs(lefts[0] - lefts[1]) >= SIDE):
            found.setdefault(who(record, film, SIDE), set()).add(record["face_id"])
    return found


def test(folder: Path, given: argparse.Namespace) -> list[str]:
    """Makes the video and runs everything in `folder`, an empty one; returns what went wrong."""
    film = scenes(given.seconds)
    video = write_video(folder / "long.mp4", pictures(film), "libx264", rate=RATE)
    flags = [f"--model={given.model}", *shlex.split(given.flags)]
    faults = []

    alone = Predict(flags, folder / "alone", folder / "logs", video)
    whole = alone.finish()
    rows = (alone.out / CSV).read_bytes().count(b"\n") - 1
    peak, middle, last = (whole.peak(*part) for part in ((0, 1), (1 / 3, 2 / 3), (2 / 3, 1)))
    print(
        f"{len(film)} frames, {rows} rows: {whole.clock:.0f} s, {whole.processor:.0f} s of CPU; "
        f"resident at most {peak >> 20} MB, in the last thirds {middle >> 20} and {last >> 20} MB",
        flush=True,
    )
    if peak > given.most_memory << 20:
        faults.append(f"{peak >> 20} MB resident, expected at most {given.most_memory}")
    if last > _GROWTH * middle:
        faults.append(f"memory grows: {middle >> 20} MB, then {last >> 20} MB")
    numbers = numbers_of_people(alone.out, film)
    print(f"numbers of people: {numbers}", flush=True)
    if sorted(map(len, numbers.values())) != [1, 1] or numbers["F001"] == numbers["F002"]:
        faults.append(f"people have the numbers {numbers}, expected one each")

    rng, parts = random.Random(given.seed), Predict(flags, folder / "parts", folder / "logs", video)
    for number in range(given.kills):
        wanted = int((alone.out / JSONL).stat().st_size * (number + rng.random()) / given.kills)
        print(f"kill {number + 1}: after {parts.kill_at(max(1, wanted))} rows", flush=True)
    parts.finish()
    expected, found = alone.files(), parts.files()
    faults += [f"{name} differs" for name in sorted(expected) if found.get(name) != expected[name]]

    frames = folder / "frames"
    frames.mkdir()
    for frame in read_video(video):
        (frames / f"{frame.number:06d}.jpg").write_bytes(encode_jpeg(frame.image))
    plain = [f"--model={given.model}", *shlex.split(given.picture_flags)]
    single = Predict(plain, folder / "single", folder / "logs", frames).finish()
    print(f"the frames as pictures: {single.clock:.0f} s, {single.processor:.0f} s of CPU")
    if single.clock < given.faster * whole.clock:
        ratio = single.clock / whole.clock
        faults.append(f"the video is {ratio:.2f} times as fast, expected {given.faster:g}")
    return faults


def main() -> int:
    """Prints what was measured and what went wrong; 0 where nothing did."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="a folder that export wrote")
    parser.add_argument("--seconds", type=float, default=600.0, help="of video")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--flags", default="--captions=changes", help="of predict, for the video")
    parser.add_argument("--picture_flags", default="", help="the same for its frames as pictures")
    parser.add_argument("--most_memory", type=int, default=1500, help="MB, resident")
    parser.add_argument("--faster", type=float, default=1.5, help="than pictures; 0 asks nothing")
    given = parser.parse_args()
    given.model = given.model.resolve()
    with tempfile.TemporaryDirectory(prefix="long_video_") as folder:
        faults = test(Path(folder), given)
    print("\n".join(faults) or "all as it should be")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
