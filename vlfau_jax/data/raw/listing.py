"""Folders of a raw tree, listed as they are: what is there, never what ought to be there.

Symbolic links are followed, out of the tree too: who holds a licence may keep the pictures on
another disk and link their folders in. A link is the tree owner's word; what a label file or a list
says is not, so no path that stands in one leads out (raw/folder.py, raw/me_graphau.py).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

from vlfau_jax.errors import UserError

SYNTHETIC_MARK = "SYNTHETIC.json"  # our own renderer leaves it in the trees it writes

Key = TypeVar("Key")


def raw_folder(raw_dir: str | Path, layout: str) -> Path:
    """`raw_dir` if it is a folder. Raises UserError, naming the `layout` expected, otherwise."""
    root = Path(raw_dir)
    if not os.path.isdir(root):
        raise UserError(f"--raw_dir={raw_dir} is not a folder; expected {layout}")
    return root


def entries(folder: Path) -> list[Path]:
    """What a folder holds, sorted; hidden names are left out. Raises UserError if unreadable."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder} cannot be listed ({error}); expected a folder") from error


def folder_named(root: Path, name: str) -> Path | None:
    """The folder of that name whatever its upper and lower case. Raises UserError if two are."""
    found: dict[str, Path] = {}
    for entry in entries(root):
        if os.path.isdir(entry) and entry.name.casefold() == name.casefold():
            once(found, name, entry)
    return found.get(name)


def relative(path: Path, root: Path) -> str:
    """How reports name a place: its path below `root`, on one line whatever its name holds."""
    return printable(path.relative_to(root).as_posix())


def printable(name: str) -> str:
    """A name as it can be printed: control characters and undecodable bytes are escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def once(found: dict[Key, Path], key: Key, path: Path) -> None:
    """Two names for one thing (1.jpg and 0001.jpg, T1 and T01) leave open which one is labelled.

    Raises:
        UserError: `key` was found before.
    """
    if key in found:
        raise UserError(f"{path} and {found[key].name} are the same by name; expected only one")
    found[key] = path
