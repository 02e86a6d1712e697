"""Reads the examples of a set's shards, each checked against the labels that belong to it."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_pb2

from vlfau_jax.data.set_record import Shard
from vlfau_jax.errors import RunError

_TOO_MANY = "Too many open files"


class DamagedExample(Exception):
    """An example that cannot be read or is not the one that its labels are of; says which."""


@dataclass(frozen=True)
class _Whole:
    """A whole shard, as array_record wants it named: with its length, so that none is opened."""

    filename: str
    examples_in_shard: int
    skip: int = 0

    @property
    def take(self) -> int:
        return self.examples_in_shard


class Pictures(Sequence[dict[str, bytes]]):
    """`image` and `source` of all m examples of a set, as bytes, in the order of its labels.

    The shards are opened directly, when an example of theirs is first read: tfds would look up
    classes by the names in the set's files, and would decode all fields, at 75 us an example
    instead of 20, while all the work for a training picture takes 600.

    Raises:
        DamagedExample: for an example that cannot be read, or that has other labels.
        RunError: there are too many open files.
    """

    def __init__(
        self,
        folder: Path,
        shards: Sequence[Shard],
        subjects: Sequence[str],
        codes: Mapping[str, np.ndarray],
    ) -> None:
        """Stores the arguments; `subjects` are sorted, `codes` as in labels.npz."""
        self._shards = shards
        self._ends = list(accumulate(shard.examples for shard in shards))
        self._records = ArrayRecordDataSource(
            [_Whole(str(folder / shard.file), shard.examples) for shard in shards]
        )
        self._subjects = [subject.encode() for subject in subjects]
        self._codes = codes

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> dict[str, bytes]:
        try:
            record = self._records[index]  # b"" where a shard ends too early
            features = tf_example_pb2.Example.FromString(record).features.feature
            found = self._read_labels(features)
            wanted = self._labels(index)
            if found == wanted:
                return {key: features[key].bytes_list.value[0] for key in ("image", "source")}
        except (DecodeError, IndexError) as error:
            raise DamagedExample(f"{self._shard(index)}: its record is damaged") from error
        except (RuntimeError, ValueError) as error:  # array_record's, whatever is wrong
            if _TOO_MANY in str(error):
                raise RunError(
                    f"{self._shard(index)}: {_TOO_MANY.lower()}; a set has one shard for each "
                    "sequence: raise the limit (ulimit -n), or give fewer data.workers"
                ) from error
            raise DamagedExample(f"{self._shard(index)}: {str(error).partition(';')[0]}") from error
        raise DamagedExample(f"{self._shard(index)}: {_difference(found, wanted)}")

    def alignment(self, index: int) -> np.ndarray:
        """Where an example's crop lies in its picture, float32 [2, 3] (`crop.alignment`)."""
        features = tf_example_pb2.Example.FromString(self._records[index]).features.feature
        return np.array(features["alignment"].float_list.value, np.float32).reshape(2, 3)

    def _shard(self, index: int) -> str:
        return self._shards[bisect.bisect_right(self._ends, index)].file

    def _labels(self, index: int) -> tuple[Any, ...]:
        codes = self._codes
        return (
            self._subjects[codes["subject"][index]],
            codes["task"].item(index),
            codes["frame"].item(index),
            codes["occurrence"][index].tolist(),
            codes["intensity"][index].tolist(),
        )

    def _read_labels(self, features: Any) -> tuple[Any, ...]:
        return (
            features["subject"].bytes_list.value[0],
            features["task"].int64_list.value[0],
            features["frame"].int64_list.value[0],
            list(features["occurrence"].int64_list.value),
            list(features["intensity"].int64_list.value),
        )


def _difference(found: tuple[Any, ...], wanted: tuple[Any, ...]) -> str:
    if found[:3] != wanted[:3]:
        subject, task, frame = found[0].decode(errors="replace"), *found[1:3]
        return f"{subject}, task {task}, frame {frame} is in its place"
    return "its codes are not those of labels.npz"
