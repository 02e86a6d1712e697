"""An earlier run in the workdir that a new one replaces: moved aside, put back, or removed.

It lies in .replaced/ until the new run has a finished checkpoint. Entries move one by one, by way
of .replaced.partial/: what a process that was killed meanwhile has left there goes back first.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vlfau_jax.errors import FileError, UserError
from vlfau_jax.train.manifest import finished_steps
from vlfau_jax.train.run_files import CHECKPOINTS, REPLACED, check_ours

REPLACED_FOLDER = ".replaced"
_MOVING = ".replaced.partial"


def recover(workdir: Path) -> None:
    """Goes on where an earlier process was killed; says so where an earlier run still lies aside.

    Raises:
        UserError: what lies at the place of .replaced/ is not of a run.
    """
    for name in (_MOVING, REPLACED_FOLDER):
        if os.path.lexists(workdir / name):
            _check(workdir / name)
    _move_back(workdir)
    if not begun(workdir):
        print(
            f"{workdir}: the run that was here before is kept in {REPLACED_FOLDER}/ until this one "
            "has its first checkpoint",
            file=sys.stderr,
        )


def begun(workdir: Path) -> bool:
    """Whether a run has a finished checkpoint; an earlier one that it replaces is removed then.

    True as well where it replaces none: there is then nothing to ask again.
    """
    if not (workdir / REPLACED_FOLDER).is_dir():
        return True
    if not finished_steps(workdir / CHECKPOINTS):
        return False
    drop(workdir)
    return True


def move_aside(workdir: Path) -> None:
    """Moves what an earlier run and its evaluation left to .replaced/.

    Where an earlier run lies there already, the one that was to replace it has no checkpoint, and
    is removed.

    Raises:
        UserError: among it is something that no run wrote; then nothing was moved.
    """
    with told("--overwrite", workdir):
        check_ours(workdir, REPLACED)
    if (workdir / REPLACED_FOLDER).exists():
        _remove_run(workdir)
        return
    # A folder that is a link is empty, see `check_ours`: it stays, for the new run.
    paths = [workdir / name for name in REPLACED if os.path.lexists(workdir / name)]
    paths = [path for path in paths if not path.is_symlink()]
    if paths:
        (workdir / _MOVING).mkdir()
        for path in paths:
            os.rename(path, workdir / _MOVING / path.name)
        os.rename(workdir / _MOVING, workdir / REPLACED_FOLDER)


def put_back(workdir: Path) -> None:
    """Puts an earlier run back, where the one that was to replace it has no checkpoint."""
    if begun(workdir):
        return
    try:
        check_ours(workdir, REPLACED)
        _remove_run(workdir)
        os.rename(workdir / REPLACED_FOLDER, workdir / _MOVING)
        _move_back(workdir)
        message = "the run that was here before was put back"
    except (FileError, OSError) as error:
        message = f"the run that was here before is in {REPLACED_FOLDER}/ ({error})"
    print(f"{workdir}: {message}", file=sys.stderr)


def drop(workdir: Path) -> None:
    """Removes the earlier run for good."""
    with suppress(OSError):  # the next run in this folder removes what is left
        if os.path.lexists(workdir / REPLACED_FOLDER):
            shutil.rmtree(workdir / REPLACED_FOLDER)


@contextmanager
def told(flag: str, workdir: Path) -> Iterator[None]:
    """UserError for an entry that no run wrote."""
    try:
        yield
    except FileError as error:
        raise UserError(
            f"{flag}: {error}, so nothing in {workdir} is removed; move it away, or take another "
            "folder"
        ) from error


def _check(folder: Path) -> None:
    if folder.is_symlink() or not folder.is_dir():
        raise UserError(f"{folder} is in the way; move it away")
    other = sorted({path.name for path in folder.iterdir()} - {*REPLACED})
    if other:
        raise UserError(f"{folder / other[0]} is not of a run that was replaced; move it away")
    with told("--workdir", folder):
        check_ours(folder, REPLACED)


def _move_back(workdir: Path) -> None:
    moving = workdir / _MOVING
    if moving.is_dir():
        for path in moving.iterdir():
            if os.path.lexists(workdir / path.name):
                raise UserError(f"{path} and {workdir / path.name} are both there; keep one")
            os.rename(path, workdir / path.name)
        moving.rmdir()


def _remove_run(workdir: Path) -> None:
    for name in REPLACED:
        path = workdir / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif not path.is_dir():
            path.unlink(missing_ok=True)
