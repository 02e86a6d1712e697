"""What a run writes into its workdir, recognised entry by entry: nothing else is ever removed."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from vlfau_jax.errors import FileError
from vlfau_jax.files import open_regular
from vlfau_jax.records import Record, Text, parse_record, read_record
from vlfau_jax.train.checkpoint_record import Count, Name, RunConfig, Steps
from vlfau_jax.train.manifest import DamagedError, is_step, read_manifest
from vlfau_jax.train.metrics import METRICS_FILE, read_lines
from vlfau_jax.train.nonfinite import NONFINITE_FILE
from vlfau_jax.train.watch import WATCH_FILE, WatchRecord
from vlfau_jax.train.writer import DAMAGED_FILE, EVENTS_FOLDER

CONFIG_FILE = "config.json"
FINAL_FILE = "final.json"
CHECKPOINTS = "checkpoints"

_LINE_LIMIT = 1 << 20  # bytes of a line of predictions.jsonl
_PAGE_LIMIT = 1 << 30
_METRICS_BEGIN = b'{"step": '  # all of what is left of a first line that was not finished
_PAGE = b"<!doctype html>"

# The folders and files of a checkpoint, finished or not, as orbax and TensorStore name them.
_ITEM = r"(params|ema|optimizer|metrics)(\.orbax-checkpoint-tmp[-\w]*)?"
# TensorStore holds a lock of a file's name while it writes the file; a kill leaves it there.
_LOCK = r"(\.__lock)?"
_STORE = rf"(d|d/[0-9a-f]{{32}}|manifest\.ocdbt){_LOCK}"
_FILE = rf"(_METADATA|_sharding|metrics|commit_success\.txt|array_metadatas/process_\d+){_LOCK}"
_PART = re.compile(
    r"_CHECKPOINT_METADATA|commit_success\.txt|\.?manifest\.json(\.partial)?|"
    rf"{_ITEM}(/({_FILE}|array_metadatas|ocdbt\.process_\d+(/{_STORE})?|{_STORE}))?"
)
_DRAFT = re.compile(r"\d+\.orbax-checkpoint-tmp[-.\w]*")
_EVENTS = re.compile(r"events\.out\.tfevents\.[^/]+")


class FinalRecord(Record):
    """final.json: how a run ended."""

    model_config = ConfigDict(extra="ignore")

    step: Steps
    params_digest: Name
    seconds: dict[Name, Annotated[float, Field(ge=0)]]
    images_per_second: Annotated[float, Field(ge=0)] | None = None
    skipped: Count = 0
    code: Text | None = None  # of versions that recorded it


class _Face(Record):
    subject: Name
    task: int
    frame: int


class NonFiniteRecord(Record):
    """nonfinite.json: the step whose values were not finite, and the faces that it saw."""

    step: Steps
    values: dict[Name, Text]
    faces: Annotated[list[_Face], Field(max_length=1_000_000)]


class _Scores(Record):
    """scores.json of an evaluation, as far as it is recognised by it."""

    model_config = ConfigDict(extra="ignore")

    mean_f1: Any
    per_au: dict[Name, Any]


class _PredictionLine(Record):
    model_config = ConfigDict(extra="ignore")

    subject: Name
    per_au: dict[Name, Any]


def check_ours(workdir: Path, names: Iterable[str]) -> None:
    """Raises FileError for the first entry under one of the `names` that no run wrote.

    Entries of other names are nobody's business: a workdir may hold the data set, too.
    """
    for name in names:
        if os.path.lexists(workdir / name):
            _RECOGNISED[name](workdir / name)


def check_removable(checkpoints: Path) -> None:
    """Raises FileError for a folder that a resumed run would remove in time, and that is no run's.

    Orbax removes the folders of older steps, and those of steps that were not finished. Here the
    folder itself may be a link, to a larger disk.
    """
    if checkpoints.is_dir():
        for inner in checkpoints.iterdir():
            if is_step(inner.name) or ".orbax-checkpoint-tmp" in inner.name:
                _check_checkpoint(inner, _listed(inner))


def _regular(path: Path) -> None:
    if not stat.S_ISREG(path.lstat().st_mode):
        raise FileError(path, "is no regular file")


def _record(kind: type[Any]) -> Callable[[Path], None]:
    def recognise(path: Path) -> None:
        _regular(path)
        read_record(path, kind)

    return recognise


def _metrics(path: Path) -> None:
    _regular(path)
    if any(metrics for _, metrics in islice(read_lines(path), 100)):
        return
    if not (_METRICS_BEGIN.startswith(begin := _first_bytes(path, len(_METRICS_BEGIN)))):
        raise FileError(path, f"holds no line of metrics, but begins with {begin!r}")


def _predictions(path: Path) -> None:
    _regular(path)
    with open_regular(path, 1 << 40) as file:
        if line := file.readline(_LINE_LIMIT):
            parse_record(line, _PredictionLine, path)


def _page(path: Path) -> None:
    _regular(path)
    if _first_bytes(path, len(_PAGE)).lower() != _PAGE:
        raise FileError(path, "is no page of `evaluate`")


def _first_bytes(path: Path, count: int) -> bytes:
    with open_regular(path, _PAGE_LIMIT) as file:
        return file.read(count)


def _events(path: Path) -> None:
    for inner in _entries(path):
        if not _EVENTS.fullmatch(inner.name):
            raise FileError(inner, "is no file of events")
        _regular(inner)


def _checkpoints(path: Path) -> None:
    """Checkpoints have a manifest, which some lack that were not finished, or removed in part."""
    found = {inner: _listed(inner) for inner in _entries(path)}
    try:
        read_record(path.with_name(CONFIG_FILE), RunConfig)
        known = True
    except FileError:
        known = any(listed is not None for listed in found.values())
    for inner, listed in found.items():
        if not known:
            raise FileError(inner, "has no manifest of a run's checkpoint")
        _check_checkpoint(inner, listed)


def _check_checkpoint(folder: Path, listed: frozenset[str] | None) -> None:
    if not (is_step(folder.name) or _DRAFT.fullmatch(folder.name)):
        raise FileError(folder, "is no checkpoint")
    for part in _below(folder):
        name = str(part.relative_to(folder))
        if not (_PART.fullmatch(name) or name in (listed or ())):
            raise FileError(part, "is no part of a checkpoint")


def _listed(folder: Path) -> frozenset[str] | None:
    try:
        return frozenset(read_manifest(folder).files)
    except DamagedError:
        return None


def _entries(path: Path) -> Iterator[Path]:
    linked = path.is_symlink()
    if not path.is_dir():
        raise FileError(path, "is no folder")
    for inner in sorted(path.iterdir()):
        if linked:
            raise FileError(path, "is a link, and what is behind it is left alone")
        yield inner


def _below(folder: Path) -> Iterator[Path]:
    for inner in _entries(folder):
        yield inner
        if stat.S_ISDIR(inner.lstat().st_mode):
            yield from _below(inner)
        else:
            _regular(inner)


_RECOGNISED: dict[str, Callable[[Path], None]] = {
    CONFIG_FILE: _record(RunConfig),
    METRICS_FILE: _metrics,
    DAMAGED_FILE: _regular,
    EVENTS_FOLDER: _events,
    CHECKPOINTS: _checkpoints,
    FINAL_FILE: _record(FinalRecord),
    NONFINITE_FILE: _record(NonFiniteRecord),
    WATCH_FILE: _record(WatchRecord),
    "scores.json": _record(_Scores),
    "predictions.jsonl": _predictions,
    "report.html": _page,
}
# How a run ended: stale once it is resumed.
ENDS = (FINAL_FILE, NONFINITE_FILE)
# What says that a run was here, and all that is stale once it is replaced.
RUN = (CONFIG_FILE, METRICS_FILE, EVENTS_FOLDER, CHECKPOINTS, *ENDS)
REPLACED = tuple(_RECOGNISED)
