"""Where a set is made, and how it takes the place of an older one.

A set is made in a folder beside its place, `incomplete.<version>`:

    shards/      finished shards and their sidecars (shards.py): a killed prepare leaves them, and
                 the next one continues with them
    bp4d/...     the set, when all shards are finished
    downloads/   without files, but required by tfds
    replaced     the old set, while the new one is renamed to its place

When the set is in its place, that folder is renamed to `.<version>.replaced` and removed. Nothing
is removed with an entry that `prepare` does not write, and no symbolic link is followed.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from vlfau_jax.data.prepare.shards import SUFFIX
from vlfau_jax.data.raw.places import format_count
from vlfau_jax.data.set_record import DIGESTED, DIGESTS
from vlfau_jax.errors import RunError, UserError

SHARDS, REPLACED = "shards", "replaced"


@dataclass(frozen=True)
class _Kind:
    """What may be in a folder: names of files, and of folders with their kinds, as patterns."""

    files: str = ""
    folders: Mapping[str, _Kind] = field(default_factory=dict)


_SHARDS = _Kind(r".+\.(array_record|json)(\.[0-9a-f]+\.partial)?")
_NAMES = (*DIGESTED, DIGESTS, f".{DIGESTS}.partial", "integrity.json", "integrity.txt", "LICENSE")
_SET = _Kind(
    "|".join([*map(re.escape, _NAMES), r"[a-z0-9_]+-.+\.array_record-\d{5}-of-\d{5}"]),
    {SHARDS: _SHARDS},
)
_CONFIG = _Kind(r"(incomplete\..+)?metadata\.json")
_BUILT = _Kind(folders={r"\.config": _CONFIG, ".+": _Kind(folders={r".*\d+\.\d+\.\d+": _SET})})
_DOWNLOADS = _Kind(folders={"extracted": _Kind()})
_STAGING = _Kind(
    folders={SHARDS: _SHARDS, "downloads": _DOWNLOADS, REPLACED: _SET, "[a-z0-9_]+": _BUILT}
)


def _foreign(folder: Path, kind: _Kind) -> Path | None:
    """An entry of a folder, or below it, that `prepare` does not write there."""
    for entry in sorted(folder.iterdir()):
        found = None
        if entry.is_dir() and not entry.is_symlink():
            inner = next((k for n, k in kind.folders.items() if re.fullmatch(n, entry.name)), None)
            found = entry if inner is None else _foreign(entry, inner)
        elif entry.is_symlink() or not entry.is_file() or not re.fullmatch(kind.files, entry.name):
            found = entry
        if found is not None:
            return found
    return None


def _refuse_foreign(folder: Path, kind: _Kind) -> None:
    """Raises UserError unless `folder` is one, with entries of ours alone, or nothing is there."""
    if not os.path.lexists(folder):
        return
    found = folder
    if folder.is_dir() and not folder.is_symlink():
        found = _foreign(folder, kind)
    if found is not None:
        raise UserError(f"{found} is nothing that prepare writes; move it away and start again")


def refuse_existing(target: Path, overwrite: bool) -> None:
    """Raises UserError where a set is in its place, or what prepare must not replace."""
    if os.path.lexists(target) and not overwrite:
        raise UserError(f"{target} is prepared already; give --overwrite to build it again")
    _refuse_foreign(target, _SET)
    _refuse_foreign(target.parents[1] / ".config", _CONFIG)


def _staging(target: Path) -> Path:
    return target.with_name(f"incomplete.{target.name}")


def _trash(target: Path) -> Path:
    return target.with_name(f".{target.name}.replaced")


def sweep(target: Path) -> None:
    """Removes what a killed prepare left, except for its finished shards.

    Raises:
        UserError: something else is there, too.
    """
    staging, trash = _staging(target), _trash(target)
    of_tfds = [  # without our verb
        path
        for path in sorted(target.parent.iterdir())
        if re.fullmatch(rf"incomplete\.[A-Z0-9]{{6}}_{re.escape(target.name)}", path.name)
    ]
    for folder, kind in ((staging, _STAGING), (trash, _STAGING), *((p, _SET) for p in of_tfds)):
        _refuse_foreign(folder, kind)
    _put_back(staging, target)
    for left in of_tfds:
        shutil.rmtree(left)
        print(f"removed {left}, which a killed prepare left behind", file=sys.stderr)
    if target.exists() and _moved_out(staging, target):
        os.replace(staging, trash)
    if trash.exists():
        shutil.rmtree(trash)
    if staging.exists():
        _clear(staging)


def _moved_out(staging: Path, target: Path) -> bool:
    """Whether the set that was built in `staging` is in its place."""
    built = staging.joinpath(*target.parts[-3:-1])
    return built.is_dir() and not any(built.iterdir())


def _clear(staging: Path, *, ignore_errors: bool = False) -> int:
    """Removes all but finished shards; returns their number."""
    kept = len(list((staging / SHARDS).glob("*" + SUFFIX)))
    rest = [path for path in staging.iterdir() if path.name != SHARDS] if kept else [staging]
    for left in rest:
        shutil.rmtree(left, ignore_errors=ignore_errors)
    return kept


def _put_back(staging: Path, target: Path) -> None:
    """Restores the old set after a stop between the two renames of `built_beside`."""
    if (staging / REPLACED).exists() and not target.exists():
        os.replace(staging / REPLACED, target)


@contextmanager
def built_beside(target: Path, data_dir: Path) -> Iterator[Path]:
    """Yields a folder in place of `data_dir`; on success `target` is moved out of it.

    On failure only finished shards are kept.

    Raises:
        RunError: in place of an OSError or another RunError; it says what is kept.
        KeyboardInterrupt: its text states what is kept.
    """
    staging, trash = _staging(target), _trash(target)
    try:
        staging.mkdir(exist_ok=True)
        yield staging
        refuse_existing(target, overwrite=True)  # a foreign file may have come meanwhile
        # Beside the configs tfds writes the default one, always the same.
        defaults = target.parent.parent.relative_to(data_dir) / ".config"
        (data_dir / defaults).mkdir(exist_ok=True)
        for file in (staging / defaults).iterdir():
            os.replace(file, data_dir / defaults / file.name)
        if target.exists():
            os.replace(target, staging / REPLACED)
        os.replace(staging / target.relative_to(data_dir), target)
        os.replace(staging, trash)
        shutil.rmtree(trash)
    except BaseException as error:
        _put_back(staging, target)
        # A second error would hide the first one.
        kept = _format_kept(_clear(staging, ignore_errors=True) if staging.exists() else 0)
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(kept) from error
        if isinstance(error, RunError | OSError):
            raise RunError("; ".join(filter(None, (_reason(error, target), kept)))) from error
        raise


def _format_kept(kept: int) -> str:
    if not kept:
        return ""
    return f"{format_count(kept, 'finished shard')} kept, and the same command continues with them"


def _reason(error: RunError | OSError, target: Path) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or target}: {error.strerror or error}"
    return str(error)
