"""Find the pictures and videos that a user names, and say what was passed over."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from vlfau_jax.data.raw.decoding import FORMATS, HEAD, Kind, kind_of
from vlfau_jax.errors import FileError, UserError, printable
from vlfau_jax.files import PICTURE_LIMIT, open_regular
from vlfau_jax.inference.video import KINDS

# A file that ends so gets a row even if it is damaged; of any other one the first bytes decide.
SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
STDIN = "-"
_LARGEST = 1 << 62  # bytes of a file of which the first are read
_NAMED = 3  # of the files that were passed over for one reason


@dataclass(frozen=True)
class Picture:
    """A picture or video file.

    Attributes:
        path: the file, as it was given or found.
        frame: its position, from 1, within the input that it came from.
        root: the folder that was searched; for a file, its own folder.
        video: whether it has many frames.
    """

    path: Path
    frame: int
    root: Path
    video: bool = False


@dataclass
class Found:
    """What inputs hold.

    Attributes:
        pictures: in the order of the inputs, those of a folder sorted.
        passed_over: reason -> the other files, and the links to folders that are not followed.
    """

    pictures: list[Picture] = field(default_factory=list)
    passed_over: dict[str, list[Path]] = field(default_factory=dict)

    def pass_over(self, reason: str, path: Path) -> None:
        """Notes a file or link that is no picture to be read."""
        self.passed_over.setdefault(reason, []).append(path)


def passed_over_lines(passed_over: Mapping[str, Sequence[Path]]) -> list[str]:
    """For each reason of `Found.passed_over` a line, which names the first files."""
    lines = []
    for reason, paths in sorted(passed_over.items()):
        names = ", ".join(printable(path.name) for path in paths[:_NAMED])
        more = ", ..." if len(paths) > _NAMED else ""
        lines.append(f"passed over: {reason}: {len(paths)} ({names}{more})")
    return lines


def find_pictures(inputs: Sequence[str | Path]) -> Found:
    """The pictures and videos that inputs name: files, and folders with all below them, sorted.

    What a file is is known by how its name ends or by its first bytes; a GIF of several pictures is
    a video. Links to folders are followed, each folder is read once.

    Raises:
        UserError: an input that does not exist or is not a picture, or no picture at all.
    """
    if not inputs:
        raise UserError("an INPUT is missing: give a picture, a video, or a folder of them")
    found = Found()
    for path in map(Path, inputs):
        if path.is_dir():
            below = sorted(_pictures_below(path, found), key=_natural_key)
            found.pictures += [
                Picture(one, k, path, _is_video(one)) for k, one in enumerate(below, 1)
            ]
        elif not os.path.lexists(path):
            raise UserError(f"{path}: no such file or folder")
        else:
            _refuse_other_file(path)
            found.pictures.append(Picture(path, 1, path.parent, _is_video(path)))
    named, found.pictures = found.pictures, []
    videos = set()
    for one in named:
        if one.path in videos:  # its rows are told from another's by its name
            found.pass_over("videos that were named before", one.path)
            continue
        found.pictures.append(one)
        if one.video:
            videos.add(one.path)
    if not found.pictures:
        counts = (f"{reason}: {len(paths)}" for reason, paths in found.passed_over.items())
        raise UserError(
            f"no picture and no video below {', '.join(map(str, inputs))}; expected {FORMATS}, "
            f"or {KINDS} "
            f"({'; '.join(counts) or 'there is no file'})"
        )
    return found


def _pictures_below(root: Path, found: Found) -> list[Path]:
    """The pictures below a folder; the other files are noted as passed over."""
    pictures, seen = [], set()
    # Folders in their own place before links to them, so that pictures have their own names.
    folders, links = [root], []
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            found.pass_over("links to a folder that is read anyway", folder)
            continue
        seen.add((status.st_dev, status.st_ino))
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(
                f"{error.filename}: {error.strerror}; its pictures would be left out"
            ) from error
        for entry in entries:
            path = folder / entry.name
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
            elif entry.is_dir():
                links.append(path)
            elif _has_suffix(path):
                pictures.append(path)
            elif reason := _no_picture(path):
                found.pass_over(reason, path)
            else:
                pictures.append(path)
    return pictures


def _no_picture(path: Path) -> str:
    """What a file is by its first bytes, in words for several; "" for a picture."""
    try:
        kind = _kind(path)
    except FileError:
        return "files that are no regular ones or cannot be read"
    return "" if kind else "files that are neither pictures nor videos"


def _kind(path: Path) -> Kind | None:
    with open_regular(path, _LARGEST) as file:
        try:
            return kind_of(file.read(HEAD))
        except OSError as error:
            raise FileError(path, f"cannot be read: {error.strerror}") from error


def _refuse_other_file(path: Path) -> None:
    if _has_suffix(path):
        return
    if _kind(path) is None:
        raise UserError(
            f"{path}: neither a picture nor a video; expected {FORMATS}, {KINDS}, or a folder"
        )


def _natural_key(path: Path) -> list[tuple[int, str]]:
    """Sort key that puts 9.jpg before 10.jpg; every number in the path counts as a number."""
    pieces = re.split(r"(\d+)", path.as_posix())
    return [(int(p), p) if p.isdecimal() else (-1, p) for p in pieces]


def _has_suffix(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES + VIDEO_SUFFIXES


def _is_video(path: Path) -> bool:
    """Whether a file has many frames; a damaged one is what its name says."""
    suffix = path.suffix.lower()
    try:
        kind = _kind(path)
    except FileError:
        kind = None
    if kind == "GIF":
        return _is_animated(path)
    return kind == "video" or (kind is None and suffix in VIDEO_SUFFIXES)


def _is_animated(path: Path) -> bool:
    try:
        with open_regular(path, PICTURE_LIMIT) as file, Image.open(file, formats=("GIF",)) as gif:
            return gif.is_animated
    except Exception:  # a damaged one, which has a row that says so
        return False


def named_inputs(inputs: Sequence[str | Path], stream: BinaryIO) -> list[str | Path]:
    """Inputs with `-` replaced by the files and folders that `stream` names.

    Names end with a line feed, or with NUL if there is one, as `find -print0` writes them.
    """
    named: list[str | Path] = []
    for one in inputs:
        if str(one) != STDIN:
            named.append(one)
            continue
        content = stream.read()
        names = content.split(b"\0" if b"\0" in content else b"\n")
        named += [os.fsdecode(name.removesuffix(b"\r")) for name in names if name.strip()]
        if not named:
            raise UserError("-: standard input names no file; expected one a line")
    return named
