"""Find the picture files that a user names."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vlfau_jax.errors import UserError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Picture:
    """A picture file.

    Attributes:
        path: the file, as it was given or found.
        frame: its position, from 1, within the input that it came from.
        root: the folder that was searched; for a file, its own folder.
    """

    path: Path
    frame: int
    root: Path


def find_pictures(inputs: Sequence[str | Path]) -> list[Picture]:
    """The pictures that inputs name: files as they are, folders with all below them, sorted.

    Raises:
        UserError: an input that does not exist or is not a picture, or no picture at all.
    """
    if not inputs:
        raise UserError("predict needs an INPUT: a picture, or a folder of pictures")
    found: list[tuple[Path, list[Path]]] = []
    for path in map(Path, inputs):
        if path.is_dir():
            walk = os.walk(path, onerror=_refuse_unreadable_folder)
            below = (Path(root) / name for root, _, names in walk for name in names)
            found.append((path, sorted((p for p in below if _is_picture(p)), key=_natural_key)))
        elif not path.exists():
            raise UserError(f"{path}: no such file or folder")
        elif not _is_picture(path):
            raise UserError(
                f"{path}: not a picture; expected one of {' '.join(SUFFIXES)}, or a folder"
            )
        else:
            found.append((path.parent, [path]))
    if not any(paths for _, paths in found):
        raise UserError(
            f"no picture below {', '.join(map(str, inputs))}; expected files that end in one of "
            f"{' '.join(SUFFIXES)}"
        )
    return [Picture(path, k, root) for root, paths in found for k, path in enumerate(paths, 1)]


def _natural_key(path: Path) -> list[tuple[int, str]]:
    """Sort key that puts 9.jpg before 10.jpg; every number in the path counts as a number."""
    pieces = re.split(r"(\d+)", path.as_posix())
    return [(int(p), p) if p.isdecimal() else (-1, p) for p in pieces]


def _refuse_unreadable_folder(error: OSError) -> None:
    raise UserError(f"{error.filename}: {error.strerror}; its pictures would be left out")


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES
