"""Opens and checks one prepared set on disk, and decides its labels."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vlfau_jax.data.raw.codes import decide, excluded, units_with_occurrence
from vlfau_jax.data.raw.list_folds import Sides
from vlfau_jax.data.raw.published import Published
from vlfau_jax.data.read.folds import StatedFolds
from vlfau_jax.data.read.pictures import Pictures
from vlfau_jax.data.set_record import (
    DIGESTED,
    DIGESTS,
    LABELS,
    METADATA,
    Digests,
    Metadata,
    Rendering,
    Shard,
)
from vlfau_jax.data.sets import DataSet, data_set
from vlfau_jax.data.synthetic.jobs import VERSION
from vlfau_jax.data.synthetic.regions import RenderedTree
from vlfau_jax.data.text.descriptions import noun_of
from vlfau_jax.errors import FileError, UserError
from vlfau_jax.files import RECORD_LIMIT, TABLE_LIMIT, file_digest, read_bytes, regular_size
from vlfau_jax.records import parse_record

_AGAIN = "restore the set's files or prepare it again (`python -m vlfau_jax prepare --overwrite`)"
_SHARD_LIMIT = 1 << 40


@dataclass(frozen=True)
class PreparedSet:
    """One data set as `prepare` wrote it: m examples, n coded action units.

    Attributes:
        name: the data set's name, see data/sets.py.
        folder: its folder.
        aus: all units that it codes, in the order of its label vectors.
        benchmark: those that the field scores.
        subjects: sorted.
        subject_facts: per subject `frames`, `sex` and `fold`.
        crop: the crop rule, as its `describe` gives it.
        synthetic: whether the faces were rendered.
        layout: of the raw tree: "raw", "me_graphau" or "folder".
        camera: whose pictures, where the data set has several; else "".
        frame_offset: label frame n shows picture n + frame_offset.
        codes: labels.npz: subject, task and frame int32 [m]; occurrence and intensity int8 [m, n].
        shards: of all subjects, in the order of the examples.
        digest: of the set's digests.json, which differs for any other labels, pictures or people.
        rendering: how its faces were rendered; None for photographs, or where that is not known.
        list_folds: of a set from ME-GraphAU's lists: fold -> who trains and who is tested there.
    """

    name: str
    folder: Path
    aus: tuple[int, ...]
    benchmark: tuple[int, ...]
    subjects: tuple[str, ...]
    subject_facts: Mapping[str, Mapping[str, Any]]
    crop: Mapping[str, Any]
    synthetic: bool
    layout: str
    camera: str
    frame_offset: int
    codes: Mapping[str, np.ndarray]
    shards: tuple[Shard, ...]
    digest: str
    rendering: Rendering | None = None
    list_folds: Mapping[int, Sides] = field(default_factory=dict)

    def source(self) -> Sequence[dict[str, bytes]]:
        """Random access to `image` and `source` of all examples, subject by subject, as bytes.

        The other fields of a record are in `codes`, with which they are compared.
        """
        return Pictures(self.folder, self.shards, self.subjects, self.codes)

    @cached_property
    def rendered_tree(self) -> RenderedTree | None:
        """The raw tree of its rendered faces, from which their regions are known, if they are."""
        if self.rendering is None or self.rendering.version != VERSION:
            return None
        return RenderedTree(self.data_set.layout, self.rendering)

    def verify(self) -> None:
        """Reads every shard, and raises FileError for the first whose digest differs."""
        for shard in self.shards:
            path = self.folder / shard.file
            if file_digest(path, _SHARD_LIMIT) != shard.sha256:
                raise _changed(path)

    @property
    def stated_folds(self) -> StatedFolds:
        """The folds that the raw tree stated."""
        return StatedFolds({s: f["fold"] for s, f in self.subject_facts.items()}, self.list_folds)

    @property
    def identity(self) -> dict[str, Any]:
        """Subjects, crop rule, labels and pictures in a few JSON values that differ for others."""
        codes = hashlib.sha256()
        for key in sorted(self.codes):
            codes.update(np.ascontiguousarray(self.codes[key]))
        return {
            "variant": self.folder.parent.name,
            "frames": {subject: self.subject_facts[subject]["frames"] for subject in self.subjects},
            "folds": [self.subject_facts[subject]["fold"] for subject in self.subjects],
            "aus": self.aus,
            "crop": self.crop["digest"],
            "camera": self.camera,
            "frame_offset": self.frame_offset,
            "labels": codes.hexdigest(),
            "set_digest": self.digest,
        }

    @property
    def data_set(self) -> DataSet:
        """The record of the data set."""
        return data_set(self.name, "data.name")

    @property
    def published(self) -> Published:
        """What is published about the data set."""
        return self.data_set.published

    @cached_property
    def by_occurrence(self) -> np.ndarray:
        """The units that occurrence codes decide, bool [n], see raw.codes."""
        return units_with_occurrence(self.codes["occurrence"], self.published.codes_occurrence)

    def decided_by(self, aus: Sequence[int]) -> tuple[str, ...]:
        """The kinds of codes that decide known labels of `aus`: "occurrence", "intensity"."""
        decided = self.decide(threshold=1)[1].any(0) & np.isin(self.aus, aus)
        kinds = {"occurrence": self.by_occurrence, "intensity": ~self.by_occurrence}
        return tuple(kind for kind, units in kinds.items() if (units & decided).any())

    def decide(self, threshold: int) -> tuple[np.ndarray, np.ndarray]:
        """Active and known, each bool [m, n], see raw.codes.decide."""
        codes = self.codes
        return decide(codes["occurrence"], codes["intensity"], self.by_occurrence, threshold)

    def excluded(self) -> np.ndarray:
        """The frames that the field leaves out, bool [m]."""
        codes = self.codes
        return excluded(self.published.excluded, self.subjects, codes["subject"], codes["frame"])

    def totals(self, subject: str) -> dict[str, Any]:
        """Counts of one subject: `frames`, and `positives` and `known` per coded unit.

        They distinguish subjects of the same id in different data. They do not depend on an
        experiment's options: a unit is active from intensity 2.
        """
        rows = self.codes["subject"] == self.subjects.index(subject)
        au, known = (values[rows].sum(0).tolist() for values in self.decide(threshold=2))
        return {"frames": int(rows.sum()), "positives": au, "known": known}

    def noun(self, subject: str) -> str:
        """The noun for a subject in a sentence: man, woman or person."""
        return noun_of(subject, self.subject_facts[subject]["sex"])


def open_set(name: str, data_dir: Path, variant: str) -> PreparedSet:
    """Opens one prepared set and checks that its files are those that `prepare` wrote.

    Labels and metadata are read and compared with their digests, and the shards' sizes with the
    recorded ones. The shards themselves are read, and each example compared with its labels, when
    it is used; `PreparedSet.verify` compares all of them.

    Raises:
        UserError: see `open_dataset`.
    """
    folder = _find(name, data_dir, variant)
    try:
        digests, contents, digest = _read_digested(folder)
        metadata = parse_record(contents[METADATA], Metadata, folder / METADATA)
        codes = _read_codes(contents[LABELS], folder / LABELS)
        _check_codes(codes, metadata, folder / LABELS)
        _check_shards(folder, digests, metadata)
    except FileError as error:
        raise FileError(error.path, f"{error.reason}; {_AGAIN}") from error
    return PreparedSet(
        name=name,
        folder=folder,
        aus=tuple(metadata.aus),
        benchmark=tuple(metadata.benchmark),
        subjects=tuple(sorted(metadata.subjects)),
        subject_facts={name: person.model_dump() for name, person in metadata.subjects.items()},
        crop=metadata.crop.model_dump(),
        synthetic=metadata.synthetic,
        layout=metadata.layout,
        camera=metadata.camera,
        frame_offset=metadata.frame_offset,
        codes=codes,
        shards=tuple(digests.in_order),
        digest=digest,
        rendering=metadata.rendering,
        list_folds={
            int(fold): (tuple(sides.train), tuple(sides.test))
            for fold, sides in metadata.list_folds.items()
        },
    )


def _find(name: str, data_dir: Path, variant: str) -> Path:
    found = {
        path.parent.parent.name: path.parent
        for file in (DIGESTS, "dataset_info.json")  # one of them may be lost
        for path in sorted((data_dir / name).glob(f"*/*/{file}"))
        if "incomplete" not in path.parent.name
    }
    if not found:
        raise UserError(
            f"data.data_dir={data_dir} holds no prepared {name}; expected the folder written by: "
            f"python -m vlfau_jax prepare --dataset={name} --raw_dir=DIR --data_dir={data_dir}"
        )
    if (variant and variant not in found) or (not variant and len(found) > 1):
        raise UserError(
            f"data.variant={variant!r} selects no set in {data_dir}/{name}; expected one of "
            f"{', '.join(found)}"
        )
    return found[variant] if variant else next(iter(found.values()))


def _read_digested(folder: Path) -> tuple[Digests, dict[str, bytes], str]:
    """digests.json, the files that it is about and that are no shards, and its own digest."""
    path = folder / DIGESTS
    if not path.exists():
        raise FileError(path, "is missing, as in sets of an earlier version or of another library")
    text = read_bytes(path, RECORD_LIMIT)
    digests = parse_record(text, Digests, path)
    contents = {}
    for name in DIGESTED:
        limit = TABLE_LIMIT if name == LABELS else RECORD_LIMIT
        contents[name] = read_bytes(folder / name, limit)
        if hashlib.sha256(contents[name]).hexdigest() != digests.files[name]:
            raise _changed(folder / name)
    return digests, contents, hashlib.sha256(text).hexdigest()


def _changed(path: Path) -> FileError:
    return FileError(path, f"is not as `prepare` wrote it: {DIGESTS} has another SHA-256")


def _check_shards(folder: Path, digests: Digests, metadata: Metadata) -> None:
    """Raises FileError for a shard that is missing, cut or no file, or for another's shards."""
    examples = {
        subject: sum(shard.examples for shard in theirs)
        for subject, theirs in digests.shards.items()
    }
    if examples != {subject: person.frames for subject, person in metadata.subjects.items()}:
        raise FileError(folder / DIGESTS, f"is about other subjects or frames than {METADATA}")
    for shard in digests.in_order:
        path = folder / shard.file
        size = regular_size(path, _SHARD_LIMIT)
        if size != shard.size:
            raise FileError(path, f"has {size} bytes instead of {shard.size}")


def _read_codes(content: bytes, path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(part.file_size for part in archive.infolist()) > len(content):
                raise ValueError("its arrays are larger than the file")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return dict(file)
    except Exception as error:  # of many kinds, from zipfile and from numpy
        reason = str(error).strip().partition("\n")[0]
        raise FileError(path, f"cannot be read: {reason}") from error


def _check_codes(codes: Mapping[str, np.ndarray], metadata: Metadata, path: Path) -> None:
    """Raises FileError where the columns of labels.npz are not those of the metadata's subjects."""
    subjects, n = sorted(metadata.subjects), len(metadata.aus)
    frames = [metadata.subjects[subject].frames for subject in subjects]
    m = sum(frames)
    shapes = dict.fromkeys(("subject", "task", "frame"), ((m,), "int32"))
    shapes |= dict.fromkeys(("occurrence", "intensity"), ((m, n), "int8"))
    if codes.keys() != shapes.keys():
        raise FileError(path, f"holds {', '.join(sorted(codes))}, not {', '.join(sorted(shapes))}")
    for key, (shape, dtype) in shapes.items():
        found = codes[key]
        if (found.shape, str(found.dtype)) != (shape, dtype):
            raise FileError(path, f"{key} is {found.dtype}{found.shape}, not {dtype}{shape}")
    for key, most in (("occurrence", 1), ("intensity", 5)):
        if not -1 <= codes[key].min() <= codes[key].max() <= most:
            raise FileError(path, f"{key} holds codes besides -1 to {most}")
    if not np.array_equal(codes["subject"], np.repeat(np.arange(len(frames)), frames)):
        raise FileError(path, f"subjects are not in the order and numbers of {METADATA}")
