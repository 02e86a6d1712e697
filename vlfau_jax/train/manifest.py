"""A checkpoint's manifest: its record, and digests by which damage is found before reading.

`{"body": {"record": ..., "arrays": {path: [dtype, shape]}, "files": {path: [bytes, sha256]}},
"sha256": ...}`: the last is of the body as canonical JSON, so that damage to the manifest itself is
found, too. The digests promise that nothing was damaged by accident; a stranger's checkpoint has
right ones, too, so that what it says is bounded here (`_ManifestFile`) all the same.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple

import jax.numpy as jnp
from pydantic import AfterValidator, Field

from vlfau_jax.errors import FileError
from vlfau_jax.files import file_digest, open_regular, read_bytes, written_whole
from vlfau_jax.records import Record, Sha256, parse_record
from vlfau_jax.train.checkpoint_record import CheckpointRecord, Count, Name

MANIFEST = "manifest.json"
_MANIFEST_LIMIT = 16 << 20  # bytes; that of Swin-L has less than one

# Bytes of a checkpoint's files beyond those of its arrays: names, indices, shardings.
_BESIDE_ARRAYS = 64 << 20


class DamagedError(Exception):
    """A checkpoint is not what was written; the message continues a line after its path."""


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or len(path.parts) < 2 or "\0" in name:
        raise ValueError("should be the path of a file in a subfolder")
    return name


Part = Annotated[Name, AfterValidator(_inside)]
Dtype = Literal[
    "bool",
    *("bfloat16", "float16", "float32", "float64"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
]
Shape = Annotated[list[Annotated[int, Field(ge=0, le=2**40)]], Field(max_length=16)]


class _Body(Record):
    record: CheckpointRecord
    arrays: dict[Name, tuple[Dtype, Shape]] = Field(default_factory=dict)
    files: dict[Part, tuple[Count, Sha256]]


class _ManifestFile(Record):
    body: _Body
    sha256: Sha256


class Manifest(NamedTuple):
    """The content of a manifest.

    Attributes:
        record: a `CheckpointRecord` as JSON values, with what this version does not know.
        arrays: [dtype, shape] of every array by its path; {} in checkpoints of earlier versions.
        files: bytes and sha256 of every array's file, by its path in the checkpoint's folder.
    """

    record: dict[str, Any]
    arrays: dict[str, list[Any]]
    files: dict[str, tuple[int, str]]

    @property
    def items(self) -> frozenset[str]:
        """Names of the trees of arrays, and of other subfolders."""
        return frozenset(Path(name).parts[0] for name in self.files)


def write_manifest(
    folder: Path, record: Mapping[str, Any], arrays: Mapping[str, list[Any]]
) -> None:
    """Writes a `Manifest`, with size and sha256 of every array's file.

    Those are in the subfolders. The files beside them are orbax's own. It may still change them
    when it commits, and nothing is read from them.
    """
    files = [path for path in sorted(folder.glob("*/**/*")) if path.is_file()]
    digests = {
        str(path.relative_to(folder)): (path.stat().st_size, file_digest(path)) for path in files
    }
    body = {"record": record, "arrays": arrays, "files": digests}
    text = json.dumps({"body": body, "sha256": _digest_of_json(body)}, indent=0)
    with written_whole(folder / MANIFEST) as partial:
        partial.write_text(text)


def read_manifest(folder: Path) -> Manifest:
    """Reads a checkpoint's manifest; DamagedError unless it is as it was written."""
    path = folder / MANIFEST
    with _damaged(MANIFEST):
        try:
            text = read_bytes(path, _MANIFEST_LIMIT)
        except FileError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise DamagedError(
                    f"has no {MANIFEST}: written by an earlier version, or damaged"
                ) from error
            raise
        digest = parse_record(text, _ManifestFile, path).sha256
        try:
            body = json.loads(text)["body"]
        except ValueError as error:  # a number of a million digits in what is not known here
            raise FileError(path, f"no usable JSON ({error})") from None
        if _digest_of_json(body) != digest:
            raise FileError(path, "its own sha256 differs")
    files = {name: (size, digest) for name, (size, digest) in body["files"].items()}
    return Manifest(body["record"], body.get("arrays", {}), files)


def check_files(folder: Path, manifest: Manifest) -> None:
    """Raises DamagedError unless all files that the manifest lists are as they were written."""
    size = sum(size for size, _ in manifest.files.values())
    if manifest.arrays and size > 2 * array_bytes(manifest.arrays) + _BESIDE_ARRAYS:
        raise DamagedError(f"is damaged ({MANIFEST} lists {size} bytes of files for its arrays)")
    for name, (size, digest) in manifest.files.items():
        with _damaged(name):
            _check_file(folder / name, size, digest)


def array_bytes(arrays: Mapping[str, list[Any]]) -> int:
    """The bytes of all arrays that a manifest lists."""
    return sum(jnp.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in arrays.values())


def read_record(folder: Path) -> dict[str, Any]:
    """The record of a checkpoint, whose arrays are not checked; DamagedError without one."""
    return read_manifest(folder).record


def finished_steps(checkpoints: Path) -> list[int]:
    """Steps of a run's finished checkpoints, ascending; a folder gets its name when complete."""
    if not checkpoints.is_dir():
        return []
    names = (path.name for path in checkpoints.iterdir() if path.is_dir())
    return sorted(int(name) for name in names if is_step(name))


def is_step(name: str) -> bool:
    """Whether a folder of this name holds a finished checkpoint: its step, as Python writes it."""
    return name.isascii() and name.isdecimal() and name == str(int(name))


def last_good(checkpoints: Path, before: int | None = None) -> int | None:
    """The newest step (`before` another) whose checkpoint is undamaged; None for none.

    Raises:
        OSError: that cannot be found out, such as where no more files can be opened.
    """
    for step in reversed(finished_steps(checkpoints)):
        if before is None or step < before:
            with suppress(DamagedError):
                check_files(checkpoints / str(step), read_manifest(checkpoints / str(step)))
                return step
    return None


def what_is_left(checkpoints: Path) -> str:
    """How a run that must end can go on, as the end of the line that states the reason."""
    try:
        good = last_good(checkpoints)
    except OSError as error:
        return f"its checkpoints are in {checkpoints}, unchecked ({error.strerror})"
    if good is None:
        return "there is no good checkpoint to go on from"
    return f"the last good checkpoint is of step {good}: once that is mended, go on with --resume"


@contextmanager
def _damaged(what: str) -> Iterator[None]:
    """DamagedError for a file that cannot be read as what it should be."""
    try:
        yield
    except FileError as error:
        raise DamagedError(f"is damaged ({what}: {error.reason})") from error


def _check_file(path: Path, size: int, digest: str) -> None:
    try:
        with open_regular(path, 2**63) as file:
            if (found := path.stat().st_size) != size:
                raise FileError(path, f"has {found} bytes, {size} were written")
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise FileError(path, "is not what was written: its sha256 differs")
    except OSError as error:
        raise FileError(path, f"cannot be read: {error.strerror}") from error


def _digest_of_json(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
