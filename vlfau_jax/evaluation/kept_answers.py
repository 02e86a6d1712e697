"""The answers of an `evaluate` under way: kept as they come, and found again by the next one.

They lie in the hidden folder of `files.written_together`, one safetensors file for each batch of
test faces, beside a record of what was asked.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from pydantic import NonNegativeInt, PositiveInt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from vlfau_jax import __version__
from vlfau_jax.data.read.dataset import Dataset
from vlfau_jax.errors import FileError, UserError
from vlfau_jax.evaluation.likelihood import LIKELIHOOD_ARRAYS
from vlfau_jax.files import clear, partial_name, read_bytes
from vlfau_jax.inference.outputs import outputs_of
from vlfau_jax.inference.prediction import DECODED_ARRAYS
from vlfau_jax.inference.trained import Trained
from vlfau_jax.records import Record, Sha256, Text, read_record
from vlfau_jax.train.checkpoint import params_digest

NAMES = ("scores.json", "predictions.jsonl", "report.html")  # of one result
REQUEST = "request.json"
# Whose maps -> the array that has them.
MAP_ARRAYS = {"branch": "spatial_maps", "words": "word_maps"}
_LARGEST = 1 << 30  # bytes of the answers of a batch

# Dtype and number of axes of each array, of which the first is the faces'.
_KINDS = {
    "au_probabilities": (np.float32, 2),
    "local_tokens": (np.int32, 3),
    "local_scores": (np.float32, 2),
    "global_tokens": (np.int32, 2),
    "global_scores": (np.float32, 1),
    "spatial_maps": (np.float32, 4),
    "word_maps": (np.float32, 4),
} | {name: (np.float32, 1) for names in LIKELIHOOD_ARRAYS.values() for name in names}


class Request(Record):
    """What decides the answers of an `evaluate`.

    Attributes:
        version: of this package and of JAX.
        step: of training.
        config: digest of the experiment.
        parameters: digest of the parameters.
        data: digest of the digests of the prepared sets.
        subjects: digest of who is tested.
        beams: width of the search for sentences.
        batch_size: faces per forward pass, over all devices.
        devices: their number and kind.
    """

    version: Text
    step: NonNegativeInt
    config: Sha256
    parameters: Sha256
    data: Sha256
    subjects: Sha256
    beams: PositiveInt
    batch_size: PositiveInt
    devices: Text


def request(
    trained: Trained, dataset: Dataset, subjects: tuple[str, ...], batch_size: int
) -> Request:
    """The record of an evaluation of these subjects by all devices."""
    devices = jax.devices()
    return Request(
        version=f"{__version__}, jax {jax.__version__}",
        step=trained.step,
        config=trained.config_digest,
        parameters=params_digest(trained.params),
        data=_digest(dataset.digests),
        subjects=_digest(subjects),
        beams=trained.beams,
        batch_size=batch_size,
        devices=f"{len(devices)} {devices[0].device_kind}",
    )


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class KeptAnswers:
    """The answers in the hidden folder of a workdir; every process may read, the first one writes.

    Attributes:
        folder: the hidden folder.
        asked: what the answers are to.
        arrays: names of the arrays of each batch.
        units: how many action units they are about.
    """

    folder: Path
    asked: Request
    arrays: tuple[str, ...]
    units: int

    @classmethod
    def of(cls, workdir: Path, trained: Trained, asked: Request, maps: bool = False) -> KeptAnswers:
        """Those of a workdir; with `maps`, they have these, too."""
        given = set(outputs_of(trained.model.options))
        if "local_attention" in given:
            given.add(MAP_ARRAYS["words"])
        wanted = (*DECODED_ARRAYS, *(MAP_ARRAYS.values() if maps else ()))
        arrays = tuple(name for name in wanted if name in given)
        for kind in trained.captions:
            arrays += LIKELIHOOD_ARRAYS[kind]
        return cls(partial_name(workdir / NAMES[0]), asked, arrays, len(trained.aus))

    def claim(self, *, resume: bool) -> None:
        """Makes the folder, which is locked, ready to be added to.

        Raises:
            UserError: what is to be gone on with was asked otherwise.
        """
        try:
            found = read_record(self.folder / REQUEST, Request) if any(self._files()) else None
        except FileError:
            found = None
        if found and resume and found != self.asked:
            new, old = self.asked.model_dump(), found.model_dump()
            keys = ", ".join(key for key in new if new[key] != old[key])
            raise UserError(
                f"--resume: the interrupted evaluation of {self.folder.parent} was of another "
                f"{keys}; evaluate without --resume to begin anew"
            )
        if found and resume:
            clear(self.folder, but=(REQUEST, *(path.name for path in self._files())))
            return
        if found:
            print(
                f"{self.folder.parent}: the answers of an interrupted evaluation are removed; "
                "--resume goes on with them",
                file=sys.stderr,
            )
        clear(self.folder)
        (self.folder / REQUEST).write_text(self.asked.model_dump_json(), encoding="utf-8")

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("answers-*.safetensors"))

    def _file(self, batch: int) -> Path:
        return self.folder / f"answers-{batch:06}.safetensors"

    def read(self, keys: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
        """The arrays of each whole batch that is kept, from the first on.

        Args:
            keys: int [m, 3], subject, task and frame of all test frames, in order.
        """
        size = self.asked.batch_size
        for batch, start in enumerate(range(0, len(keys), size)):
            arrays = self._read_batch(batch, keys[start : start + size])
            if arrays is None:
                return
            yield arrays

    def _read_batch(self, batch: int, keys: np.ndarray) -> dict[str, np.ndarray] | None:
        try:
            found = load(read_bytes(self._file(batch), _LARGEST))
        except (FileError, SafetensorError, ValueError, KeyError):
            return None
        if found.keys() != {"key", *self.arrays} or not np.array_equal(found.pop("key"), keys):
            return None
        for name, values in found.items():
            dtype, axes = _KINDS[name]
            units = None if axes < 2 or name.startswith("global") else self.units
            if values.dtype != dtype or values.ndim != axes or len(values) != len(keys):
                return None
            if units is not None and values.shape[1] != units:
                return None
        return found

    def add(self, batch: int, keys: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
        """Keeps the answers to a batch of faces."""
        content = save(
            {"key": np.ascontiguousarray(keys)}
            | {name: np.ascontiguousarray(arrays[name]) for name in self.arrays}
        )
        new = self.folder / "new"
        new.write_bytes(content)
        os.replace(new, self._file(batch))

    def sweep(self) -> None:
        """Leaves nothing where no answer is kept."""
        if not any(self._files()):
            clear(self.folder)

    def text(self, total: int) -> str:
        """What is kept, and how to go on."""
        count = len(self._files())
        if not count:
            return "nothing is kept"
        batches = -(-total // self.asked.batch_size)
        return (
            f"the answers to {count} of {batches} batches of faces are kept in "
            f"{self.folder.parent}; evaluate with --resume to go on"
        )
