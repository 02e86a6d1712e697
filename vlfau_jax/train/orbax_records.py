"""Orbax's own JSON in a folder of checkpoints, checked before orbax reads it.

Orbax looks the handlers that a checkpoint names up in a table of its own, and imports nothing by
name (0.12.8). It reads what lies in the folders of all steps as it comes, whatever type and size it
has.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints

from vlfau_jax.errors import FileError
from vlfau_jax.records import Record, read_record
from vlfau_jax.train.checkpoint_record import Name, Section
from vlfau_jax.train.manifest import is_step

Nanoseconds = Annotated[int, Field(ge=0, le=2**63)]

STEP_METADATA = "_CHECKPOINT_METADATA"
SCORES = Path("metrics", "metrics")

_LIMIT = 1 << 20  # bytes
_ENTRIES = 100_000  # of a checkpoint's folder

Handler = Annotated[
    str, StringConstraints(pattern=r"^orbax\.checkpoint\.[A-Za-z0-9_.]+$", max_length=300)
]


class StepMetadata(Record):
    """_CHECKPOINT_METADATA: which handler wrote each item, and when."""

    model_config = ConfigDict(extra="ignore")

    item_handlers: dict[Name, Handler] | None = None
    metrics: Section | None = None
    performance_metrics: Section | None = None
    init_timestamp_nsecs: Nanoseconds | None = None
    commit_timestamp_nsecs: Nanoseconds | None = None
    custom_metadata: Section | None = None


Scores = Annotated[dict[Name, Annotated[float, Field(allow_inf_nan=False)]], Field(max_length=100)]


def check_orbax(checkpoints: Path) -> None:
    """Raises FileError for what orbax must not read; its `path` is inside the step's folder.

    Files that are missing are not reported: a run that was killed may have removed them.
    """
    for folder in checkpoints.iterdir() if checkpoints.is_dir() else ():
        if not is_step(folder.name):
            continue
        _check_kinds(folder)
        for path, kind in ((folder / STEP_METADATA, StepMetadata), (folder / SCORES, Scores)):
            if os.path.lexists(path):
                read_record(path, kind, _LIMIT)


def _check_kinds(folder: Path) -> None:
    """Nothing but files and folders, or links to them: a pipe would block for ever."""
    if not folder.is_dir():
        raise FileError(folder, "is no folder")
    count = 0
    for place, folders, files in os.walk(folder):
        count += len(folders) + len(files)
        if count > _ENTRIES:
            raise FileError(folder, f"holds more than {_ENTRIES} files")
        for name in files:
            path = Path(place, name)
            try:
                mode = path.stat().st_mode
            except OSError as error:
                raise FileError(path, f"cannot be read: {error.strerror}") from error
            if not stat.S_ISREG(mode):
                raise FileError(path, "is no regular file (a pipe, socket or device)")
