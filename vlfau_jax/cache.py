"""Folders of this user for what can be had again: compiled programs, copies of buckets."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def cache_folder(*names: str) -> Path:
    """`$XDG_CACHE_HOME/vlfau_jax/NAME/...` (`~/.cache/...`), made where it is missing.

    What is read from there is trusted, and who owns a folder can replace those inside: every folder
    of ours on the way is looked at.

    Raises:
        OSError: names what is wrong: no folder, another user's, or one that others may write to.
        RuntimeError: there is no home.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    # As the XDG base directory specification asks, a relative path is ignored.
    place = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    place.mkdir(parents=True, exist_ok=True)
    for name in ("vlfau_jax", *names):
        place = place / name
        place.mkdir(mode=0o700, exist_ok=True)
        found = place.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise OSError(f"{place} is not a folder")
        if found.st_uid != os.geteuid():
            raise OSError(f"{place} belongs to another user")
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise OSError(f"others may write to {place}; chmod 700 it, or remove it")
    if not os.access(place, os.W_OK | os.X_OK):
        raise OSError(f"{place} may not be written to")
    return place
