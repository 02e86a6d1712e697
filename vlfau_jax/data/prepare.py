"""From a raw tree to a prepared set on disk: what the verb `prepare` does."""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import tensorflow_datasets as tfds
from tqdm import tqdm

from vlfau_jax.data.bp4d import Bp4d, config_for
from vlfau_jax.data.bp4d_tree import index_tree
from vlfau_jax.data.faces import crop_rule
from vlfau_jax.data.folders import absolute_folder
from vlfau_jax.data.integrity import IntegrityReport
from vlfau_jax.errors import UserError

BUILDERS = {"bp4d": (Bp4d, index_tree)}
REPLACED = "replaced"  # the old set, for the moment in which the new one takes its place


def prepare(
    dataset: str,
    raw_dir: str | Path,
    data_dir: str | Path,
    *,
    crop: str = "cascade",
    crop_size: int = 256,
    workers: int | None = None,
    overwrite: bool = False,
) -> IntegrityReport:
    """Builds `data_dir`/<dataset>/<crop>_<crop_size>/<version> from a raw tree.

    The labels are read and checked before anything is written. The set is built beside its place
    and takes its name when it is whole, integrity.json and integrity.txt in it; a set that it
    replaces stays until then.

    Args:
        dataset: a key of `BUILDERS`.
        raw_dir: the raw tree; it is only read.
        data_dir: where prepared sets live.
        crop: name of the crop rule, see faces.py.
        crop_size: pixels of the crops' side.
        workers: processes; None takes one per core. The bytes written do not depend on it.
        overwrite: replace a set of the same name.

    Raises:
        UserError: a raw tree that cannot be trusted or has no usable frame, a set that is there
            already or that another process prepares, a place that cannot be written to.
        RunError: a worker process was killed.
    """
    if dataset not in BUILDERS:
        raise UserError(f"--dataset={dataset!r} is unknown; expected one of {', '.join(BUILDERS)}")
    if workers is not None and workers < 0:
        raise UserError(f"--workers={workers} is negative; expected 0 or more processes")
    builder_class, index = BUILDERS[dataset]
    config = config_for(crop_rule(crop, crop_size))
    data_dir = absolute_folder("--data_dir", data_dir)
    target = data_dir / dataset / config.name / str(builder_class.VERSION)
    _refuse_existing(target, overwrite)
    tree = index(raw_dir)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.parent):
        _sweep(target)
        _refuse_existing(target, overwrite)
        with _built_beside(target, data_dir) as staging:
            # tfds wants the name of a config that it lists, and takes others as they are.
            listed = config.name in builder_class.builder_configs
            builder = builder_class(config=config.name if listed else config, data_dir=str(staging))
            builder.tree = tree
            builder.workers = (os.cpu_count() or 1) if workers is None else workers
            _run(builder, raw_dir, sum(len(sequence.frames) for sequence in tree.sequences))
    return tree.report


def _refuse_existing(target: Path, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        raise UserError(f"{target} is prepared already; give --overwrite to build it again")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other processes from preparing in `folder`: each would sweep away the other's work."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a killed process lets go of it
        except BlockingIOError as error:
            raise UserError(
                f"{folder} is being prepared by another process; wait for it"
            ) from error
        except OSError as error:  # some network file systems
            print(f"{folder} cannot be locked ({error}): prepare it only once", file=sys.stderr)
        yield
    finally:
        os.close(handle)


def _sweep(target: Path) -> None:
    """Removes what a killed prepare of the same set left behind, and says so."""
    for left in sorted(target.parent.glob(f"incomplete.*{target.name}")):
        if (left / REPLACED).exists() and not target.exists():
            os.replace(left / REPLACED, target)  # killed between the two renames below
        shutil.rmtree(left)
        print(f"removed {left}, which a killed prepare left behind", file=sys.stderr)


@contextmanager
def _built_beside(target: Path, data_dir: Path) -> Iterator[Path]:
    """A stand-in for `data_dir`; `target` is moved out of it, or nothing of it is left."""
    staging = target.with_name(f"incomplete.{target.name}")
    staging.mkdir()
    try:
        yield staging
        if target.exists():
            os.replace(target, staging / REPLACED)
        os.replace(staging / target.relative_to(data_dir), target)
        # Beside the configs tfds notes the default one, always the same.
        note = target.parent.parent.relative_to(data_dir) / ".config"
        (data_dir / note).mkdir(exist_ok=True)
        for file in (staging / note).iterdir():
            os.replace(file, data_dir / note / file.name)
    finally:
        if (staging / REPLACED).exists() and not target.exists():
            os.replace(staging / REPLACED, target)
        shutil.rmtree(staging)


def _run(builder: Bp4d, raw_dir: str | Path, frames: int) -> None:
    tfds.disable_progress_bar()  # one bar over all frames says more than one per split
    with (
        tqdm(total=frames, desc=f"prepare {builder.name}", unit="frame") as bar,
        tempfile.TemporaryDirectory() as downloads,  # tfds insists on one; nothing is downloaded
    ):
        builder.on_frame = bar.update
        with redirect_stdout(io.StringIO()):  # tfds announces a download of 0 bytes
            builder.download_and_prepare(
                download_dir=downloads,
                download_config=tfds.download.DownloadConfig(
                    manual_dir=str(raw_dir), compute_stats=tfds.download.ComputeStatsMode.SKIP
                ),
            )
