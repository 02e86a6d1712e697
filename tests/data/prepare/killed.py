"""Prepares again and again, and each time kills itself before one later change of a folder.

`python -m tests.data.prepare.killed RAW ROOT [OLD]` leaves in ROOT/1, ROOT/2, ... what is there
after a kill before the first, the second, ... change; in each of them OLD is replaced, if given.
The last one was not killed. It is a program because JAX, which tests import, forbids to fork.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from tests.data.builds import build

CHANGES = ("replace", "rename", "mkdir", "link", "unlink", "rmdir")


def kill_before(n: int) -> None:
    """Has this process killed before its n-th change."""
    count = 0

    def counted(change: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            nonlocal count
            count += 1
            if count == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return change(*arguments, **options)

        return call

    for name in CHANGES:
        setattr(os, name, counted(getattr(os, name)))


def main(raw: Path, root: Path, old: Path | None = None) -> None:
    status, n = 1, 0
    while status:
        n += 1
        if old is not None:
            shutil.copytree(old, root / str(n))
        child = os.fork()
        if not child:
            kill_before(n)
            build(raw, root / str(n), overwrite=old is not None)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status) or status == 0


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
