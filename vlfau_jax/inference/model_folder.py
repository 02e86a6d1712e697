"""The model folder: names of its files, its format, and the checks that a folder must pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vlfau_jax.errors import UserError
from vlfau_jax.files import file_digest

FORMAT = "vlfau_jax.model"
FORMAT_VERSION = 1
WEIGHTS, PROGRAM, CONFIG, CARD = "model.safetensors", "model.stablehlo", "config.json", "README.md"
PLATFORMS = ("cpu", "cuda", "tpu")

_REQUIRED = {"aus", "crop_rule", "image_size", "model", "synthetic"}


def checked_config(folder: Path) -> dict[str, Any]:
    """The config.json of a model folder, after every file that it lists has matched its digest.

    Raises:
        UserError: the folder has no such config, is a training run's, or is of another format; or
            a file is missing or changed.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"--model={folder} has no {CONFIG}; name a folder that `export` wrote")
    try:
        config = json.loads(path.read_text())
        written = (config["format"], config["format_version"])
        digests = dict(config["files_sha256"])
        missing = _REQUIRED - config.keys()
        if missing:
            raise KeyError(*sorted(missing))
    except (ValueError, KeyError, TypeError) as error:
        _refuse_training_run(folder)
        raise UserError(
            f"{path}: not a model's config ({error!r}); name a folder that `export` wrote"
        ) from error
    if written != (FORMAT, FORMAT_VERSION):
        raise UserError(f"{path}: format {written}, this version reads {(FORMAT, FORMAT_VERSION)}")
    for name in (WEIGHTS, PROGRAM):
        if name not in digests:
            raise UserError(f"{path}: files_sha256 lacks {name}; export the model again")
    for name, digest in digests.items():
        file = folder / name
        if Path(name).name != name or not file.is_file():
            raise UserError(f"{path}: lists {name!r}, which is not a file of this folder")
        if file_digest(file) != digest:
            raise UserError(f"{file}: changed since it was exported (SHA-256 differs); copy again")
    return config


def _refuse_training_run(folder: Path) -> None:
    from vlfau_jax.train.workdir import CHECKPOINTS  # seconds to import, needed only here

    if (folder / CHECKPOINTS).is_dir():
        raise UserError(
            f"--model={folder} is a training run's folder; name one that this writes: "
            f"python -m vlfau_jax export --workdir={folder} --out=MODEL"
        )
