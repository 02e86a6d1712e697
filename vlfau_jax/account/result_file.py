"""A measurement's result: on the screen, and in a JSON file that is written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from vlfau_jax.errors import UserError
from vlfau_jax.files import absolute_folder, created, named, written_whole

Result = TypeVar("Result")


def _dumped(found: Any) -> str:
    return json.dumps(found, indent=1)


def reported(
    measure: Callable[[], Result],
    shown: Callable[[Result], str],
    out: str | Path | None = None,
    overwrite: bool = False,
    *,
    as_json: Callable[[Result], str] = _dumped,
    example: str = "benchmark.json",
) -> Result:
    """Measures, prints, and writes to a file, if one is asked for; returns the result.

    Args:
        measure: gives the result.
        shown: the result as text.
        out: a JSON file, if any; it is reserved before anything is measured.
        overwrite: replace `out` where it exists.
        as_json: the result as JSON; as it stands, JSON values by name.
        example: a name for the file, for the message where `out` is a folder.

    Raises:
        UserError: an `out` that is unusable, exists or is being written by another process;
            `overwrite` without one.
    """
    if out is None:
        if overwrite:
            raise UserError("--overwrite: without --out nothing is written; give both")
        found = measure()
        print(shown(found))
        return found
    path = Path(out)
    _check_file(path, overwrite, example)
    with created("--out", path.absolute().parent), written_whole(path) as partial:
        _check_file(path, overwrite, example)  # another process may have been faster
        found = measure()
        print(shown(found))
        with named(path):
            partial.write_text(as_json(found) + "\n")
    return found


def _check_file(out: Path, overwrite: bool, example: str) -> None:
    absolute_folder("--out", out.parent)
    if out.is_dir():
        raise UserError(f"--out={out}: this is a folder; name a file, such as {out / example}")
    if os.path.lexists(out) and not overwrite:
        raise UserError(f"--out={out} exists; give --overwrite to replace it")
