"""Files and folders: checked before any work is done for them, written whole, digested."""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vlfau_jax.errors import UserError


def absolute_folder(flag: str, path: str | Path) -> Path:
    """`path` made absolute, if it is a folder or can be created as one.

    Args:
        flag: the option that the user gave, for the message.
        path: its value.

    Raises:
        UserError: a file on the way, a folder that may not be written to, no name for a folder.
    """
    folder = Path(os.path.realpath(path))
    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:  # such as a name that is too long
        raise _unusable(flag, path, error) from error
    there = next(p for p in (folder, *folder.parents) if os.path.lexists(p))
    if not os.path.isdir(there):
        raise UserError(f"{flag}={path}: {there} is not a folder; name another place")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{flag}={path}: {there} may not be written to; name another place")
    return folder


def _unusable(flag: str, path: str | Path, error: OSError) -> UserError:
    return UserError(f"{flag}={path}: {error.strerror}; name another place")


@contextmanager
def created(flag: str, folder: Path) -> Iterator[None]:
    """`folder` and those above it; at the end those that it made and that are empty are removed.

    Raises:
        UserError: it cannot be created; `flag` is the option that named its place.
    """
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(flag, folder, error) from error
        yield
    finally:
        for place in new:
            with suppress(OSError):  # not empty
                place.rmdir()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes from preparing in `folder`: each would sweep away the other's work.

    Raises:
        UserError: another process does.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        lock(handle, folder, f"{folder} is being prepared by another process; wait for it")
        yield
    finally:
        os.close(handle)


def lock(handle: int, folder: Path, taken: str) -> None:
    """Locks an open file until it is closed or its process ends, be it by SIGKILL.

    Where the file system of `folder` has no locks, a line on stderr says so.

    Raises:
        UserError: another process holds the lock; `taken` is the message.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(taken) from error
    except OSError as error:  # some network file systems
        print(f"{folder} cannot be locked ({error}): start nothing else in it", file=sys.stderr)


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits. Raises OSError if it cannot be read."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def new_file(flag: str, path: str | Path) -> Path:
    """`path` of a file that is to be created, if nothing is there yet.

    Raises:
        UserError: it exists; `flag` is the option that named it.
    """
    path = Path(path)
    if path.exists():
        raise UserError(f"{flag}={path} exists; name a new file")
    return path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Gives another name to write under; the file gets its own once all of it is there."""
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
