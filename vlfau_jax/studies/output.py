"""The files of a study's table, which jobs that end at the same time write one after the other."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vlfau_jax.errors import UserError
from vlfau_jax.evaluation.json_values import to_json
from vlfau_jax.files import absolute_folder, open_in_place, written_together
from vlfau_jax.studies.tables import Table

LOCK_FILE = "table.lock"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Waits until no other process collects cells and writes the table of `folder`.

    So the last of several jobs sees the cells of all.
    """
    handle = open_in_place(folder / LOCK_FILE, os.O_RDWR)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:  # some network file systems
            print(
                f"{folder} cannot be locked ({error}): collect again once all jobs have ended",
                file=sys.stderr,
            )
        yield
    finally:
        os.close(handle)


def folder_for(out: str | Path, name: str, suffixes: Sequence[str], overwrite: bool) -> Path:
    """The absolute folder `out`, for files `name` with these suffixes.

    Raises:
        UserError: one of them is there, and `overwrite` is not given; or `out` is no folder.
    """
    folder = absolute_folder("--out", out)
    there = [name + suffix for suffix in suffixes if (folder / (name + suffix)).exists()]
    if there and not overwrite:
        raise UserError(f"--out={out} holds {there[0]}; give --overwrite, or another folder")
    return folder


def write_table(
    folder: Path,
    name: str,
    result: Mapping[str, Any],
    table: Table,
    csv: str,
    more: Mapping[str, str | None] | None = None,
) -> None:
    """Writes the files of one table, all of which change together, and prints it.

    Args:
        folder: where.
        name: of the files, without suffix.
        result: what NAME.json holds.
        table: NAME.md and NAME.tex.
        csv: NAME.csv.
        more: suffix -> text of others; None where there is none.
    """
    texts = {".json": json_text(result), ".md": table.markdown(), ".tex": table.latex()}
    texts |= {".csv": csv} | {k: text for k, text in (more or {}).items() if text is not None}
    files = {f"{name}{suffix}": text for suffix, text in texts.items()}
    with written_together(folder, [*files]) as place:
        for file, text in files.items():
            (place / file).write_text(text, encoding="utf-8")
    print(table.text())
    print(", ".join(str(folder / file) for file in files))


def json_text(result: Mapping[str, Any]) -> str:
    """A result as a JSON file holds it: NaN is null."""
    return json.dumps(to_json(result), indent=2, allow_nan=False) + "\n"
