"""Turns one raw sequence into one shard: the unit of work of a process, of Beam and of a restart.

A shard is written under another name and renamed when it is complete. Then a sidecar is written
beside it: facts about the shard, and a fingerprint of all that it was made from.

    F001_T1.array_record    examples, as tfds reads them
    F001_T1.json            ShardFacts
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import cv2
import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from pydantic import Field
from tensorflow_datasets.proto import tf_example_pb2

from vlfau_jax.data.crop.cropping import Crop, crop_sequence
from vlfau_jax.data.crop.rule import CropRule
from vlfau_jax.data.raw.frames import place_of, source_of
from vlfau_jax.data.raw.integrity import DROP_REASONS
from vlfau_jax.data.raw.picture_digest import NO_DIGEST, digest_bytes, digest_file
from vlfau_jax.data.raw.tree import ImageFiles, RawSequence, Video
from vlfau_jax.data.workers import advance
from vlfau_jax.errors import FileError, RunError
from vlfau_jax.files import file_digest, regular_size
from vlfau_jax.records import Record, Sha256, read_record

R = TypeVar("R")

FORMAT = 3  # counts changes of the examples or of the sidecar
SUFFIX = ".array_record"


@dataclass(frozen=True)
class ShardJob:
    """A sequence to crop, the rule, and the folder to write to, which all processes must see."""

    sequence: RawSequence
    root: str
    rule: CropRule
    folder: str

    @property
    def path(self) -> Path:
        """The shard."""
        return Path(self.folder) / (self.sequence.name + SUFFIX)

    @property
    def sidecar(self) -> Path:
        """The facts beside it."""
        return Path(self.folder) / (self.sequence.name + ".json")


class ShardFacts(Record):
    """What was written of a sequence, and what was dropped: the sidecar.

    Attributes:
        fingerprint: of all that the shard was made from.
        sha256: of the shard; "" for a sequence whose frames are all dropped: it has no shard.
        size: bytes of the shard.
        kept: positions within the sequence of the frames that are in the shard.
        losses: drop reason (a key of integrity.DROP_REASONS) and position of the others.
        aligned_by: number of crops by what they were aligned by, see `Crop`.
        pictures: the digests (raw/picture_digest.py) of all picture files of the sequence in a row,
            `NO_DIGEST` for one that is dropped; of a video the file's.
    """

    fingerprint: Sha256
    sha256: Sha256 | Literal[""]
    size: Annotated[int, Field(ge=0)]
    kept: tuple[int, ...]
    losses: tuple[tuple[str, int], ...]
    aligned_by: dict[str, int]
    pictures: str = ""


def features(units: int | None, size: int) -> tfds.features.FeaturesDict:
    """The features of every prepared set, for n `units` (None if n is not known yet)."""
    codes = tfds.features.Tensor(shape=(units,), dtype=np.int8)
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(
                shape=(size, size, 3), dtype=np.uint8, encoding_format="jpeg"
            ),
            "occurrence": codes,
            "intensity": codes,
            "subject": tfds.features.Text(),
            "task": tfds.features.Scalar(dtype=np.int32),
            "frame": tfds.features.Scalar(dtype=np.int32),
            "sex": tfds.features.Text(),
            "source": tfds.features.Text(),
            "box": tfds.features.Tensor(shape=(4,), dtype=np.float32),
            "alignment": tfds.features.Tensor(shape=(2, 3), dtype=np.float32),
            "aligned_by": tfds.features.Text(),
        }
    )


_features = cache(features)


def write_shard(job: ShardJob) -> ShardFacts:
    """Crops a sequence and writes its shard and sidecar; an older one is replaced.

    Raises:
        UserError: what the crop rule needs is missing or malformed.
        RunError: the shard cannot be written.
    """
    fingerprint = _fingerprint(job)  # first, because pictures may change while they are read
    sequence = job.sequence
    kept: list[int] = []
    losses: list[tuple[str, int]] = []
    aligned_by: Counter[str] = Counter()
    size, sha256 = 0, ""
    digests = [NO_DIGEST] * len(sequence.frames)

    def seen(i: int, data: bytes) -> None:
        digests[i] = digest_bytes(data)

    with _own_name(job.path) as partial:
        with _opened(partial) as write:
            for i, crop in enumerate(crop_sequence(sequence, job.rule, job.root, seen)):
                advance()
                if crop.image is None:
                    losses.append((crop.drop_reason, i))
                    continue
                source = source_of(job.root, sequence.pictures, i)
                write(_record(sequence, i, crop, source, job.rule.size))
                kept.append(i)
                aligned_by[crop.aligned_by] += 1
        if kept:
            size, sha256 = partial.stat().st_size, file_digest(partial)
            os.replace(partial, job.path)
        else:
            job.path.unlink(missing_ok=True)
    counts = {kind: aligned_by[kind] for kind in sorted(aligned_by)}
    if isinstance(sequence.pictures, Video):
        pictures = digest_file(sequence.pictures.path) if kept else ""
    else:
        written = set(kept)
        pictures = "".join(d if i in written else NO_DIGEST for i, d in enumerate(digests))
    facts = ShardFacts(
        fingerprint=fingerprint,
        sha256=sha256,
        size=size,
        kept=tuple(kept),
        losses=tuple(losses),
        aligned_by=counts,
        pictures=pictures,
    )
    with _own_name(job.sidecar) as partial:
        partial.write_text(facts.model_dump_json(), encoding="utf-8")
        os.replace(partial, job.sidecar)
    return facts


@contextmanager
def _own_name(path: Path) -> Iterator[Path]:
    """Yields a name that no other process uses: Beam may run one job twice at once."""
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _opened(path: Path) -> Iterator[Callable[[bytes], None]]:
    """Yields a function that appends records to a new file. Raises RunError on failure."""
    # One record a group, as tfds writes them, so that random access reads no other record.
    writer = _tried(ArrayRecordWriter, path)(str(path), "group_size:1")
    try:
        yield _tried(writer.write, path)
    except BaseException:
        with suppress(RunError):
            _tried(writer.close, path)()  # ends its threads; the first error is raised
        raise
    _tried(writer.close, path)()


def _tried(call: Callable[..., R], path: Path) -> Callable[..., R]:
    """Translates the C++ writer's RuntimeError, which begins with the reason, to RunError."""

    def tried(*arguments: object) -> R:
        try:
            return call(*arguments)
        except RuntimeError as error:
            reason = str(error).partition(";")[0]
            raise RunError(f"{path.parent} cannot be written to: {reason}") from error

    return tried


def _record(sequence: RawSequence, i: int, crop: Crop, source: str, size: int) -> bytes:
    example = {
        "image": crop.image,
        "occurrence": sequence.occurrence[i],
        "intensity": sequence.intensity[i],
        "subject": sequence.subject,
        "task": sequence.task,
        "frame": sequence.frames[i],
        "sex": sequence.sex,
        "source": source,
        "box": np.array(crop.box, np.float32),
        "alignment": crop.alignment,
        "aligned_by": crop.aligned_by,
    }
    record = _features(len(example["occurrence"]), size).serialize_example(example)
    # Protocol buffers write a map's keys in random order; sorted ones give reproducible bytes.
    return tf_example_pb2.Example.FromString(record).SerializeToString(deterministic=True)


def stored(job: ShardJob) -> ShardFacts | None:
    """The facts of a shard that exists, or None."""
    try:
        facts = read_record(job.sidecar, ShardFacts)
        size = regular_size(job.path, facts.size) if facts.kept else 0
    except FileError:
        return None
    frames = sorted([*facts.kept, *(i for _, i in facts.losses)])
    whole = frames == list(range(len(job.sequence.frames))) and list(facts.kept) == sorted(
        facts.kept
    )
    known = all(reason in DROP_REASONS for reason, _ in facts.losses)
    return facts if whole and known and size == facts.size else None


def finished(job: ShardJob) -> ShardFacts | None:
    """The facts of a shard that is complete and made from what the job names now, or None."""
    facts = stored(job)
    if facts is None or facts.fingerprint != _fingerprint(job):
        return None
    try:
        return facts if not facts.kept or file_digest(job.path) == facts.sha256 else None
    except (FileError, OSError):
        return None


def _fingerprint(job: ShardJob) -> str:
    """Of codes, crop rule, pictures and tables (place, size, time of the last change)."""
    sequence = job.sequence
    content = {
        "format": FORMAT,
        "opencv": cv2.__version__,
        "crop": job.rule.describe(),
        "sequence": [sequence.subject, sequence.task, sequence.sex, sequence.frames],
        "recording": sequence.recording,
        "codes": [
            hashlib.sha256(np.ascontiguousarray(codes).tobytes()).hexdigest()
            for codes in (sequence.occurrence, sequence.intensity)
        ],
        "pictures": _pictures(sequence.pictures, job.root),
        "tables": [_state(path, job.root) for path in _tables(job)],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _pictures(pictures: ImageFiles | Video, root: str) -> list[Any]:
    if isinstance(pictures, Video):
        return [_state(pictures.path, root), pictures.positions]
    return [_state(path, root) for path in pictures.paths]


def _tables(job: ShardJob) -> list[str]:
    pictures = job.sequence.pictures
    return job.rule.tables(place_of(pictures, i) for i in range(len(job.sequence.frames)))


def _state(path: str, root: str) -> list[Any]:
    name = os.path.relpath(path, root)
    try:
        state = os.stat(path)
    except OSError:  # such as a dangling link; the frame is dropped until that changes
        return [name]
    return [name, state.st_size, state.st_mtime_ns]
