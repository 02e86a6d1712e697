"""Turns a raw tree into a prepared set on disk: what the verb `prepare` does."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import tensorflow_datasets as tfds
from tqdm import tqdm

from vlfau_jax.data.crop.registry import crop_rule
from vlfau_jax.data.prepare import beam
from vlfau_jax.data.prepare.builder import AuBuilder, AuConfig, au_config
from vlfau_jax.data.prepare.builders import BUILDERS
from vlfau_jax.data.prepare.shards import (
    SUFFIX,
    ShardFacts,
    ShardJob,
    finished,
    stored,
    write_shard,
)
from vlfau_jax.data.prepare.staging import SHARDS, built_beside, refuse_existing, sweep
from vlfau_jax.data.raw.integrity import IntegrityReport
from vlfau_jax.data.raw.integrity_text import format_summary
from vlfau_jax.data.raw.label_options import STRICT, LabelOptions
from vlfau_jax.data.sets import DataSet, data_set
from vlfau_jax.data.workers import Workers
from vlfau_jax.errors import RunError, UserError
from vlfau_jax.files import absolute_folder, claimed, locked


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
    options: LabelOptions = STRICT,
) -> IntegrityReport:
    """Builds `data_dir`/<dataset>/<config>/<version> from a raw tree.

    The labels are read and checked before anything is written. The set is built beside its place
    and renamed when it is complete, with integrity.json and integrity.txt in it; a set that it
    replaces stays until then. A summary and the place of the set are printed. A prepare that is
    killed leaves its finished shards, and the next one with the same arguments continues with them.
    The bytes written depend neither on that nor on the number and kind of workers.

    Args:
        dataset: the name of a data set, see data/sets.py.
        raw_dir: the raw tree; it is only read.
        data_dir: where prepared sets live.
        crop: name of the crop rule, see crop/registry.py.
        crop_size: pixels of the crops' side.
        crop_file: the file that some crop rules need, see `crop_rule`.
        camera: one of the data set's cameras; "" is the first.
        frame_offset: label frame n shows picture n + frame_offset.
        workers: processes; None takes one per core.
        beam_runner: an Apache Beam runner instead of processes; its workers must see `raw_dir` and
            `data_dir` under the same names, on a shared file system.
        beam_options: Beam's own options, each "name=value".
        overwrite: replace a set of the same name.
        options: what the raw tree leaves open, see raw/label_options.py.

    Raises:
        UserError: an option that is out of range or would have no effect, a raw tree that cannot
            be trusted or has no usable frame, a set that exists already or that another process
            prepares, a place that cannot be written to.
        RunError: a worker process was killed, the disk is full, a Beam runner failed.
        KeyboardInterrupt: its text states what is kept.
    """
    of = data_set(dataset, "--dataset")
    builder_class = BUILDERS[dataset]
    # Absolute paths, because Beam's workers have other working folders.
    raw_dir = os.path.abspath(raw_dir)
    rule = crop_rule(crop, crop_size, crop_file and os.path.abspath(crop_file))
    config = au_config(rule, _checked_camera(of, camera), frame_offset, cameras=of.cameras)
    _check_workers(workers, beam_runner, beam_options)
    data_dir = absolute_folder("--data_dir", data_dir)
    target = data_dir / dataset / config.name / str(builder_class.VERSION)
    if target.parent.exists():  # what stops a prepare is said before it reads all labels
        with locked(target.parent):
            sweep(target)
            refuse_existing(target, overwrite)
    tree = builder_class.read(raw_dir, config, options)
    with claimed("--data_dir", target.parent):
        sweep(target)
        refuse_existing(target, overwrite)
        with built_beside(target, data_dir) as staging:
            builder = _builder(builder_class, config, staging)
            builder.tree = tree
            builder.work = staging / SHARDS
            processes = (os.cpu_count() or 1) if workers is None else workers
            builder.make = partial(
                _make, processes=processes, runner=beam_runner, options=beam_options
            )
            _run(builder, raw_dir, staging / "downloads")
    print(f"{format_summary(tree.report)}\n{target}: the set, its integrity.txt and integrity.json")
    return tree.report


def _checked_camera(of: DataSet, camera: str) -> str:
    cameras = of.cameras
    if camera and not cameras:
        raise UserError(f"--camera={camera}: {of.name} has one camera; leave it out")
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
    # tfds expects the name of a config that it knows, and any other config itself.
    known = builder_class.get_builder_config(config.name) is not None
    return builder_class(config=config.name if known else config, data_dir=str(data_dir))


def _run(builder: AuBuilder, raw_dir: str, downloads: Path) -> None:
    tfds.disable_progress_bar()  # it has one bar per split; ours is over all frames
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
    """The facts of all jobs: of shards that exist already, and of those that it makes."""
    facts = _finished_earlier(jobs, processes)
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


def _finished_earlier(jobs: Sequence[ShardJob], processes: int) -> dict[Path, ShardFacts]:
    """Path -> facts of the finished shards of these jobs; removes all other shards."""
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
        f"{folder.parent}: continuing with the {len(facts)} of {len(jobs)} shards that an earlier "
        f"prepare finished{others}",
        file=sys.stderr,
    )
    return facts


def _make_by_beam(
    jobs: Sequence[ShardJob], runner: str, options: Sequence[str], bar: tqdm
) -> dict[Path, ShardFacts]:
    """Makes shards with Beam; its workers may be remote, so results are read from the folder."""
    waiting = {job.sidecar: job for job in jobs}

    def poll() -> None:
        done = [sidecar for sidecar in waiting if sidecar.exists()]
        bar.update(_frames([waiting.pop(sidecar) for sidecar in done]))

    beam.run(jobs, write_shard, runner, options, poll)
    poll()
    facts = {job.path: stored(job) for job in jobs}
    missing = [path for path, one in facts.items() if one is None]
    if missing:
        raise RunError(
            f"{runner} has ended, but {len(missing)} shards, such as {missing[0].name}, are not in "
            f"{missing[0].parent}; its workers must see that folder"
        )
    return facts
