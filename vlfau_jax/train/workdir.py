"""The folder of a run: its lock, its config, and how a run begins in it.

During a run its process holds a lock on run.lock. The file stays behind and means nothing then: the
system releases the lock of a process that ends, however it ends.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vlfau_jax.distributed.differences import differences
from vlfau_jax.errors import FileError, Interrupted, RunError, UserError, is_exhausted
from vlfau_jax.files import RECORD_LIMIT, lock, open_in_place, read_bytes, written_whole
from vlfau_jax.records import parse_record
from vlfau_jax.train.checkpoint_record import RunConfig
from vlfau_jax.train.manifest import finished_steps, what_is_left
from vlfau_jax.train.replaced import REPLACED_FOLDER, drop, move_aside, put_back, recover, told
from vlfau_jax.train.run_files import (
    CHECKPOINTS,
    CONFIG_FILE,
    ENDS,
    FINAL_FILE,
    RUN,
    check_ours,
    check_removable,
)

__all__ = ["CHECKPOINTS", "CONFIG_FILE", "FINAL_FILE"]

LOCK_FILE = "run.lock"

_MOST_NAMED = 10  # keys of a config that a message names

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
    if not os.path.lexists(path):
        raise UserError(f"{path} is missing; expected the workdir of `python -m vlfau_jax train`")
    try:
        content = read_bytes(path, RECORD_LIMIT)
        parse_record(content, RunConfig, path)
    except FileError as error:
        raise UserError(f"{path}: damaged, {error.reason}; restore it or train anew") from error
    return json.loads(content)


@contextmanager
def claimed(
    workdir: Path, config: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> Iterator[None]:
    """Locks the folder for a run of `config` and prepares it.

    Writes the config, unless there is a checkpoint to resume: that must be found to fit first.
    `overwrite` replaces what an earlier run and its evaluation left, once all of that is recognised
    (`run_files`), and nothing else. `resume` continues an earlier run if there is one.

    Raises:
        UserError: another run uses the folder or has left files there, the one to be resumed has
            another config, or the one to be replaced has entries that no run wrote.
        RunError: the machine has no room for it.
    """
    if resume and overwrite:
        raise UserError("--resume and --overwrite exclude each other; give one")
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir={workdir} is a file; give a folder")
    with _locked(workdir):
        _check_place(workdir, config, resume=resume, overwrite=overwrite)
        if overwrite:
            with _translate_os_errors(workdir):
                move_aside(workdir)
        try:
            if not finished_steps(workdir / CHECKPOINTS):
                write_config(workdir, config)
            yield
        except Interrupted:  # --resume goes on with the new run
            raise
        except Exception:
            if overwrite:
                put_back(workdir)
            raise
        drop(workdir)


@contextmanager
def _locked(workdir: Path) -> Iterator[None]:
    with _translate_os_errors(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        handle = open_in_place(workdir / LOCK_FILE, os.O_RDWR)
    try:
        other = os.pread(handle, 200, 0)
        who = other.decode(errors="replace")
        taken = f"a run is going on here ({who}); wait for it or take another folder"
        lock(handle, workdir, f"--workdir={workdir}: {taken}")
        ours = (not other or other.startswith(b"process ")) and os.fstat(handle).st_nlink == 1
        if ours:  # only that message needs it
            with suppress(OSError):  # on a full disk
                os.truncate(handle, 0)
                os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(handle)


def _check_place(
    workdir: Path, config: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> None:
    """Refuses a folder in which the run may not begin, or not go on."""
    with _translate_os_errors(workdir):
        recover(workdir)
    found = [name for name in (*RUN, REPLACED_FOLDER) if os.path.lexists(workdir / name)]
    if found and not (resume or overwrite):
        raise UserError(
            f"--workdir={workdir} is in use (it holds {found[0]}); give --resume to go on, "
            f"--overwrite to replace it, or another folder"
        )
    if overwrite:
        return  # `move_aside` checks what it moves
    if os.path.lexists(workdir / CONFIG_FILE):
        _check_same(read_config(workdir), config, workdir)
        with told("--resume", workdir):
            check_ours(workdir, ENDS)
            check_removable(workdir / CHECKPOINTS)
    elif found:
        raise UserError(f"{workdir} holds {found[0]} but no {CONFIG_FILE}; it cannot be resumed")


def write_config(workdir: Path, config: Mapping[str, Any]) -> None:
    """Writes config.json and removes the files of how the run ended before.

    A resumed run does so once its checkpoint is found to fit. Raises UserError where it cannot.
    """
    with _translate_os_errors(workdir):
        for name in ENDS:
            (workdir / name).unlink(missing_ok=True)
        write_json(workdir / CONFIG_FILE, config)


@contextmanager
def _translate_os_errors(workdir: Path) -> Iterator[None]:
    """One line for what the system refuses before any training."""
    try:
        yield
    except ValueError as error:  # a NUL character in the name
        raise UserError(f"--workdir={workdir}: {error}; name another place") from error
    except OSError as error:
        kind = RunError if is_exhausted(error) else UserError
        raise kind(
            f"--workdir={workdir}: {error.filename or workdir}: {error.strerror}; "
            f"{what_is_left(workdir / CHECKPOINTS)}"
        ) from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file, whole or not at all."""
    with written_whole(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _check_same(old: Mapping[str, Any], new: Mapping[str, Any], workdir: Path) -> None:
    differing = changed_keys(old, new)
    if differing:
        raise UserError(
            f"--resume: {workdir} was started with another config: {differing}; "
            f"resume with the same one or take another folder"
        )


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The keys of two configs that differ and that a resume may not change; "" for none."""
    differing = [
        f"{key}={after} (was {before})"
        for key, before, after in differences(old, json.loads(json.dumps(new)))
        if key not in FREE_KEYS
    ]
    more = len(differing) - _MOST_NAMED
    return ", ".join(differing[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
