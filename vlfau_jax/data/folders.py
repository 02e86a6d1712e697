"""Where output goes: folders checked before any work is done for them, files written whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vlfau_jax.errors import UserError


def absolute_folder(flag: str, path: str | Path) -> Path:
    """`path` made absolute, if it is a folder or can be created as one.

    Args:
        flag: the option that the user gave, for the message.
        path: its value.

    Raises:
        UserError: a file on the way, or a folder that may not be written to.
    """
    folder = Path(os.path.realpath(path))
    there = next(p for p in (folder, *folder.parents) if os.path.lexists(p))
    if not os.path.isdir(there):
        raise UserError(f"{flag}={path}: {there} is not a folder; name another place")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{flag}={path}: {there} may not be written to; name another place")
    return folder


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Gives another name to write under; the file gets its own once all of it is there."""
    partial = path.with_name(path.name + ".partial")
    yield partial
    os.replace(partial, path)
