"""The folder of a run: its lock, its config, and what is removed when a run is replaced.

During a run its process holds a lock on run.lock. The file stays behind and means nothing then: the
system releases the lock of a process that ends, however it ends.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vlfau_jax.distributed.differences import differences
from vlfau_jax.errors import UserError
from vlfau_jax.files import lock, written_whole
from vlfau_jax.train.manifest import finished_steps, what_is_left
from vlfau_jax.train.nonfinite import NONFINITE_FILE
from vlfau_jax.train.writer import EVENTS_FOLDER, METRICS_FILE

CONFIG_FILE = "config.json"
FINAL_FILE = "final.json"
CHECKPOINTS = "checkpoints"
LOCK_FILE = "run.lock"

_ENDS = (FINAL_FILE, NONFINITE_FILE)  # how a run ended: stale once it is resumed
_RUN = (CONFIG_FILE, METRICS_FILE, EVENTS_FOLDER, CHECKPOINTS, *_ENDS)
_RESULTS = ("scores.json", "predictions.jsonl", "report.html")  # stale once the run is replaced

# What may differ when a run is resumed: its length, how often it reports, and the machine.
FREE_KEYS = (
    "train.steps",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "train.keep",
    "train.keep_best",
    "train.device_batch",
    "train.skip_steps",
    "model.remat",
    "mesh.data",
    "mesh.fsdp",
    "mesh.tensor",
    "data.data_dir",
    "data.threads",
    "data.workers",
)


def config_digest(config: Mapping[str, Any]) -> str:
    """sha256 hex over a config's values, independent of their order in the file."""
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_config(workdir: Path) -> dict[str, Any]:
    """The config with which a run was started; UserError where there is none."""
    path = workdir / CONFIG_FILE
    if not path.is_file():
        raise UserError(f"{path} is missing; expected the workdir of `python -m vlfau_jax train`")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError(f"line 1 begins a {type(config).__name__}, not an object")
    except ValueError as error:
        raise UserError(f"{path}: damaged, {error}; restore it or train anew") from None
    return config


@contextmanager
def claimed(
    workdir: Path, config: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> Iterator[None]:
    """Locks the folder for a run of `config` and prepares it.

    Writes the config, unless there is a checkpoint to resume: that must be found to fit first.
    `overwrite` removes what an earlier run and its evaluation left, and nothing else. `resume`
    continues an earlier run if there is one. Raises UserError where another run uses the folder or
    has left files there, or where the one to be resumed has another config.
    """
    if resume and overwrite:
        raise UserError("--resume and --overwrite exclude each other; give one")
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir={workdir} is a file; give a folder")
    with _locked(workdir):
        _set_up(workdir, config, resume=resume, overwrite=overwrite)
        yield


@contextmanager
def _locked(workdir: Path) -> Iterator[None]:
    with _translate_os_errors(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        handle = os.open(workdir / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        other = os.pread(handle, 200, 0).decode(errors="replace")
        taken = f"a run is going on here ({other}); wait for it or take another folder"
        lock(handle, workdir, f"--workdir={workdir}: {taken}")
        with suppress(OSError):  # on a full disk: only that message needs it
            os.truncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        os.close(handle)


def _set_up(workdir: Path, config: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
    found = [name for name in _RUN if (workdir / name).exists()]
    if found and not (resume or overwrite):
        raise UserError(
            f"--workdir={workdir} is in use (it holds {found[0]}); give --resume to go on, "
            f"--overwrite to replace it, or another folder"
        )
    if not overwrite and (workdir / CONFIG_FILE).exists():
        _check_same(read_config(workdir), config, workdir)
    elif found and not overwrite:
        raise UserError(f"{workdir} holds {found[0]} but no {CONFIG_FILE}; it cannot be resumed")
    if overwrite or not finished_steps(workdir / CHECKPOINTS):
        write_config(workdir, config, instead_of=(*_RUN, *_RESULTS) if overwrite else ())


def write_config(
    workdir: Path, config: Mapping[str, Any], instead_of: tuple[str, ...] = ()
) -> None:
    """Writes config.json and removes the files named and those of how the run ended before.

    A resumed run does so once its checkpoint is found to fit. Raises UserError where it cannot.
    """
    with _translate_os_errors(workdir):
        for name in (*instead_of, *_ENDS):
            _remove(workdir / name)
        write_json(workdir / CONFIG_FILE, config)


@contextmanager
def _translate_os_errors(workdir: Path) -> Iterator[None]:
    """UserError for what the system refuses before any training."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"--workdir={workdir}: {error.filename or workdir}: {error.strerror}; "
            f"{what_is_left(workdir / CHECKPOINTS)}"
        ) from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file, whole or not at all."""
    with written_whole(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _check_same(old: Mapping[str, Any], new: Mapping[str, Any], workdir: Path) -> None:
    differing = [
        f"{key}={after} (was {before})"
        for key, before, after in differences(old, json.loads(json.dumps(new)))
        if key not in FREE_KEYS
    ]
    if differing:
        raise UserError(
            f"--resume: {workdir} was started with another config: {', '.join(differing)}; "
            f"resume with the same one or take another folder"
        )
