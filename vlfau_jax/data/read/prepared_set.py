"""Opens and checks one prepared set on disk, and decides its labels."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from google.protobuf.json_format import ParseError
from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_pb2

from vlfau_jax.data.raw.codes import decide, excluded, units_with_occurrence
from vlfau_jax.data.raw.list_folds import Sides
from vlfau_jax.data.raw.published import Published
from vlfau_jax.data.read.folds import FOLDS, StatedFolds
from vlfau_jax.data.sets import DataSet, data_set
from vlfau_jax.data.text.descriptions import noun_of
from vlfau_jax.errors import UserError

LABELS_FILE = "labels.npz"
_METADATA = {
    "aus": list,
    "benchmark": list,
    "crop": dict,
    "synthetic": bool,
    "layout": str,
    "camera": str,
    "frame_offset": int,
    "subjects": dict,
}


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
    list_folds: Mapping[int, Sides] = field(default_factory=dict)

    def source(self) -> Sequence[dict[str, bytes]]:
        """Random access to `image` and `source` of all examples, subject by subject, as bytes.

        The other fields of a record are in `codes`. tfds would decode all fields, at 75 us an
        example instead of 20, while all the work for a training picture takes 600.
        """
        builder = tfds.builder_from_directory(self.folder)
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        return _Pictures(builder.as_data_source("+".join(self.subjects), deserialize_method=raw))

    @property
    def identity(self) -> dict[str, Any]:
        """Subjects, crop rule and labels in a few JSON values that differ for any other data."""
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
            **({"list_folds": dict(self.list_folds)} if self.list_folds else {}),
        }

    @property
    def stated_folds(self) -> StatedFolds:
        """The folds that the raw tree stated."""
        return StatedFolds({s: f["fold"] for s, f in self.subject_facts.items()}, self.list_folds)

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


class _Pictures(Sequence[dict[str, bytes]]):
    """Parses serialized tf.train.Examples for `PreparedSet.source`.

    Raises RuntimeError, as array_record does, if a record cannot be read.
    """

    def __init__(self, records: Sequence[bytes]) -> None:
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, bytes]:
        record = self._records[index]  # b"" where a shard ends too early
        try:
            features = tf_example_pb2.Example.FromString(record).features.feature
            return {key: features[key].bytes_list.value[0] for key in ("image", "source")}
        except (DecodeError, IndexError) as error:
            raise RuntimeError(f"its record of {len(record)} bytes is damaged") from error


def open_set(name: str, data_dir: Path, variant: str) -> PreparedSet:
    """Opens and checks one prepared set. Raises UserError, see `open_dataset`."""
    folder = _find(name, data_dir, variant)
    again = "prepare it again (`python -m vlfau_jax prepare`)"
    try:
        info = tfds.builder_from_directory(folder).info
        metadata = dict(info.metadata or {})
        examples = {split: info.splits[split].num_examples for split in info.splits}
    except (OSError, ValueError, TypeError, KeyError, ParseError) as error:
        raise UserError(f"{folder} cannot be read: {_first_line(error)}; {again}") from error
    missing = [key for key in _METADATA if key not in metadata]
    if missing:
        raise UserError(
            f"{folder} has no {missing[0]!r} in metadata.json, as sets of an earlier version or of "
            f"another library; {again}"
        )
    wrong = _damage(metadata)
    if wrong:
        raise UserError(f"{folder}/metadata.json is damaged: {wrong}; {again}")
    facts = metadata["subjects"]
    opened = PreparedSet(
        name=name,
        folder=folder,
        aus=tuple(metadata["aus"]),
        benchmark=tuple(metadata["benchmark"]),
        subjects=tuple(sorted(facts)),
        subject_facts=facts,
        crop=metadata["crop"],
        synthetic=metadata["synthetic"],
        layout=metadata["layout"],
        camera=metadata["camera"],
        frame_offset=metadata["frame_offset"],
        codes=_read_codes(folder / LABELS_FILE, again),
        list_folds={
            int(fold): (tuple(sides["train"]), tuple(sides["test"]))
            for fold, sides in metadata.get("list_folds", {}).items()
        },
    )
    wrong = _disagreement(opened, examples)
    if wrong:
        raise UserError(f"{folder / LABELS_FILE}: {wrong}; {again}")
    return opened


def _damage(metadata: Mapping[str, Any]) -> str:
    """Describes what is wrong with metadata.json, which has all keys; "" if nothing."""
    for key, kind in _METADATA.items():
        if type(metadata[key]) is not kind:
            return f"{key} is {metadata[key]!r:.40}"
    aus, benchmark = metadata["aus"], metadata["benchmark"]
    if not aus or any(type(au) is not int or not 1 <= au <= 99 for au in aus):
        return f"aus is {aus!r:.40}"
    if len(set(aus)) != len(aus):
        return "a unit comes twice in aus"
    if not benchmark or any(au not in aus for au in benchmark):
        return f"benchmark is {benchmark!r:.40}"
    for key, kind in {"name": str, "digest": str, "size": int}.items():
        if type(metadata["crop"].get(key)) is not kind:
            return f"crop[{key!r}] is {metadata['crop'].get(key)!r:.40}"
    for subject, facts in metadata["subjects"].items():
        for key, kind in {"frames": int, "sex": str, "fold": int}.items():
            if type(facts) is not dict or type(facts.get(key)) is not kind:
                return f"{key!r} of {subject} is missing or no {kind.__name__}"
        if facts["fold"] not in range(FOLDS + 1) or facts["frames"] < 1:
            return f"{subject} has fold {facts['fold']} and {facts['frames']} frames"
    wrong = _list_damage(metadata.get("list_folds", {}), metadata["subjects"])
    if wrong:
        return f"list_folds {wrong}"
    folds = [facts["fold"] for facts in metadata["subjects"].values()]
    return "some subjects have a fold and others none" if any(folds) != all(folds) else ""


def _list_damage(folds: Any, subjects: Collection[str]) -> str:
    """Describes what is wrong with `list_folds`, which sets of earlier versions lack."""
    if type(folds) is not dict:
        return f"is {folds!r:.40}"
    for fold, sides in folds.items():
        if not re.fullmatch("[1-9][0-9]?", fold, re.ASCII):
            return f"has a fold {fold!r:.40}"
        if type(sides) is not dict or sides.keys() != {"train", "test"}:
            return f"of {fold} is {sides!r:.40}"
        if not all(type(names) is list and names for names in sides.values()):
            return f"of {fold} has an empty side"
        named = [name for names in sides.values() for name in names]
        if not all(type(name) is str and name in subjects for name in named):
            return f"of {fold} names somebody who is not in the set"
        if len(set(named)) != len(named):
            return f"of {fold} names somebody twice"
    return ""


def _first_line(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).strip().partition("\n")[0]


def _find(name: str, data_dir: Path, variant: str) -> Path:
    found = {
        path.parent.parent.name: path.parent
        for path in sorted((data_dir / name).glob("*/*/dataset_info.json"))
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


def _read_codes(path: Path, again: str) -> dict[str, np.ndarray]:
    try:
        # Opened here, since np.load leaves a file that is no archive to the garbage collector.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return dict(file)
    except (OSError, EOFError, TypeError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read: {_first_line(error)}; {again}") from error


def _disagreement(opened: PreparedSet, examples: Mapping[str, int]) -> str:
    """Describes what is wrong with a set's codes; "" if nothing."""
    codes, n = opened.codes, len(opened.aus)
    frames = [opened.subject_facts[subject]["frames"] for subject in opened.subjects]
    m = sum(frames)
    shapes = dict.fromkeys(("subject", "task", "frame"), ((m,), "int32"))
    shapes |= dict.fromkeys(("occurrence", "intensity"), ((m, n), "int8"))
    if codes.keys() != shapes.keys():
        return f"holds {', '.join(sorted(codes))}, not {', '.join(sorted(shapes))}"
    for key, (shape, dtype) in shapes.items():
        if (codes[key].shape, str(codes[key].dtype)) != (shape, dtype):
            return f"{key} is {codes[key].dtype}{codes[key].shape}, not {dtype}{shape}"
    for key, most in (("occurrence", 1), ("intensity", 5)):
        if codes[key].size and not -1 <= codes[key].min() <= codes[key].max() <= most:
            return f"{key} holds codes besides -1 to {most}"
    if not np.array_equal(codes["subject"], np.repeat(np.arange(len(frames)), frames)):
        return "subjects are not in the order and numbers of metadata.json"
    if dict(zip(opened.subjects, frames, strict=True)) != dict(examples):
        return "the images are of other subjects or other numbers of frames"
    return ""
