"""A checkpoint's manifest: its record, and digests by which damage is found before reading.

`{"body": {"record": ..., "arrays": {path: [dtype, shape]}, "files": {path: [bytes, sha256]}},
"sha256": ...}`: the last is of the body as canonical JSON, so that damage to the manifest itself is
found, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from vlfau_jax.files import file_digest, written_whole

MANIFEST = "manifest.json"


class DamagedError(Exception):
    """A checkpoint is not what was written; the message continues a line after its path."""


class Manifest(NamedTuple):
    """The content of a manifest.

    Attributes:
        record: JSON values, strings for keys.
        arrays: [dtype, shape] of every array by its path; {} in checkpoints of earlier versions.
        items: names of the trees of arrays, and of other subfolders.
    """

    record: dict[str, Any]
    arrays: dict[str, list[Any]]
    items: frozenset[str]


def write_manifest(
    folder: Path, record: Mapping[str, Any], arrays: Mapping[str, list[Any]]
) -> None:
    """Writes a `Manifest`, with size and sha256 of every array's file.

    Those are in the subfolders. The files beside them are orbax's own. It may still change them
    when it commits, and nothing is read from them.
    """
    files = [path for path in sorted(folder.glob("*/**/*")) if path.is_file()]
    digests = {str(path.relative_to(folder)): _digest(path) for path in files}
    body = {"record": record, "arrays": arrays, "files": digests}
    text = json.dumps({"body": body, "sha256": _digest_of_json(body)}, indent=0)
    with written_whole(folder / MANIFEST) as partial:
        partial.write_text(text)


def read_manifest(folder: Path) -> Manifest:
    """Reads a checkpoint's manifest; DamagedError unless all files are as they were written."""
    body = _read_body(folder)
    for name, (size, digest) in body["files"].items():
        if found := _damage(folder / name, size, digest):
            raise DamagedError(f"is damaged ({name}{found})")
    items = frozenset(Path(name).parts[0] for name in body["files"])
    return Manifest(body["record"], body.get("arrays", {}), items)


def read_record(folder: Path) -> dict[str, Any]:
    """The record of a checkpoint, whose arrays are not checked; DamagedError without one."""
    return _read_body(folder)["record"]


def finished_steps(checkpoints: Path) -> list[int]:
    """Steps of a run's finished checkpoints, ascending; a folder gets its name when complete."""
    if not checkpoints.is_dir():
        return []
    names = (path.name for path in checkpoints.iterdir() if path.is_dir())
    return sorted(int(name) for name in names if name.isdecimal())


def last_good(checkpoints: Path, before: int | None = None) -> int | None:
    """The newest step (`before` another) whose checkpoint is undamaged; None for none."""
    for step in reversed(finished_steps(checkpoints)):
        if before is None or step < before:
            with suppress(DamagedError):
                read_manifest(checkpoints / str(step))
                return step
    return None


def what_is_left(checkpoints: Path) -> str:
    """How a run that must end can go on, as the end of the line that states the reason."""
    good = last_good(checkpoints)
    if good is None:
        return "there is no good checkpoint to go on from"
    return f"the last good checkpoint is of step {good}: once that is mended, go on with --resume"


def _read_body(folder: Path) -> dict[str, Any]:
    try:
        return _parsed((folder / MANIFEST).read_text())
    except FileNotFoundError as error:
        raise DamagedError(
            f"has no {MANIFEST}: written by an earlier version, or damaged"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DamagedError(f"is damaged ({MANIFEST} cannot be read: {reason})") from error


def _parsed(text: str) -> dict[str, Any]:
    """The body of a manifest; raises what json and lookups raise where it is not one."""
    manifest = json.loads(text)
    body = manifest["body"]
    if _digest_of_json(body) != manifest["sha256"]:
        raise ValueError("its own sha256 differs")
    files = {name: (size, digest) for name, (size, digest) in body["files"].items()}
    return body | {"files": files, "record": body["record"]}


def _damage(path: Path, size: int, digest: str) -> str | None:
    try:
        found = _digest(path)
    except OSError as error:
        return f": {error.strerror}"
    if found[0] != size:
        return f" has {found[0]} bytes, {size} were written"
    return None if found[1] == digest else " is not what was written: its sha256 differs"


def _digest(path: Path) -> tuple[int, str]:
    return path.stat().st_size, file_digest(path)


def _digest_of_json(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
