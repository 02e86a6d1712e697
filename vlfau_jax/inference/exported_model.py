"""A model folder as an object in Python: pictures or cropped faces in, predictions out.

What runs is the exported program itself, which was compared with the live model when it was
written. Its files are checked against their digests first, and the program by `program_check`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vlfau_jax.data.crop.cropping import find_and_crop
from vlfau_jax.data.crop.registry import rule_from_record
from vlfau_jax.data.crop.rule import CropRule
from vlfau_jax.data.crop.tables import NotInTable
from vlfau_jax.data.read.transforms import resize
from vlfau_jax.data.text.vocabulary import TOKENIZER, Vocabulary
from vlfau_jax.errors import RunError, UserError
from vlfau_jax.inference.model_folder import PROGRAM, WEIGHTS, ModelFolder, open_model_folder
from vlfau_jax.inference.outputs import outputs_of
from vlfau_jax.inference.prediction import (
    DECODED_ARRAYS,
    DropReason,
    Prediction,
    PredictionDecoder,
)
from vlfau_jax.inference.program import load_program, platform
from vlfau_jax.inference.program_check import Request
from vlfau_jax.inference.stored_options import read_options
from vlfau_jax.inference.weights import load_weights, read_tensors
from vlfau_jax.model.options import ModelOptions

MOST_FACES = 4096  # in a run of the program
_ROUNDING = 1e-3


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
        outputs: names of the arrays that the exported program gives.
        batch_size: faces in each run of the program.
        digest: the SHA-256 of the folder, see `model_folder.folder_digest`.
        config: all of the folder's config.json.
    """

    def __init__(
        self,
        folder: str | Path,
        crop_file: str | Path = "",
        batch_size: int = 8,
        verify: str = "",
    ) -> None:
        folder = Path(folder)
        if not 1 <= batch_size <= MOST_FACES:
            raise ValueError(f"batch_size={batch_size}; expected 1 to {MOST_FACES}")
        opened = open_model_folder(folder, verify)
        config = opened.config
        self.config: dict[str, Any] = opened.stored
        options = read_options(ModelOptions, config.model, opened.config_path)
        vocabulary = Vocabulary.parse(opened.tokenizer, folder / TOKENIZER)
        for key, said, found in (
            ("captions", config.captions, options.captions),
            ("vocabulary_size", config.vocabulary_size, vocabulary.size),
        ):
            if said not in (None, found):
                raise UserError(f"{opened.config_path}: {key} is {said}, but the model has {found}")
        self.aus: tuple[int, ...] = tuple(unit.number for unit in config.aus)
        self.thresholds: tuple[float, ...] = tuple(unit.threshold for unit in config.aus)
        self.image_size: int = config.image_size
        self.captions: tuple[str, ...] = options.captions
        self.crop_rule: CropRule = rule_from_record(
            config.crop_rule, str(crop_file), opened.config_path
        )
        self.synthetic: bool = config.synthetic
        self.trained_on: dict[str, Any] = config.trained_on
        self.digest: str = opened.digest
        self.batch_size = batch_size
        self._decoder = PredictionDecoder(self.aus, self.thresholds, vocabulary)
        self._tokens = vocabulary.size
        request = _request(opened, vocabulary.size, batch_size)
        program = load_program(folder / PROGRAM, opened.program, request)
        self._weights = jax.device_put(load_weights(folder / WEIGHTS))
        given = jax.tree.unflatten(program.out_tree, program.out_avals)
        # The first programs gave no scores of sentences; their probabilities are then None.
        self.outputs: tuple[str, ...] = tuple(n for n in outputs_of(options) if n in given)
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
        self._check_ranges(arrays)
        return list(self._decoder.decode(arrays))

    def _check_ranges(self, arrays: dict[str, np.ndarray]) -> None:
        """RunError for numbers that are none of this model's; that they are finite is decoded."""
        for name, values in arrays.items():
            low, high = {"tokens": (0, self._tokens - 1), "scores": (-np.inf, _ROUNDING)}.get(
                name.rpartition("_")[2], (-_ROUNDING, 1 + _ROUNDING)
            )
            outside = values[(values < low) | (values > high)]
            if outside.size:
                raise RunError(
                    f"the model gives {name} of {outside[0]}, expected {low:g} to {high:g}: its "
                    f"{PROGRAM} or {WEIGHTS} is no trained model's"
                )

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


def _request(folder: ModelFolder, vocabulary: int, batch_size: int) -> Request:
    """What the folder's program should be."""
    config = folder.config
    lengths = config.sentence_lengths
    return Request(
        options=config.model,
        units=len(config.aus),
        vocabulary=vocabulary,
        max_words=None if lengths is None else (lengths["local"] - 1, lengths["global"] - 1),
        beams=config.beams,
        image_size=config.image_size,
        batch_size=batch_size,
        platform=platform(),
        weights=read_tensors(folder.path / WEIGHTS),
    )
