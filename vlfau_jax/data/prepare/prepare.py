"""From a raw tree to a prepared set on disk: what the verb `prepare` does.

A set is made in a folder beside its place, `incomplete.<version>`:

    shards/      finished shards and their sidecars (shards.py): what a killed prepare leaves behind
                 and the next one goes on with
    bp4d/...     the set, when all shards are finished
    downloads/   nothing, but tfds insists on it
    replaced     the old set, for the moment in which the new one takes its place
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path

import tensorflow_datasets as tfds
from tqdm import tqdm

from vlfau_jax.data.crop.registry import crop_rule
from vlfau_jax.data.prepare import beam
from vlfau_jax.data.prepare.bp4d import Bp4d
from vlfau_jax.data.prepare.builder import AuBuilder, AuConfig, au_config
from vlfau_jax.data.prepare.disfa import Disfa
from vlfau_jax.data.prepare.folder import Folder
from vlfau_jax.data.prepare.shards import (
    SUFFIX,
    ShardFacts,
    ShardJob,
    finished,
    stored,
    write_shard,
)
from vlfau_jax.data.raw.integrity import IntegrityReport
from vlfau_jax.data.raw.places import counted
from vlfau_jax.data.workers import Workers
from vlfau_jax.errors import RunError, UserError
from vlfau_jax.files import absolute_folder, created, locked

BUILDERS: dict[str, type[AuBuilder]] = {"bp4d": Bp4d, "disfa": Disfa, "folder": Folder}
SHARDS, REPLACED = "shards", "replaced"


def prepare(
    dataset: str,
    raw_dir: str | Path,
    data_dir: str | Path,
    *,
    crop: str = "cascade",
    crop_size: int = 256,
    crop_file: str = "",
    camera: str = "",
    frame_offset: int = 0,
    workers: int | None = None,
    beam_runner: str = "",
    beam_options: Sequence[str] = (),
    overwrite: bool = False,
) -> IntegrityReport:
    """Builds `data_dir`/<dataset>/<config>/<version> from a raw tree.

    The labels are read and checked before anything is written. The set is built beside its place
    and takes its name when it is whole, integrity.json and integrity.txt in it; a set that it
    replaces stays until then. What was found and lost, and where the set lies, is printed. A
    prepare that is killed leaves its finished shards, and the next one with the same arguments goes
    on with them. The bytes written depend neither on that nor on who does the work.

    Args:
        dataset: a key of `BUILDERS`.
        raw_dir: the raw tree; it is only read.
        data_dir: where prepared sets live.
        crop: name of the crop rule, see crop/registry.py.
        crop_size: pixels of the crops' side.
        crop_file: the file that some crop rules need, see registry.crop_rule.
        camera: "left" or "right", where the data set has two; "" is its first.
        frame_offset: label frame n shows picture n + frame_offset.
        workers: processes; None takes one per core.
        beam_runner: an Apache Beam runner instead of processes; its workers must see `raw_dir` and
            `data_dir` under the same names, on a shared file system.
        beam_options: Beam's own options, each "name=value".
        overwrite: replace a set of the same name.

    Raises:
        UserError: an option that is out of range or would do nothing, a raw tree that cannot be
            trusted or has no usable frame, a set that is there already or that another process
            prepares, a place that cannot be written to.
        RunError: a worker process was killed, the disk is full, a Beam runner failed.
        KeyboardInterrupt: with what is kept as its text.
    """
    if dataset not in BUILDERS:
        raise UserError(f"--dataset={dataset!r} is unknown; expected one of {', '.join(BUILDERS)}")
    builder_class = BUILDERS[dataset]
    # Absolute paths: Beam's workers stand elsewhere.
    raw_dir = os.path.abspath(raw_dir)
    rule = crop_rule(crop, crop_size, crop_file and os.path.abspath(crop_file))
    config = au_config(rule, _checked_camera(builder_class, camera), frame_offset)
    _check_workers(workers, beam_runner, beam_options)
    data_dir = absolute_folder("--data_dir", data_dir)
    target = data_dir / dataset / config.name / str(builder_class.VERSION)
    _refuse_existing(target, overwrite)
    tree = builder_class.index(raw_dir, config)
    with created("--data_dir", target.parent), locked(target.parent):
        _sweep(target)
        _refuse_existing(target, overwrite)
        with _built_beside(target, data_dir) as staging:
            builder = _builder(builder_class, config, staging)
            builder.tree = tree
            builder.work = staging / SHARDS
            processes = (os.cpu_count() or 1) if workers is None else workers
            builder.make = partial(
                _make, processes=processes, runner=beam_runner, options=beam_options
            )
            _run(builder, raw_dir, staging / "downloads")
    print(f"{tree.report.summary()}\n{target}: the set, its integrity.txt and integrity.json")
    return tree.report


def _checked_camera(builder_class: type[AuBuilder], camera: str) -> str:
    cameras = builder_class.CAMERAS
    if camera and not cameras:
        raise UserError(f"--camera={camera}: {builder_class.name} has one camera; leave it out")
    if camera and camera not in cameras:
        raise UserError(f"--camera={camera!r} is unknown; expected one of {', '.join(cameras)}")
    return camera or next(iter(cameras), "")


def _check_workers(workers: int | None, runner: str, options: Sequence[str]) -> None:
    if workers is not None and workers < 0:
        raise UserError(f"--workers={workers} is negative; expected 0 or more processes")
    if options and not runner:
        raise UserError(f"--beam_options={' '.join(options)} does nothing without --beam_runner")
    if workers is not None and runner:
        raise UserError(f"--workers={workers} does nothing with --beam_runner; see --beam_options")
    if runner:
        beam.check(runner, options)


def _builder(builder_class: type[AuBuilder], config: AuConfig, data_dir: Path) -> AuBuilder:
    # tfds wants the name of a config that it knows, and takes others as they are.
    known = builder_class.get_builder_config(config.name) is not None
    return builder_class(config=config.name if known else config, data_dir=str(data_dir))


def _refuse_existing(target: Path, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        raise UserError(f"{target} is prepared already; give --overwrite to build it again")


def _staging(target: Path) -> Path:
    return target.with_name(f"incomplete.{target.name}")


def _sweep(target: Path) -> None:
    """Removes what a killed prepare left behind, except for its finished shards."""
    staging = _staging(target)
    _put_back(staging, target)
    for left in sorted(target.parent.glob(f"incomplete.*{target.name}")):
        if left != staging:  # of tfds alone
            shutil.rmtree(left)
            print(f"removed {left}, which a killed prepare left behind", file=sys.stderr)
    if staging.exists():
        _clear(staging)


def _clear(staging: Path, *, ignore_errors: bool = False) -> int:
    """Removes all but finished shards; returns how many these are."""
    kept = len(list((staging / SHARDS).glob("*" + SUFFIX)))
    rest = [path for path in staging.iterdir() if path.name != SHARDS] if kept else [staging]
    for left in rest:
        shutil.rmtree(left, ignore_errors=ignore_errors)
    return kept


def _put_back(staging: Path, target: Path) -> None:
    """The old set, if it was stopped between the two renames of `_built_beside`."""
    if (staging / REPLACED).exists() and not target.exists():
        os.replace(staging / REPLACED, target)


@contextmanager
def _built_beside(target: Path, data_dir: Path) -> Iterator[Path]:
    """A stand-in for `data_dir`; `target` is moved out of it when all is well.

    Otherwise finished shards stay, and without one nothing does.
    """
    staging = _staging(target)
    try:
        staging.mkdir(exist_ok=True)
        yield staging
        if target.exists():
            os.replace(target, staging / REPLACED)
        os.replace(staging / target.relative_to(data_dir), target)
        # Beside the configs tfds notes the default one, always the same.
        note = target.parent.parent.relative_to(data_dir) / ".config"
        (data_dir / note).mkdir(exist_ok=True)
        for file in (staging / note).iterdir():
            os.replace(file, data_dir / note / file.name)
        shutil.rmtree(staging)
    except BaseException as error:
        _put_back(staging, target)
        told = _told_of(_clear(staging, ignore_errors=True))  # what went wrong comes first
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(told) from error
        if isinstance(error, RunError | OSError):
            raise RunError("; ".join(filter(None, (_reason(error, target), told)))) from error
        raise


def _told_of(kept: int) -> str:
    if not kept:
        return ""
    return f"{counted(kept, 'finished shard')} kept, and the same command goes on from there"


def _reason(error: RunError | OSError, target: Path) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or target}: {error.strerror or error}"
    return str(error)


def _run(builder: AuBuilder, raw_dir: str, downloads: Path) -> None:
    tfds.disable_progress_bar()  # one bar over all frames says more than one per split
    with redirect_stdout(io.StringIO()):  # tfds announces a download of 0 bytes
        builder.download_and_prepare(
            download_dir=downloads,
            download_config=tfds.download.DownloadConfig(
                manual_dir=raw_dir, compute_stats=tfds.download.ComputeStatsMode.SKIP
            ),
        )


def _make(
    jobs: Sequence[ShardJob], *, processes: int, runner: str, options: Sequence[str]
) -> list[ShardFacts]:
    """The facts of all jobs: of shards that are there already, and of those that it makes."""
    facts = _left_from_earlier(jobs, processes)
    todo = [job for job in jobs if job.path not in facts]
    done = _frames(jobs) - _frames(todo)
    with tqdm(total=_frames(jobs), initial=done, desc="prepare", unit="frame") as bar:
        if runner:
            facts |= _make_by_beam(todo, runner, options, bar)
        else:
            with Workers(min(processes, len(todo)), bar.update) as pool:
                made = pool.starmap(write_shard, ((job,) for job in todo))
                facts |= {job.path: one for job, one in zip(todo, made, strict=True)}
    return [facts[job.path] for job in jobs]


def _frames(jobs: Sequence[ShardJob]) -> int:
    return sum(len(job.sequence.frames) for job in jobs)


def _left_from_earlier(jobs: Sequence[ShardJob], processes: int) -> dict[Path, ShardFacts]:
    """Path -> facts of the finished shards that are what was asked for; removes all others."""
    folder = Path(jobs[0].folder)
    found = set(folder.iterdir())
    if not found:
        return {}
    there = [job for job in jobs if job.sidecar in found]
    with Workers(min(processes, len(there))) as pool:
        checked = pool.starmap(finished, ((job,) for job in there))
        facts = {job.path: one for job, one in zip(there, checked, strict=True) if one}
    of_use = {path for job in there if job.path in facts for path in (job.path, job.sidecar)}
    for path in found - of_use:
        path.unlink()
    removed = sum(path.suffix == SUFFIX for path in found - of_use)
    others = f"; removed {removed} that are damaged or made from something else" if removed else ""
    print(
        f"{folder.parent}: going on with the {len(facts)} of {len(jobs)} shards that an earlier "
        f"prepare finished{others}",
        file=sys.stderr,
    )
    return facts


def _make_by_beam(
    jobs: Sequence[ShardJob], runner: str, options: Sequence[str], bar: tqdm
) -> dict[Path, ShardFacts]:
    """Beam's workers may be on other machines: what they did is read from the shared folder."""
    waiting = {job.sidecar: job for job in jobs}

    def look() -> None:
        done = [sidecar for sidecar in waiting if sidecar.exists()]
        bar.update(_frames([waiting.pop(sidecar) for sidecar in done]))

    beam.run(jobs, write_shard, runner, options, look)
    look()
    facts = {job.path: stored(job) for job in jobs}
    missing = [path for path, one in facts.items() if one is None]
    if missing:
        raise RunError(
            f"{runner} has ended, but {len(missing)} shards, such as {missing[0].name}, are not in "
            f"{missing[0].parent}; its workers must see that folder"
        )
    return facts
