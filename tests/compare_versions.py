"""Runs two versions of the package through the same commands and compares all that they write.

    git worktree add ../before <commit>
    python -m tests.compare_versions ../before . [--full] [--keep=FOLDER]

Both versions run with this Python, in a folder of the same name, since paths are written down. Then
both read what the older one wrote: its prepared set, checkpoint (evaluate, export, resume), warm
start and model folder. A file is identical, equal but for values that are named here (clocks,
versions, renamed keys), presentation (pages, pictures and prose, which may be worded anew), or
different. Exit code 1 where one is different or missing. Without --full, training takes a few steps
and the run some minutes; --full is launch/demo.sh's own size.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Command = tuple[str, ...]

# Files of prose and pictures for readers, logs of no fixed order, and programs: what they answer is
# compared instead (predictions.csv). Arrays of checkpoints are compared by `params_digest`.
PRESENTATION = (".html", ".png", ".txt", "README.md", ".stablehlo", "run.lock")
STORAGE = ("/optimizer/", "/params/", "/ema/", "_CHECKPOINT_METADATA", "commit_success.txt")
LOGS = ("/tensorboard/",)  # their names hold the time

# File name -> values that may differ, as paths of keys; "*" is any key.
MAY_DIFFER = {
    "dataset_info.json": ("moduleName",),
    "final.json": (
        "images_per_second",
        "seconds",
        "step_ms",
        "data_wait_share",
        "peak_memory",
        "code",
    ),
    "metrics.jsonl": ("images_per_second",),
    "manifest.json": ("sha256", "body.files", "body.record.progress.seconds"),
    "config.json": (
        "versions",
        "files_sha256.README.md",
        "files_sha256.model.stablehlo",
    ),
    "predictions.columns.json": ("predictions.csv.*", "predictions.jsonl.*"),
}
# Keys that have another name since: file name -> old key -> new one.
RENAMED = {"scores.json": {"epoch": "checkpoint"}}


def commands(full: bool) -> Iterator[Command]:
    """The verbs that both versions run, in order."""
    bp4d = ("--subjects=27", "--frames=16") if full else ("--subjects=6", "--frames=4")
    small = ("--subjects=4", "--frames=6", "--size=96")
    yield ("synthesize", "--layout=bp4d", "--out=raw/bp4d", *bp4d)
    yield ("synthesize", "--layout=disfa", "--out=raw/disfa", *small)
    yield ("synthesize", "--layout=folder", "--out=raw/folder", *small)
    yield ("prepare", "--dataset=bp4d", "--raw_dir=raw/bp4d", "--data_dir=sets", "--crop_size=128")
    for name in ("disfa", "folder"):
        prepare = ("prepare", f"--dataset={name}", f"--raw_dir=raw/{name}", "--data_dir=sets")
        yield (*prepare, "--crop_size=64", "--workers=0")
        yield (*prepare, "--crop_size=64", "--crop=none")
    for name in ("bp4d", "disfa"):
        prepare = ("prepare", f"--dataset={name}", f"--raw_dir=raw/{name}", "--data_dir=offset")
        yield (*prepare, "--crop=none", "--crop_size=64", "--frame_offset=1")
    run = train("run", "configs/demo.py", *(() if full else ("steps=12", "checkpoint_every=6")))
    yield run
    yield from results("run")
    yield (*results_of("warm_start", "run"), "--out=run/warm.safetensors")
    switches = ("steps=4", "batch_size=8", "device_batch=4", "eval_every=2", "keep_best=1")
    yield (
        *train("switches", "configs/demo.py:scratch", *switches),
        *("--config.optimizer.ema_decay=0.9", "--config.data.name=folder"),
        *("--config.data.variant=none_64", "--config.model.au_embedding=True"),
        *("--config.model.scan_blocks=True", "--config.model.depths=(0,1,4,1)"),
        *("--config.model.global_context=True", "--config.mesh.data=1"),
        *("--config.data.aus=(1,2,12)", "--config.data.validation_subjects=1"),
    )
    yield (*results_of("evaluate", "switches"), "--beams=2", "--checkpoint=best")
    mixture = train("mixture", "configs/demo.py:scratch", "steps=2", "batch_size=8")
    yield (*mixture, "--config.data.name=bp4d+disfa", "--config.data.data_dir=offset")
    yield results_of("evaluate", "mixture")
    look = ("inspect", "--data", "--config=configs/demo.py", "--config.data.data_dir=sets")
    yield (*look, "--out=looked")


def train(workdir: str, config: str, *changes: str) -> Command:
    """The verb that trains; changes are of keys below `train`."""
    keys = (f"--config.train.{change}" for change in changes)
    data = "--config.data.data_dir=sets"
    return ("train", f"--config={config}", f"--workdir={workdir}", data, *keys)


def results_of(verb: str, workdir: str) -> Command:
    """A verb that reads a run."""
    return (verb, f"--workdir={workdir}")


def results(workdir: str) -> Iterator[Command]:
    """What is made of a run: scores, a model folder, predictions."""
    yield results_of("evaluate", workdir)
    yield (*results_of("export", workdir), f"--out={workdir}/model")
    picture = "raw/bp4d/Sequences(2D+3D)/F004/T1"
    yield ("predict", f"--model={workdir}/model", f"--out={workdir}/predicted", picture)


def reread(full: bool) -> Iterator[Command]:
    """What both versions make of a finished run of the older one."""
    yield results_of("evaluate", "run")
    yield (*results_of("export", "run"), "--out=run/again")
    picture = "raw/bp4d/Sequences(2D+3D)/F004/T1"
    yield ("predict", "--model=run/model", "--out=run/predicted_again", picture)
    yield (*results_of("warm_start", "run"), "--out=run/warm_again.safetensors")
    steps = 820 if full else 16
    run = train("run", "configs/demo.py", f"steps={steps}", f"checkpoint_every={steps}")
    yield (*run, "--resume")
    start = "warm_start=run/warm.safetensors"
    yield train("warmed", "configs/demo.py", "steps=2", "batch_size=8", start)


def run_all(checkout: Path, folder: Path, verbs: Iterator[Command]) -> None:
    """Runs the verbs of a version in `folder`; RuntimeError with its log where one fails."""
    (folder / "configs").unlink(missing_ok=True)
    (folder / "configs").symlink_to(checkout / "configs")
    env = os.environ | {"PYTHONPATH": str(checkout), "JAX_PLATFORMS": "cpu"}
    for verb in verbs:
        print(f"{checkout.name}: {' '.join(verb)}", file=sys.stderr)
        command = [sys.executable, "-m", "vlfau_jax", *verb]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(verb)}: exit code {done.returncode}\n{done.stderr}")
    (folder / "configs").unlink()


def blanked(value: Any, paths: tuple[str, ...]) -> Any:
    """JSON values with None in the places that `paths` name; a key may hold dots."""
    if not isinstance(value, dict):
        return value
    result = {}
    for key, item in value.items():
        below = [p[len(k) + 1 :] for p in paths for k in (key, "*") if p.startswith(f"{k}.")]
        blank = key in paths or "*" in paths
        result[key] = None if blank else blanked(item, tuple(below))
    return result


def canonical(path: Path) -> Any:
    """What of a file must be equal: JSON but for values that may differ, or its bytes."""
    if path.suffix == ".safetensors":  # whose metadata have no fixed order
        content = path.read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        return json.loads(content[8:end]), content[end:]
    if path.suffix not in (".json", ".jsonl"):
        return path.read_bytes()
    renamed = RENAMED.get(path.name, {})
    may_differ = MAY_DIFFER.get(path.name, ())
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    records = [blanked(json.loads(line), may_differ) for line in lines]
    if renamed:
        records = [{renamed.get(k, k): v for k, v in record.items()} for record in records]
    return records


def compare(before: Path, after: Path) -> dict[str, list[str]]:
    """Verdict -> the files below both folders that it is about."""
    verdicts: dict[str, list[str]] = {}
    names = {
        str(path.relative_to(root))
        for root in (before, after)
        for path in root.rglob("*")
        if path.is_file()
    }
    for name in sorted(names):
        verdicts.setdefault(verdict(before / name, after / name), []).append(name)
    return verdicts


def verdict(before: Path, after: Path) -> str:
    """How the same file of both versions compares."""
    if any(part in str(before) for part in (*STORAGE, *LOGS)):
        return "stored arrays and logs"
    if not (before.exists() and after.exists()):
        return "missing"
    if before.read_bytes() == after.read_bytes():
        return "identical"
    if any(part in before.name for part in PRESENTATION):
        return "presentation"
    return "equal but for named values" if canonical(before) == canonical(after) else "different"


def main() -> int:
    """Runs the comparison; 1 where something is different or missing."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("before", type=Path, help="checkout of the older version")
    parser.add_argument("after", type=Path, help="checkout of the newer version")
    parser.add_argument("--full", action="store_true", help="train as long as launch/demo.sh")
    parser.add_argument("--keep", type=Path, help="new folder in which the outputs are kept")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (args.keep or Path(scratch)).absolute()
        work, old, new = (folder / name for name in ("work", "before", "after"))
        bad = 0
        versions = (args.before.absolute(), old), (args.after.absolute(), new)
        for checkout, result in versions:
            work.mkdir(parents=True)
            run_all(checkout, work, commands(args.full))
            work.rename(result)
        bad += report("written by each version", compare(old, new))
        for checkout, result in versions:
            shutil.copytree(old, work)
            run_all(checkout, work, reread(args.full))
            result = result.with_name(f"{result.name}_reread")
            work.rename(result)
        reread_old, reread_new = (folder / f"{name}_reread" for name in ("before", "after"))
        bad += report("the older version's run, read by each", compare(reread_old, reread_new))
    return 1 if bad else 0


def report(title: str, verdicts: dict[str, list[str]]) -> int:
    """Prints how many files have which verdict; returns how many are not as they were."""
    print(title)
    for kind, names in sorted(verdicts.items()):
        listed = "" if kind in ("identical", "stored arrays and logs") else f": {', '.join(names)}"
        print(f"  {len(names):5} {kind}{listed}")
    return sum(len(verdicts.get(kind, ())) for kind in ("different", "missing"))


if __name__ == "__main__":
    sys.exit(main())
