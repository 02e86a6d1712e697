"""Digests beside what a checkpoint wrote, so that a damaged one is found before it is read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

MANIFEST = "manifest.json"


def write_manifest(folder: Path) -> None:
    """Records size and sha256 of every file in the subfolders of a checkpoint, its arrays' files.

    The files beside them are orbax's own, which it may still touch when it commits.
    """
    files = [path for path in sorted(folder.glob("*/**/*")) if path.is_file()]
    digests = {str(path.relative_to(folder)): _digest(path) for path in files}
    (folder / MANIFEST).write_text(json.dumps(digests, indent=0))


def damage(folder: Path) -> str | None:
    """What differs from the manifest, in a few words; None where nothing does."""
    try:
        recorded = json.loads((folder / MANIFEST).read_text())
        expected = {
            str(name): (int(size), str(digest)) for name, (size, digest) in recorded.items()
        }
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"{MANIFEST} cannot be read: {error}"
    for name, (size, digest) in expected.items():
        try:
            found = _digest(folder / name)
        except OSError as error:
            return f"{name}: {error.strerror}"
        if found[0] != size:
            return f"{name} has {found[0]} bytes, {size} were written"
        if found[1] != digest:
            return f"{name} is not what was written: its sha256 differs"
    return None


def _digest(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest
