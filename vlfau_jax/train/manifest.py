"""A checkpoint's manifest: its record, and digests by which damage is found before it is read.

`{"body": {"record": ..., "files": {path: [bytes, sha256]}}, "sha256": ...}`: the last is of the
body as canonical JSON, so that the manifest vouches for itself, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


class DamagedError(Exception):
    """A checkpoint is not what was written; the message goes on after its name."""


def write_manifest(folder: Path, record: Mapping[str, Any]) -> None:
    """Writes `record` (JSON values, strings for keys) and size and sha256 of every array's file.

    Those lie in the subfolders. The files beside them are orbax's own, which it may still touch
    when it commits, and which hold nothing that is read.
    """
    files = [path for path in sorted(folder.glob("*/**/*")) if path.is_file()]
    digests = {str(path.relative_to(folder)): _digest(path) for path in files}
    body = {"record": record, "files": digests}
    text = json.dumps({"body": body, "sha256": _digest_of_json(body)}, indent=0)
    (folder / MANIFEST).write_text(text)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The record of a checkpoint all of whose files are what was written; DamagedError if not."""
    try:
        record, files = _parsed((folder / MANIFEST).read_text())
    except FileNotFoundError as error:
        raise DamagedError(f"has no {MANIFEST}: written by an older version, or damaged") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DamagedError(f"is damaged ({MANIFEST} cannot be read: {reason})") from error
    for name, (size, digest) in files.items():
        if found := _damage(folder / name, size, digest):
            raise DamagedError(f"is damaged ({name}{found})")
    return record


def _parsed(text: str) -> tuple[dict[str, Any], dict[str, tuple[int, str]]]:
    """Record and files of a manifest; raises what json and lookups raise where it is not one."""
    manifest = json.loads(text)
    body = manifest["body"]
    if _digest_of_json(body) != manifest["sha256"]:
        raise ValueError("its own sha256 differs")
    return body["record"], {name: (size, of) for name, (size, of) in body["files"].items()}


def _damage(path: Path, size: int, digest: str) -> str | None:
    try:
        found = _digest(path)
    except OSError as error:
        return f": {error.strerror}"
    if found[0] != size:
        return f" has {found[0]} bytes, {size} were written"
    return None if found[1] == digest else " is not what was written: its sha256 differs"


def _digest(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


def _digest_of_json(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
