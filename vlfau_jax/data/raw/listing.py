"""Lists the folders of a raw tree: what is there, not what should be there.

Symbolic links are followed, also out of the tree: a licence holder may keep the pictures on another
disk and link their folders. The owner of the tree made the links, but not the label files and
lists, so no path in one of those may lead out of the tree (raw/folder.py, raw/me_graphau.py).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

from vlfau_jax.errors import UserError

SYNTHETIC_MARK = "SYNTHETIC.json"  # our own renderer leaves it in the trees it writes

Key = TypeVar("Key")


def raw_folder(raw_dir: str | Path, layout: str) -> Path:
    """Returns `raw_dir` as a path. Raises UserError, naming the `layout`, if it is no folder."""
    root = Path(raw_dir)
    if not os.path.isdir(root):
        raise UserError(f"--raw_dir={raw_dir} is not a folder; expected {layout}")
    return root


def entries(folder: Path) -> list[Path]:
    """Lists a folder, sorted, without hidden names. Raises UserError if it cannot be read."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder} cannot be listed ({error}); expected a folder") from error


def folder_named(root: Path, name: str) -> Path | None:
    """Finds the folder of that name, ignoring case. Raises UserError if there are two."""
    found: dict[str, Path] = {}
    for entry in entries(root):
        if os.path.isdir(entry) and entry.name.casefold() == name.casefold():
            add_once(found, name, entry)
    return found.get(name)


def relative(path: Path, root: Path) -> str:
    """The name of a place in reports: its path below `root`, printable on one line."""
    return printable(path.relative_to(root).as_posix())


def printable(name: str) -> str:
    """A name with its control characters and undecodable bytes escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def add_once(found: dict[Key, Path], key: Key, path: Path) -> None:
    """Adds `path` under `key`.

    Two names for one thing (1.jpg and 0001.jpg, T1 and T01) leave open which one is labelled.

    Raises:
        UserError: `key` is in `found` already.
    """
    if key in found:
        raise UserError(f"{path} and {found[key].name} are the same by name; expected only one")
    found[key] = path
