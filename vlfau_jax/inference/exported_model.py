"""A model folder as an object in Python: pictures or cropped faces in, predictions out.

What runs is the exported program itself, which was compared with the live model when it was
written. Its files are checked against their digests first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export as jax_export
from safetensors import SafetensorError
from safetensors.numpy import load_file

from vlfau_jax.data.crop.cropping import find_and_crop
from vlfau_jax.data.crop.registry import rule_from_record
from vlfau_jax.data.crop.rule import CropRule
from vlfau_jax.data.crop.tables import NotInTable
from vlfau_jax.data.read.statistics import read_untaught
from vlfau_jax.data.read.transforms import resize
from vlfau_jax.data.text.vocabulary import Vocabulary
from vlfau_jax.errors import UserError
from vlfau_jax.inference.model_folder import CONFIG, PROGRAM, WEIGHTS, checked_config
from vlfau_jax.inference.outputs import outputs_of
from vlfau_jax.inference.prediction import (
    DECODED_ARRAYS,
    DropReason,
    Prediction,
    PredictionDecoder,
)
from vlfau_jax.inference.stored_options import read_options
from vlfau_jax.model.options import ModelOptions


@dataclass(frozen=True)
class PictureResult:
    """The result for one picture: a prediction, or the reason why there is none.

    Attributes:
        prediction: of the largest face; None where the picture was dropped.
        drop_reason: a key of `prediction.DROP_REASONS`; None where there is a prediction.
    """

    prediction: Prediction | None
    drop_reason: DropReason | None = None


class ExportedModel:
    """A model folder that `export` wrote, ready to describe faces; `vlfau_jax.load` opens one.

    Attributes:
        aus: numbers of the n action units, in the order of every prediction.
        thresholds: n probabilities; a unit whose probability is above its own counts as present.
        image_size: pixels along the side of the faces that `describe` takes.
        captions: the sentences that the model generates: "local" (one for each unit), "global"
            (one about the whole face), both or neither.
        crop_rule: how `predict` finds, aligns and crops faces, as for the training faces.
        synthetic: whether the model was trained on rendered faces; then it knows nothing about
            real ones.
        trained_on: data set, fold, subjects, step and other facts about the training.
        untaught: the units that its training labels could not teach, each with the reason: their
            numbers in a prediction mean nothing.
        outputs: names of the arrays that the exported program gives.
        batch_size: faces in each run of the program.
        config: all of the folder's config.json.
    """

    def __init__(self, folder: str | Path, crop_file: str | Path = "", batch_size: int = 8) -> None:
        folder = Path(folder)
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}; expected at least 1")
        self.config: dict[str, Any] = checked_config(folder)
        options = read_options(ModelOptions, self.config["model"], folder / CONFIG)
        self.aus: tuple[int, ...] = tuple(unit["number"] for unit in self.config["aus"])
        self.thresholds: tuple[float, ...] = tuple(u["threshold"] for u in self.config["aus"])
        self.image_size: int = self.config["image_size"]
        self.captions: tuple[str, ...] = options.captions
        self.crop_rule: CropRule = rule_from_record(
            self.config["crop_rule"], str(crop_file), folder / CONFIG
        )
        self.synthetic: bool = self.config["synthetic"]
        self.trained_on: dict[str, Any] = self.config.get("trained_on", {})
        self.batch_size = batch_size
        # Of a folder that an earlier version exported, nothing is known of it.
        self.untaught: dict[int, str] = read_untaught(
            self.trained_on.get("untaught", {}), folder / CONFIG
        )
        self._decoder = PredictionDecoder(
            self.aus, self.thresholds, Vocabulary.load(folder), self.untaught
        )
        try:
            self._weights = jax.device_put(load_file(folder / WEIGHTS))
            program = jax_export.deserialize(bytearray((folder / PROGRAM).read_bytes()))
        except (SafetensorError, ValueError) as error:
            raise UserError(f"{folder}: the model cannot be read ({error})") from error
        given = jax.tree.unflatten(program.out_tree, program.out_avals)
        expected = outputs_of(options)
        # The first programs gave no scores of sentences; their probabilities are then None.
        without_scores = {name for name in expected if not name.endswith("_scores")}
        if given.keys() not in (expected.keys(), without_scores):
            raise UserError(
                f"{folder / CONFIG}: a model of these options gives {', '.join(expected)}, but "
                f"{PROGRAM} gives {', '.join(given)}; export the model again"
            )
        self.outputs: tuple[str, ...] = tuple(name for name in expected if name in given)
        self._program = jax.jit(program.call)

    def describe(self, faces: np.ndarray) -> list[Prediction]:
        """Predictions for faces that are cropped by `crop_rule` already, in their order.

        The program is compiled once, for `batch_size` faces, at the first call. Any number of
        faces is run in batches of that size and the last one is padded, so that a single face
        takes as long as `batch_size` of them.

        Args:
            faces: RGB uint8 [b, image_size, image_size, 3], any b.

        Raises:
            ValueError: another dtype or shape.
        """
        faces = np.asarray(faces)
        if faces.dtype != np.uint8 or faces.shape[1:] != (self.image_size, self.image_size, 3):
            raise ValueError(
                f"faces are {_array(faces)}; expected cropped RGB uint8 "
                f"[b, {self.image_size}, {self.image_size}, 3]"
            )
        predictions: list[Prediction] = []
        for start in range(0, len(faces), self.batch_size):
            predictions += self._describe_batch(faces[start : start + self.batch_size])
        return predictions

    def _describe_batch(self, faces: np.ndarray) -> list[Prediction]:
        count = len(faces)
        if count < self.batch_size:
            padding = np.zeros((self.batch_size - count, *faces.shape[1:]), np.uint8)
            faces = np.concatenate([faces, padding])
        arrays = self._program(self._weights, faces)
        decoded = {name: arrays[name] for name in DECODED_ARRAYS if name in self.outputs}
        arrays = {name: values[:count] for name, values in jax.device_get(decoded).items()}
        return list(self._decoder.decode(arrays))

    def find_face(
        self, picture: np.ndarray, path: str | Path = "", root: str | Path = ""
    ) -> np.ndarray | DropReason:
        """The largest face of a picture, cropped by `crop_rule` as `describe` takes it.

        Args:
            picture: RGB uint8 [h, w, 3].
            path: the picture's file; crop rules that read a table need it.
            root: the folder that the sources in a table of boxes are relative to.

        Returns:
            RGB uint8 [image_size, image_size, 3], or the reason why there is no face.

        Raises:
            ValueError: another dtype or shape, or no `path` though the rule needs one.
            UserError: the table that the rule reads is missing or malformed.
        """
        picture = np.asarray(picture)
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"a picture is {_array(picture)}; expected RGB uint8 [h, w, 3]")
        if not picture.size:
            raise ValueError(f"a picture is {_array(picture)}; expected at least one pixel")
        if self.crop_rule.READS_TABLE and not str(path):
            raise ValueError(
                f"the crop rule {self.crop_rule.name} looks pictures up in a table; "
                "give the paths of their files"
            )
        try:
            face = find_and_crop(picture, self.crop_rule, str(path), root)
        except NotInTable:
            return "not in the table"
        return "no face" if face is None else resize(face, self.image_size)

    def predict(
        self, pictures: Iterable[np.ndarray], paths: Sequence[str | Path] | None = None
    ) -> list[PictureResult]:
        """Finds, crops and describes the largest face of every picture.

        Args:
            pictures: RGB uint8 [h, w, 3] each, of any sizes.
            paths: the pictures' files; only crop rules that look pictures up in a table need
                them.

        Returns:
            A result for each picture, in their order.

        Raises:
            ValueError: a picture of another dtype or shape, another number of paths than pictures,
                or no paths though the crop rule needs them.
            UserError: the table that the rule reads is missing or malformed.
        """
        pictures = list(pictures)
        if paths is None:
            paths = [""] * len(pictures)
        if len(paths) != len(pictures):
            raise ValueError(f"{len(paths)} paths for {len(pictures)} pictures; expected one each")
        faces = (self.find_face(*pair) for pair in zip(pictures, paths, strict=True))
        return list(self.results(faces))

    def results(self, faces: Iterable[np.ndarray | DropReason]) -> Iterator[PictureResult]:
        """Describes what `find_face` returned for many pictures; memory holds one batch.

        Args:
            faces: faces as `find_face` returns them, or the reasons why there is none.

        Yields:
            A result for each of `faces`, in their order.
        """
        faces = iter(faces)
        while group := list(islice(faces, self.batch_size)):
            found = [face for face in group if not isinstance(face, str)]
            predictions = iter(self.describe(np.stack(found)) if found else [])
            for face in group:
                if isinstance(face, str):
                    yield PictureResult(None, face)
                else:
                    yield PictureResult(next(predictions))


def _array(value: np.ndarray) -> str:
    return f"{value.dtype} {list(value.shape)}"
