"""Formats places in a raw tree, such as paths, so that many of one kind become one line."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import PurePosixPath

FEW = 5  # up to so many names of one folder are all written out
_FOLDER = re.compile(r"(.*)([/#])(.*)", re.DOTALL)


def group_by_ending(paths: Iterable[str]) -> list[str]:
    """One line for each folder and ending: `a/b.txt, c.txt` or `a/*.obj (500 names)`."""

    def line(folder: str, ending: str, names: list[str]) -> str:
        kind = f"*{ending}" if ending else "names without an ending"
        few = len(names) <= FEW
        return folder + (", ".join(names) if few else f"{kind} ({len(names)} names)")

    return _grouped(paths, lambda name: PurePosixPath(name).suffix, line, few=0)


def group_by_folder(sources: Iterable[str]) -> list[str]:
    """Lines for pictures, `folder/name` or `video#position`.

    Up to FEW of one folder or video have a line each; more share one.
    """

    def line(folder: str, _: str, names: list[str]) -> str:
        return f"{folder}{names[0]} to {names[-1]}: {len(names)} of them"

    return _grouped(sources, lambda _: "", line, few=FEW)


def _grouped(
    paths: Iterable[str],
    kind: Callable[[str], str],
    line: Callable[[str, str, list[str]], str],
    few: int,
) -> list[str]:
    """Groups paths of the same folder and kind of name, in order of each group's first path."""
    groups: dict[tuple[str, str], list[str]] = {}
    for path in paths:
        match = _FOLDER.fullmatch(path)
        folder, name = (match[1] + match[2], match[3]) if match else ("", path)
        groups.setdefault((folder, kind(name)), []).append(name)
    return [
        text
        for (folder, which), names in groups.items()
        for text in (
            [folder + name for name in names] if len(names) <= few else [line(folder, which, names)]
        )
    ]


def format_count(number: int, noun: str) -> str:
    """`1 image`, `0 images`, `2 images`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def indented(places: Sequence[str], most: int) -> Iterator[str]:
    """Yields indented lines for a report, about `most` of them.

    Names of one word are put side by side. Lines that are left out are counted; integrity.json has
    them all.
    """
    lines = list(places)
    if not any(" " in place or "/" in place for place in places):
        lines = textwrap.wrap(", ".join(places), width=96, break_long_words=False)
    yield from (f"    {line}" for line in lines[:most])
    if len(lines) > most:
        yield f"    and {format_count(len(lines) - most, 'line')} more, see integrity.json"
