"""Counts the files of a raw tree: those that were read, and all others by why they were not."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

PICTURES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm")
HIDDEN = "hidden names"
LINKS = "links to folders in which nothing was read"
NO_FILES = "links that lead nowhere, pipes and devices"
UNLABELLED = "pictures without a label"
_MOST_ENDINGS, _LONGEST_ENDING = 40, 10


def account_files(root: Path, used: Collection[str]) -> dict[str, Any]:
    """Looks at every name below a folder, once.

    A link to a folder is followed where something behind it was read: others may lead anywhere.

    Args:
        root: the raw tree.
        used: the paths of the files that were read, below `root`; others are left out.

    Returns:
        JSON values: `found`, `used`, `passed_over` (reason -> number), which add up, and
        `not_found_again`, the used files that have gone meanwhile.
    """
    top = os.path.abspath(root)
    used = {os.path.abspath(path) for path in used} if not root.is_absolute() else set(used)
    used = {path for path in used if path.startswith(top + os.sep)}
    folders: set[str] = set()
    for path in used:
        while (path := os.path.dirname(path)) not in folders and len(path) >= len(top):
            folders.add(path)
    found, read, reasons = 0, 0, Counter[str]()
    waiting = [top]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if _is_folder(entry, folders):
                        waiting.append(entry.path)
                        continue
                    found += 1
                    if entry.path in used:
                        read += 1
                    else:
                        reasons[_reason(entry, reasons)] += 1
        except OSError:  # a folder that may not be listed
            found += 1
            reasons["folders that cannot be listed"] += 1
    if found != read + reasons.total():
        raise AssertionError(f"{found} files are not {read} and {reasons.total()}")
    return {
        "found": found,
        "used": read,
        "passed_over": dict(reasons.most_common()),
        "not_found_again": len(used) - read,
    }


def _is_folder(entry: os.DirEntry[str], folders: Collection[str]) -> bool:
    """Whether to look into it: a folder, or a link to one in which something was read."""
    if entry.is_symlink():
        return entry.path in folders
    return entry.is_dir() and (not entry.name.startswith(".") or entry.path in folders)


def _reason(entry: os.DirEntry[str], known: Collection[str]) -> str:
    if entry.name.startswith("."):
        return HIDDEN
    if entry.is_symlink() and entry.is_dir():
        return LINKS
    if not entry.is_file():
        return NO_FILES
    ending = os.path.splitext(entry.name)[1].lower()
    if ending in PICTURES:
        return UNLABELLED
    if not ending:
        return "names without an ending"
    text = f"*{ending}" if ending.isprintable() else ""
    plain = bool(text) and len(ending) <= _LONGEST_ENDING and ending.isascii()
    return text if plain and (text in known or len(known) < _MOST_ENDINGS) else "other endings"
