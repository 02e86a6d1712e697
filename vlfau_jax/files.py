"""Files and folders: checked before any work is done for them, read bounded, written whole.

What is being written has a hidden name beside its place, `.NAME.partial`, which is created
exclusively, never through a symbolic link, and locked while its process lives. So that name says
that a place is taken, and what a dead process left there is swept by the next one.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from vlfau_jax.errors import FileError, InUse, UserError, is_exhausted

# Bytes that a file of a kind may have: far above any real one, far below a machine's memory.
RECORD_LIMIT = 64 << 20  # JSON
TABLE_LIMIT = 1 << 30  # labels, landmarks, boxes
PICTURE_LIMIT = 256 << 20

# What a process or machine has no more of: it says nothing about the file that was to be opened.
OUT_OF = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


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


def _unusable(flag: str, path: str | Path, error: OSError) -> Exception:
    if is_exhausted(error):  # not by the place
        return error
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
        _remove_empty(new)


def _remove_empty(places: Sequence[Path]) -> None:
    for place in places:
        with suppress(OSError):  # not empty
            place.rmdir()


@contextmanager
def claimed(flag: str, folder: Path) -> Iterator[None]:
    """`folder` as `created` gives it, and `locked`.

    A process that is refused removes no folder: the other one is about to use it.

    Raises:
        UserError: it cannot be created, or another process works there.
    """
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # another process has just removed it, or one above it, as empty
        except OSError as error:
            raise _unusable(flag, folder, error) from error
        try:
            lock(handle, folder, _TAKEN.format(folder))
            if os.path.samestat(os.stat(folder), os.fstat(handle)):
                break
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
    try:
        yield
    finally:
        _remove_empty(new)
        os.close(handle)


_TAKEN = "{} is being written by another process; wait for it"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes that ask the same from working in `folder`, which exists.

    Raises:
        InUse: another process works there.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        lock(handle, folder, _TAKEN.format(folder))
        yield
    finally:
        os.close(handle)


@contextmanager
def locked_in_turn(folder: Path) -> Iterator[None]:
    """As `locked`, but waits while another process works there."""
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(folder))
                break
            except InUse:
                time.sleep(0.5)
        yield


def lock(handle: int, folder: Path, taken: str) -> None:
    """Locks an open file until it is closed or its process ends, be it by SIGKILL.

    Where the file system of `folder` has no locks, a line on stderr says so.

    Raises:
        InUse: another process holds the lock; `taken` is the message.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InUse(taken) from error
    except OSError as error:  # some network file systems
        print(f"{folder} cannot be locked ({error}): start nothing else in it", file=sys.stderr)


@contextmanager
def named(place: Path) -> Iterator[None]:
    """Names `place` in an OSError that has no name, as that of a write on a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(place)) from error


def file_digest(path: str | Path, limit: int = sys.maxsize) -> str:
    """SHA-256 of the bytes of a regular file, 64 hexadecimal digits.

    Raises:
        FileError: it is none, has more than `limit` bytes, or cannot be opened.
        OSError: its bytes cannot be read.
    """
    with open_regular(path, limit) as file:
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


def open_regular(path: str | Path, limit: int) -> BinaryIO:
    """Opens a regular file of at most `limit` bytes to read it; links to one are followed.

    A FIFO or a device would block, or never end; a sparse file has any size for no bytes on disk.

    Raises:
        FileError: it is none, is larger, or cannot be opened.
        OSError: the process has no more file descriptors or memory (`OUT_OF`).
    """
    try:
        _check_regular(path, os.stat(path), limit)  # opening a device can have effects
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    try:
        _check_regular(path, os.fstat(handle), limit)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def regular_size(path: str | Path, limit: int) -> int:
    """Bytes of a regular file, which is not opened; links to one are followed.

    Raises:
        FileError: it is none, is larger than `limit`, or cannot be asked.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    _check_regular(path, status, limit)
    return status.st_size


def _unreadable(path: str | Path, error: OSError | ValueError) -> FileError:
    if isinstance(error, OSError) and error.errno in OUT_OF:
        raise error
    # ValueError: a NUL character in the name.
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return FileError(path, f"cannot be read: {reason}")


def _check_regular(path: str | Path, status: os.stat_result, limit: int) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise FileError(path, "is a folder; expected a file")
    if not stat.S_ISREG(status.st_mode):
        raise FileError(path, "is no regular file (a pipe, socket or device)")
    if status.st_size > limit:
        raise FileError(path, f"has {status.st_size} bytes; at most {limit} are read of such files")


def read_bytes(path: str | Path, limit: int) -> bytes:
    """All bytes of a regular file of at most `limit`.

    Raises:
        FileError: it is none, is larger, or cannot be read.
    """
    with open_regular(path, limit) as file:
        try:
            content = file.read(limit + 1)
        except OSError as error:
            raise FileError(path, f"cannot be read: {error.strerror}") from error
    if len(content) > limit:  # it has grown
        raise FileError(path, f"has more than {limit} bytes")
    return content


def clear(folder: Path, but: Collection[str] = ()) -> None:
    """Removes all in a folder but regular files of these names; follows no link."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name not in but or path.is_symlink() or not path.is_file():
            path.unlink()


def partial_name(path: Path) -> Path:
    """Where what will be `path` is written until it is whole."""
    return path.with_name(f".{path.name}.partial")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Gives another name to write under; the file gets its own once all of it is there.

    Raises:
        UserError: another process is writing it.
    """
    partial = partial_name(path)
    handle = _claim(partial, path, lambda: os.open(partial, _CREATE, 0o666))
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
        os.close(handle)


_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def _claim(
    partial: Path, place: Path, create: Callable[[], int], *, keep_folder: bool = False
) -> int:
    """A locked handle of `partial`: created, or left by a dead process and removed or taken over.

    Args:
        partial: the hidden name.
        place: what it is for, for the message.
        create: creates it and returns an open handle; FileExistsError where something is there.
        keep_folder: a folder that a dead process left is taken over, not removed.
    """
    taken = f"{place} is being written by another process; wait for it, or name another place"
    while True:
        try:
            handle, created_now = create(), True
        except FileExistsError:
            try:
                handle, created_now = os.open(partial, _OPEN), False
            except FileNotFoundError:
                continue  # its process has just finished
            except OSError as error:  # ELOOP: a symbolic link
                raise UserError(
                    f"{partial} is in the way ({error.strerror}); remove it or name another place"
                ) from error
        except OSError as error:  # the hidden name would say nothing to a user
            raise OSError(error.errno, error.strerror, str(place)) from error
        try:
            lock(handle, place.parent, taken)
            if not _names(partial, handle):
                pass  # finished or swept by its process before we had the lock
            elif created_now or (keep_folder and partial.is_dir()):
                return handle
            elif partial.is_dir():
                shutil.rmtree(partial)
            else:
                partial.unlink()
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _names(path: Path, handle: int) -> bool:
    """Whether `path` itself, no link, is the open file."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _open_new_folder(path: Path) -> int:
    path.mkdir()
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


@contextmanager
def written_together(folder: Path, names: Sequence[str], *, keep: bool = False) -> Iterator[Path]:
    """Gives a folder to write the files and folders `names` of one result; all change together.

    Of `names`, those that are not written are removed from `folder`: they would be of another
    result. A process that dies between the renames has left a folder from which the next call goes
    on with them.

    Args:
        folder: exists; where the files belong.
        names: of all files of the result; the first one names the hidden folder.
        keep: where the body fails or its process dies, what it wrote stays in the hidden folder,
            and the next call with `keep` finds it there; else, and if it is empty, it is removed.

    Raises:
        UserError: another process is writing them.
    """
    place = folder / names[0]
    partial, complete = partial_name(place), place.with_name(f".{names[0]}.complete")
    handle = _claim(partial, place, lambda: _open_new_folder(partial), keep_folder=keep)
    try:
        if complete.is_dir() and not complete.is_symlink():
            _move_all(complete, folder, names)
        yield partial
        os.rename(partial, complete)
        _move_all(complete, folder, names)
    finally:
        if _names(partial, handle) and not (keep and any(partial.iterdir())):
            shutil.rmtree(partial)
        os.close(handle)


def _move_all(complete: Path, folder: Path, names: Sequence[str]) -> None:
    for name in names:
        if (complete / name).exists():
            (complete / f"{name}.moved").touch()  # an interrupted call is not to remove it
            _remove_folder(folder / name)
            os.replace(complete / name, folder / name)
        elif not (complete / f"{name}.moved").exists():
            _remove_folder(folder / name)
            (folder / name).unlink(missing_ok=True)
    shutil.rmtree(complete)


def _remove_folder(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)


@contextmanager
def replaced_folder(folder: Path, foreign: Callable[[Path], str | None]) -> Iterator[Path]:
    """Gives an empty folder to fill; it then takes the place of `folder`, whole.

    What was there is moved aside first and removed last. A process that dies in between has left
    both, and the next call puts the old one back where there is no new one.

    Args:
        folder: need not exist; its parent does.
        foreign: given `folder`, names an entry that must not be removed, if any.

    Raises:
        UserError: another process is writing it, or it has a foreign entry.
    """
    partial, old = partial_name(folder), folder.with_name(f".{folder.name}.replaced")
    handle = _claim(partial, folder, lambda: _open_new_folder(partial))
    try:
        if old.is_dir() and not old.is_symlink():
            if folder.exists():
                shutil.rmtree(old)
            else:
                os.rename(old, folder)
        _refuse_foreign(folder, foreign)
        yield partial
        _refuse_foreign(folder, foreign)  # it may have come meanwhile
        if folder.exists():
            os.rename(folder, old)
        os.rename(partial, folder)
        if old.exists():
            shutil.rmtree(old)
    finally:
        if _names(partial, handle):
            shutil.rmtree(partial)
        os.close(handle)


def _refuse_foreign(folder: Path, foreign: Callable[[Path], str | None]) -> None:
    if folder.exists() and (name := foreign(folder)):
        raise UserError(f"{folder} holds {name}, which is not ours to remove; name another place")


def open_in_place(path: Path, flags: int) -> int:
    """A descriptor of a regular file that is written where it is, created if nothing is there.

    Raises:
        FileError: something else is there, such as a symbolic link; it stays as it is.
        OSError: it cannot be opened or created.
    """
    with suppress(FileNotFoundError):  # opening a device can have effects
        _check_own(path, os.lstat(path))
    flags |= os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    handle = os.open(path, flags, 0o666)
    try:
        _check_own(path, os.fstat(handle))
    except BaseException:
        os.close(handle)
        raise
    return handle


def _check_own(path: Path, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise FileError(path, "is a symbolic link, through which nothing is written; remove it")
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise FileError(path, f"is {what}; expected a file of ours, move it away")
