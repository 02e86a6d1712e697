"""The folder of a run: who may use it, and what it says about itself."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlfau_jax.data.folders import written_whole
from vlfau_jax.errors import UserError
from vlfau_jax.sharding.differences import differences
from vlfau_jax.train.manifest import what_is_left
from vlfau_jax.train.writer import EVENTS_FOLDER, METRICS_FILE

CONFIG_FILE = "config.json"
FINAL_FILE = "final.json"
CHECKPOINTS = "checkpoints"

_RUN = (CONFIG_FILE, FINAL_FILE, METRICS_FILE, EVENTS_FOLDER, CHECKPOINTS)
_RESULTS = ("scores.json", "predictions.jsonl", "report.html")  # stale once the run is replaced

# What may differ when a run goes on: how long, how often it reports, and on what machine.
FREE_KEYS = (
    "train.steps",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "train.keep",
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
    """sha256 hex over a config's values, whatever their order in the file."""
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_config(workdir: Path) -> dict[str, Any]:
    """The config that a run was started with; UserError where there is none."""
    path = workdir / CONFIG_FILE
    if not path.is_file():
        raise UserError(f"{path} is missing; expected the workdir of `python -m vlfau_jax train`")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: damaged, {error}; restore it or train anew") from None


def claim(workdir: Path, config: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
    """Makes the folder ready for a run of `config`; writes the config, unless one is resumed.

    `overwrite` removes what an earlier run and its evaluation left, and nothing else. `resume` goes
    on with an earlier run if there is one. Raises UserError where a run is in the way, or where the
    one to be resumed has another config.
    """
    if resume and overwrite:
        raise UserError("--resume and --overwrite exclude each other; give one")
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir={workdir} is a file; give a folder")
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
    if overwrite or not (workdir / CONFIG_FILE).exists():
        write_config(workdir, config, instead_of=(*_RUN, *_RESULTS) if overwrite else ())


def write_config(
    workdir: Path, config: Mapping[str, Any], instead_of: tuple[str, ...] = ()
) -> None:
    """Writes down what is run from now on, removing final.json and the files named.

    A resumed run does so once its checkpoint is found to fit. Raises UserError where it cannot.
    """
    try:
        for name in (*instead_of, FINAL_FILE):
            _remove(workdir / name)
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(workdir / CONFIG_FILE, config)
    except OSError as error:
        raise UserError(
            f"--workdir={workdir}: {error.filename or workdir}: {error.strerror}; "
            f"{what_is_left(workdir / CHECKPOINTS)}"
        ) from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file whole or not at all."""
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
