"""Damages files that the package reads, in every way it can think of, and sees how reading ends.

    python -m tests.fuzz --cases=20000 --seed=0 [--target=model,run] [--keep=DIR]

A case is one number: it chooses the target, the file and the damage, so `--first=N --cases=1`
repeats it. Reading may succeed, or end in an error that `errors.outcome` turns into one line. All
else fails: another exception, a signal, more than --seconds, more than 1 GB. What is read runs in
a process of its own, which is started again after a crash. Exit code 0 where no case failed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BYTES = 1 << 30

# ---------------------------------------------------------------------------------------- damage

ODD = (
    None, True, -1, 0, 1, 2**31, 10**30, -0.5, 1e308, float("nan"), float("inf"), "", "x", "é",
    "\0", "\x1b[2J", "../../etc/passwd", "/dev/zero", "os.system", "x" * 100_000, [], {}, [[]],
    [None], {"": 0}, "\ud800",
)  # fmt: skip


def damaged(content: bytes, rng: random.Random) -> bytes | None:
    """`content` with one kind of damage; None asks for something that is no regular file."""
    kinds: list[Callable[[bytes, random.Random], bytes]] = [_bytes, _bytes, _cut]
    with suppress(ValueError):
        json.loads(content)
        kinds = [*[_json] * 6, *kinds, _text]
    if b"\0" not in content and content.count(b"\n") > 1:
        kinds += [_lines] * 4
    if rng.random() < 0.05:
        return None
    return rng.choice(kinds)(content, rng)


def _bytes(content: bytes, rng: random.Random) -> bytes:
    """Some bytes flipped, inserted, repeated or removed."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(4):
            case 0 if at < len(changed):
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at:at] = rng.randbytes(rng.choice((1, 8, 1000)))
            case 2:
                changed[at:at] = changed[at : at + rng.choice((1, 8, 1000))]
            case _:
                del changed[at : at + rng.choice((1, 8, 1000))]
    return bytes(changed)


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.choice((0, 1, 8, len(content) // 2, max(len(content) - 1, 0)))]


def _text(content: bytes, rng: random.Random) -> bytes:
    """No longer JSON, or more of it than a parser likes."""
    deep = rng.choice((100, 100_000))
    return rng.choice(
        (
            b"[" * deep,
            b"[" * deep + b"]" * deep,
            b'{"a":' * deep + b"1" + b"}" * deep,
            b"9" * deep,
            b"\xff\xfe" + content,
            content + content,
            content.replace(b":", b": [", 1),
            content.decode("latin-1").encode("utf-16"),
        )
    )


def _json(content: bytes, rng: random.Random) -> bytes:
    """One value, key or item of the JSON is another, missing or new."""
    value = json.loads(content)
    places = list(_places(value))
    if not places:
        return json.dumps(rng.choice(ODD)).encode()
    holder, key = rng.choice(places)
    match rng.randrange(5):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[rng.choice(("new", "", "__class__", "auto_map"))] = rng.choice(ODD)
        case 2 if isinstance(holder, list):
            holder.insert(key, holder[key])
        case 3:
            holder[key] = _near(holder[key], rng)
        case _:
            holder[key] = rng.choice(ODD)
    return json.dumps(value).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def _near(value: Any, rng: random.Random) -> Any:
    """A value of the same type that is another."""
    match value:
        case bool():
            return not value
        case int():
            return value + rng.choice((-1, 1, 1000, 10**9))
        case float():
            return value * rng.choice((-1, 0, 2, 1e30))
        case str():
            return value[:-1] + rng.choice(("x", "", "\n", "/..", " "))
        case list():
            return value * rng.choice((0, 2, 1000)) if len(value) < 100 else value[::-1]
    return None


def _lines(content: bytes, rng: random.Random) -> bytes:
    """One line or cell of a table is another, missing or there twice."""
    lines = content.split(b"\n")
    at = rng.randrange(len(lines))
    separator = next((s for s in (b",", b"\t", b";", b" ") if s in lines[at]), b",")
    cells = lines[at].split(separator)
    cell = rng.randrange(len(cells))
    match rng.randrange(6):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[at])
        case 2:
            del cells[cell]
            lines[at] = separator.join(cells)
        case 3:
            cells[cell] = b"x" * rng.choice((1, 10_000_000))
            lines[at] = separator.join(cells)
        case 4:
            lines[at] = lines[at] * rng.choice((2, 10_000))
        case _:
            odd = json.dumps(rng.choice(ODD)).strip('"').encode()
            cells[cell] = rng.choice((odd, b"\0", b"\xff\xfe", b"-1", b"9", b"1e400", b"nan", b'"'))
            lines[at] = separator.join(cells)
    return b"\n".join(lines)


def no_regular_file(path: Path, rng: random.Random) -> None:
    """Puts something else in a file's place."""
    path.unlink()
    match rng.randrange(6):
        case 0:
            os.mkfifo(path)
        case 1:
            path.mkdir()
        case 2:
            path.symlink_to(path.name)
        case 3:
            path.symlink_to("/dev/zero")
        case 4:
            with path.open("wb") as file:
                file.truncate(10 << 30)
        case _:
            pass  # missing


# --------------------------------------------------------------------------------------- targets


@dataclass(frozen=True)
class Target:
    """Files that are read together.

    Attributes:
        make: writes them into a new folder.
        read: reads the folder as the package does.
        weight: how often it is chosen.
        files: which of them are damaged, as a glob.
    """

    make: Callable[[Path], object]
    read: Callable[[Path], object]
    weight: int
    files: str = "**/*"


def _raw(layout: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        from vlfau_jax.data.sets import SETS
        from vlfau_jax.data.synthetic.trees import write_tree

        sizes = {"subjects": 3, "frames": 4, "seed": 0, "size": 64, "workers": 1}
        write_tree(SETS[layout].layout, folder / "raw", **sizes)

    return make


def _read_raw(layout: str) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        from vlfau_jax.data.sets import SETS

        return SETS[layout].read(
            folder / "raw", camera=(SETS[layout].cameras or ("",))[0], frame_offset=0
        )

    return read


def _make_pictures(folder: Path) -> None:
    import cv2
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (6, 8, 3), np.uint8)
    image = cv2.resize(small, (64, 48), interpolation=cv2.INTER_CUBIC)
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in ("jpg", "png", "bmp", "tif", "webp", "ppm"):
        cv2.imwrite(str(folder / f"a.{suffix}"), image)
    picture = Image.fromarray(image)
    picture.save(folder / "progressive.jpg", progressive=True)
    for suffix in ("gif", "avif"):
        picture.save(folder / f"a.{suffix}")


def _read_pictures(folder: Path) -> object:
    from vlfau_jax.data.raw.frames import read_image

    return [read_image(path) for path in sorted(folder.iterdir())]


def _make_prepared(folder: Path) -> None:
    from vlfau_jax.data.prepare.prepare import prepare

    raw = folder.parent / "for_prepared/raw"
    if not raw.exists():
        _raw("bp4d")(raw.parent)
    prepare("bp4d", raw, folder, crop="none", crop_size=32, workers=0)


def _read_prepared(folder: Path) -> object:
    from vlfau_jax.data.read.dataset import open_dataset
    from vlfau_jax.data.read.options import DataOptions

    dataset = open_dataset(DataOptions(name="bp4d", data_dir=str(folder), fold=0))
    source = dataset.source(dataset.rows(dataset.subjects))
    return [source[i] for i in range(0, len(source), 7)]


def _make_run(folder: Path) -> None:
    from tests.conftest import untrained

    prepared = folder.parent / "run_data"
    if not prepared.exists():
        _make_prepared(prepared)
    untrained(prepared, folder)


def _read_run(folder: Path) -> object:
    from vlfau_jax.inference.trained import load_trained
    from vlfau_jax.train.metrics import METRICS_FILE, read_metrics

    return load_trained(folder), read_metrics(folder / METRICS_FILE)


def _make_model(folder: Path) -> None:
    from vlfau_jax.inference.export import export

    run = folder.parent / "for_model"
    _make_run(run)
    export(run, folder)


def _read_model(folder: Path) -> object:
    import numpy as np

    import vlfau_jax

    model = vlfau_jax.load(folder, batch_size=1)
    size = model.image_size
    return model.describe(np.full((1, size, size, 3), 127, np.uint8))


def _make_backbone(folder: Path) -> None:
    import torch
    from transformers import SwinConfig, SwinModel

    torch.manual_seed(0)
    sizes = {"depths": (1, 1, 1, 1), "num_heads": (1, 2, 2, 4), "window_size": 3, "image_size": 96}
    model = SwinModel(SwinConfig(embed_dim=4, **sizes))
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]})
    )


def _read_backbone(folder: Path) -> object:
    from vlfau_jax.train.huggingface import import_backbone

    out = folder.parent / "backbone.safetensors"
    out.unlink(missing_ok=True)
    return import_backbone(folder, out)


TARGETS = {
    "bp4d": Target(_raw("bp4d"), _read_raw("bp4d"), 4),
    "disfa": Target(_raw("disfa"), _read_raw("disfa"), 4, "**/*.txt"),
    "folder": Target(_raw("folder"), _read_raw("folder"), 8, "**/*.csv"),
    "pictures": Target(_make_pictures, _read_pictures, 8),
    "prepared": Target(_make_prepared, _read_prepared, 4),
    "run": Target(_make_run, _read_run, 4),
    "model": Target(_make_model, _read_model, 2),
    "backbone": Target(_make_backbone, _read_backbone, 4),
}


# ----------------------------------------------------------------------------------------- cases


def read_damaged(
    number: int, seed: int, names: Sequence[str], made: Path, seconds: int
) -> str | None:
    """Runs one case; None where it ended well, else what happened."""
    rng = random.Random(f"{seed} {number}")
    name = rng.choices(names, [TARGETS[name].weight for name in names])[0]
    target, folder = TARGETS[name], made / name
    files = sorted(path for path in folder.glob(target.files) if path.is_file())
    path = rng.choice(files)
    aside = made / "aside"
    shutil.move(path, aside)
    content = aside.read_bytes()
    changed = damaged(content, rng)
    path.write_bytes(content if changed is None else changed)
    if changed is None:
        no_regular_file(path, rng)
    try:
        problem = _ends_well(target.read, folder, seconds)
    finally:
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        shutil.move(aside, path)
    return problem and f"{name}: {path.relative_to(folder)}: {problem}"


def _ends_well(read: Callable[[Path], object], folder: Path, seconds: int) -> str | None:
    from vlfau_jax.errors import outcome

    started = time.monotonic()
    try:
        with _alarm(seconds):
            read(folder)
    except BaseException as error:
        ended = outcome(error)
        if isinstance(error, KeyboardInterrupt) or ended is None:
            return "".join(traceback.format_exception(error)[-3:])
        line, code = ended
        if code not in (1, 2) or "\n" in line:
            return f"exit code {code}: {line}"
    took = time.monotonic() - started
    return f"took {took:.0f} s" if took > seconds else None


class TooLongError(BaseException):
    """Reading takes too long; no handler of the package catches it."""


@contextmanager
def _alarm(seconds: int) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise TooLongError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _run_cases(options: argparse.Namespace) -> None:
    """In the process of its own: a line of JSON for each case, before and after it."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str(options.made / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    names = options.target.split(",")
    for name in names:  # the first reading imports and compiles
        TARGETS[name].read(options.made / name)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for number in range(options.first, options.first + options.cases):
        print(json.dumps({"begun": number}), file=options.channel, flush=True)
        problem = read_damaged(number, options.seed, names, options.made, options.seconds)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if not problem and peak - used > BYTES:
            problem = f"took {(peak - used) / 1e9:.1f} GB"
        used = max(used, peak)
        print(json.dumps({"ended": number, "problem": problem}), file=options.channel, flush=True)


def fuzz(
    first: int, cases: int, seed: int, names: Sequence[str], made: Path, seconds: int
) -> dict[int, str]:
    """Runs cases; the problems by number. `made` holds the undamaged targets, or gets them."""
    made.mkdir(parents=True, exist_ok=True)
    for name in names:
        if not (made / name).exists():
            TARGETS[name].make(made / name)
    problems: dict[int, str] = {}
    end = first + cases
    while first < end:
        pristine = made / "work"
        shutil.rmtree(pristine, ignore_errors=True)
        for name in names:
            shutil.copytree(made / name, pristine / name, symlinks=True)
        command = [sys.executable, "-m", "tests.fuzz", "--inside", f"--made={pristine}"]
        command += [f"--first={first}", f"--cases={end - first}", f"--seed={seed}"]
        command += [f"--target={','.join(names)}", f"--seconds={seconds}"]
        with (made / "output.txt").open("w") as output:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output, text=True)
        begun = None
        with process:
            for text in process.stdout:
                event = json.loads(text)
                begun = event.get("begun", begun)
                if "ended" in event:
                    first = begun + 1
                    if event["problem"]:
                        problems[begun] = event["problem"]
                        print(f"{begun}: {event['problem']}", file=sys.stderr, flush=True)
        code = process.returncode
        if first < end:
            text = (made / "output.txt").read_text()[-2000:]
            if begun is None or begun < first:
                raise RuntimeError(f"the process ended with {code} before any case: {text}")
            problems[begun] = f"the process ended with {code}: {text}"
            print(f"{begun}: {problems[begun]}", file=sys.stderr, flush=True)
            first = begun + 1
    return problems


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=int, default=10, help="of the longest case")
    parser.add_argument("--target", default=",".join(TARGETS))
    parser.add_argument("--made", type=Path, help="keeps the undamaged targets there")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        # What the readers print must not mix with the events.
        options.channel = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        _run_cases(options)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        made = options.made or Path(scratch)
        names = options.target.split(",")
        problems = fuzz(options.first, options.cases, options.seed, names, made, options.seconds)
    kinds = Counter(problem.split(":")[0] for problem in problems.values())
    print(f"{options.cases} cases, {len(problems)} problems: {dict(kinds)}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
