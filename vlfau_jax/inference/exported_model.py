"""A model folder as an object in Python: pictures or cropped faces in, predictions out.

What runs is the exported program itself, which was compared with the live model when it was
written. Its files are checked against their digests first, and the program by `program_check`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vlfau_jax.data.crop.face import Face
from vlfau_jax.data.crop.registry import rule_from_record
from vlfau_jax.data.crop.rule import CropRule
from vlfau_jax.data.raw.unreadable import Unreadable
from vlfau_jax.data.read.statistics import read_untaught
from vlfau_jax.data.read.transforms import resize
from vlfau_jax.data.text.descriptions import Descriptions, built_in
from vlfau_jax.data.text.reading import Reader
from vlfau_jax.data.text.vocabulary import TOKENIZER, Vocabulary
from vlfau_jax.data.workers import in_threads
from vlfau_jax.errors import RunError, UserError
from vlfau_jax.inference.explained import MAP_OUTPUTS, Explanation, explanations
from vlfau_jax.inference.faces import FoundFace, Limits, look_for_face, look_for_faces
from vlfau_jax.inference.model_folder import PROGRAM, WEIGHTS, ModelFolder, open_model_folder
from vlfau_jax.inference.outputs import outputs_of
from vlfau_jax.inference.picture_input import PictureInput, as_array
from vlfau_jax.inference.picture_result import PictureResult
from vlfau_jax.inference.predict_options import MOST_FACES, Faces
from vlfau_jax.inference.prediction import (
    DECODED_ARRAYS,
    LOSSES,
    DropReason,
    Prediction,
    PredictionDecoder,
    check_finite,
)
from vlfau_jax.inference.program import load_program, platform
from vlfau_jax.inference.program_check import Request
from vlfau_jax.inference.stored_options import read_options
from vlfau_jax.inference.weights import load_weights, read_tensors
from vlfau_jax.model.options import ModelOptions

_ROUNDING = 1e-3
SYNTHETIC_MODEL = (  # told wherever a model of rendered faces is used
    "the model was trained on synthetic faces (rendered ones); "
    "its card says what is known of others"
)


class ExportedModel:
    """A model folder that `export` wrote, ready to describe faces; `vlfau_jax.load` opens one.

    Attributes:
        aus: numbers of the n action units, in the order of every prediction.
        thresholds: n probabilities; a unit whose probability is above its own counts as present.
        image_size: pixels along the side of the faces that `describe` takes.
        captions: the sentences that the model generates: "local" (one for each unit), "global"
            (one about the whole face), both or neither.
        descriptions: the texts that its sentences are made of.
        reader: tells what a sentence of the model says, as `reader.read(sentence, model.aus)`.
        crop_rule: how `predict` finds, aligns and crops faces, as for the training faces.
        synthetic: whether any of its training faces were rendered.
        trained_on: data set, fold, subjects, step and other facts about the training.
        untaught: the units that its training labels could not teach, each with the reason: their
            numbers in a prediction mean nothing.
        outputs: names of the arrays that the exported program gives.
        batch_size: faces in each run of the program.
        devices: which share the faces of each run; the first one alone where
            `batch_size` is no multiple of their number.
        digest: the SHA-256 of the folder, see `model_folder.folder_digest`.
        ships: whether it is the model that ships with vlfau_jax.
        config: all of the folder's config.json.
    """

    def __init__(
        self,
        folder: str | Path | None,
        crop_file: str | Path = "",
        batch_size: int = 8,
        verify: str = "",
        devices: Sequence[jax.Device] | None = None,
    ) -> None:
        if not 1 <= batch_size <= MOST_FACES:
            raise ValueError(f"batch_size={batch_size}; expected 1 to {MOST_FACES}")
        opened = open_model_folder(folder, verify)
        folder, config = opened.path, opened.config
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
        self.descriptions: Descriptions = config.descriptions or built_in("states", self.aus)
        self.reader = Reader(self.descriptions)
        if config.descriptions is not None:
            _check_spoken(config.descriptions, self.aus, vocabulary, opened.config_path)
        self.image_size: int = config.image_size
        self.captions: tuple[str, ...] = options.captions
        self.crop_rule: CropRule = rule_from_record(
            config.crop_rule, str(crop_file), opened.config_path
        )
        self.synthetic: bool = config.synthetic
        self.trained_on: dict[str, Any] = config.trained_on
        self.digest: str = opened.digest
        self.ships: bool = opened.ships
        self.batch_size = batch_size
        # Of a folder that an earlier version exported, nothing is known of it.
        self.untaught: dict[int, str] = read_untaught(
            self.trained_on.get("untaught", {}), opened.config_path
        )
        self._decoder = PredictionDecoder(self.aus, self.thresholds, vocabulary, self.untaught)
        self._vocabulary = vocabulary
        request = _request(opened, vocabulary.size, batch_size)
        program = load_program(folder / PROGRAM, opened.program, request)
        # Each device runs the program for its own faces: what it gives for a face depends on how
        # many share its run, not on where that is.
        self.devices = _sharing(batch_size, devices)
        mesh = Mesh(np.array(self.devices), ("faces",))
        split, whole = PartitionSpec("faces"), PartitionSpec()
        self._faces = NamedSharding(mesh, split)
        self._weights = jax.device_put(load_weights(folder / WEIGHTS), NamedSharding(mesh, whole))
        given = jax.tree.unflatten(program.out_tree, program.out_avals)
        # The first programs gave no scores of sentences; their probabilities are then None.
        self.outputs: tuple[str, ...] = tuple(n for n in outputs_of(options) if n in given)
        self._mesh, self._exported, self._split = mesh, program, (whole, split)
        self._programs: dict[tuple[str, ...], Any] = {}

    def _compiled(self, names: tuple[str, ...] = ()) -> Any:
        """The program, or one that gives the arrays of these names alone and computes no others."""
        if names not in self._programs:

            def call(weights: Any, faces: jax.Array) -> dict[str, jax.Array]:
                arrays = self._exported.call(weights, faces)
                return {name: arrays[name] for name in names} if names else arrays

            whole, split = self._split
            self._programs[names] = jax.jit(
                jax.shard_map(
                    call,
                    mesh=self._mesh,
                    in_specs=(whole, split),
                    out_specs=split,
                    check_vma=False,  # nothing is known of an exported program's inside
                )
            )
        return self._programs[names]

    @property
    def few(self) -> int:
        """A smaller `batch_size` for `describe`: an eighth, rounded up to a face a device."""
        devices = len(self.devices)
        return devices * -(-self.batch_size // (8 * devices))

    def describe(self, faces: np.ndarray, batch_size: int | None = None) -> list[Prediction]:
        """Predictions for faces that are cropped by `crop_rule` already, in their order.

        The program is compiled once, for `batch_size` faces, at the first call. Any number of
        faces is run in batches of that size and the last one is padded, so that a single face
        takes as long as `batch_size` of them.

        Args:
            faces: RGB uint8 [b, image_size, image_size, 3], any b.
            batch_size: `few`, which is compiled once more; None for the model's own.

        Raises:
            ValueError: another dtype or shape.
        """
        return list(self._decoded(faces, batch_size))

    def explain(self, faces: np.ndarray) -> list[Explanation]:
        """As `describe`, with the maps of each unit and of each word.

        Args:
            faces: RGB uint8 [b, image_size, image_size, 3], any b.

        Raises:
            ValueError: another dtype or shape.
        """
        names = (*DECODED_ARRAYS, *MAP_OUTPUTS)
        explained: list[Explanation] = []
        for arrays in self._batches(faces, names):
            check_finite({name: arrays[name] for name in MAP_OUTPUTS if name in arrays})
            predictions = list(self._decoder.decode(arrays))
            explained += explanations(arrays, predictions, self._vocabulary, self.reader)
        return explained

    def describe_units(
        self, faces: np.ndarray, sentences: bool = False, maps: bool = False
    ) -> tuple[list[Prediction], np.ndarray | None]:
        """As `describe`, without the sentences unless they are asked for, and with the maps.

        What is not asked for is not computed: writing sentences is most of the work.

        Args:
            faces: see `describe`.
            sentences: whether the predictions have sentences.
            maps: whether to give the maps.

        Returns:
            The predictions; float32 [b, n, h, w], where each unit's branch looks, or None where the
            model has no spatial maps or they are not asked for.
        """
        names = ["au_probabilities"]
        names += DECODED_ARRAYS[1:] if sentences else []
        names += ["spatial_maps"] if maps else []
        predictions: list[Prediction] = []
        looked: list[np.ndarray] = []
        for arrays in self._batches(faces, names):
            if "spatial_maps" in arrays:
                looked.append(arrays.pop("spatial_maps"))
            predictions += self._decoder.decode(arrays)
        return predictions, np.concatenate(looked) if looked else None

    def _decoded(self, faces: np.ndarray, batch_size: int | None = None) -> Iterator[Prediction]:
        for arrays in self._batches(faces, DECODED_ARRAYS, batch_size):
            yield from self._decoder.decode(arrays)

    def _batches(
        self, faces: np.ndarray, names: Sequence[str], batch_size: int | None = None
    ) -> Iterator[dict[str, np.ndarray]]:
        """The named arrays that the program gives, batch by batch, checked."""
        size = batch_size or self.batch_size
        faces = np.asarray(faces)
        if faces.dtype != np.uint8 or faces.shape[1:] != (self.image_size, self.image_size, 3):
            raise ValueError(
                f"faces are {_array(faces)}; expected cropped RGB uint8 "
                f"[b, {self.image_size}, {self.image_size}, 3]"
            )
        names = tuple(name for name in names if name in self.outputs)
        # Sentences need the whole program; without them, what is not asked for is not computed.
        some = () if any(name.endswith("tokens") for name in names) else names
        for start in range(0, len(faces), size):
            shown = faces[start : start + size]
            batch = np.zeros((size, *faces.shape[1:]), np.uint8)
            batch[: len(shown)] = shown
            arrays = self._compiled(some)(self._weights, jax.device_put(batch, self._faces))
            wanted = jax.device_get({name: arrays[name] for name in names})
            found = {name: values[: len(shown)] for name, values in wanted.items()}
            self._check_ranges(found)
            yield found

    def _check_ranges(self, arrays: dict[str, np.ndarray]) -> None:
        """RunError for numbers that are none of this model's; that they are finite is decoded."""
        for name, values in arrays.items():
            low, high = {
                "tokens": (0, self._vocabulary.size - 1),
                "scores": (-np.inf, _ROUNDING),
                "maps": (-np.inf, np.inf),  # no sigmoid bounds them in every network
            }.get(name.rpartition("_")[2], (-_ROUNDING, 1 + _ROUNDING))
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

        A doubtful face is one, too; `look` says what is doubtful.

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
        found = self.look(picture, path, root)
        return found.reason if found.crop is None else found.crop

    def look(
        self,
        picture: np.ndarray,
        path: str | Path = "",
        root: str | Path = "",
        limits: Limits | None = None,
    ) -> FoundFace:
        """As `find_face`, with what is known about the face: confidence, doubts, other faces.

        Args:
            picture: RGB uint8 [h, w, 3].
            path: see `find_face`.
            root: see `find_face`.
            limits: beyond which a face is doubtful; `Limits()` if None.

        Raises:
            ValueError: see `find_face`.
            UserError: see `find_face`.
        """
        picture = _checked(picture, self.crop_rule, path)
        found = look_for_face(picture, self.crop_rule, path, root, limits)
        return self._resized(found)

    def look_all(
        self,
        picture: np.ndarray,
        path: str | Path = "",
        root: str | Path = "",
        limits: Limits | None = None,
        *,
        finder: CropRule | None = None,
        faces: Faces = "all",
        turn: bool = True,
        most: int | None = None,
        known: Sequence[Face] | None = None,
    ) -> list[FoundFace]:
        """As `look`, but every face, the largest first; see `faces.look_for_faces`."""
        looked = look_for_faces(
            _checked(picture, finder or self.crop_rule, path),
            self.crop_rule,
            path,
            root,
            limits,
            finder=finder,
            faces=faces,
            turn=turn,
            most=most,
            known=known,
        )
        return [self._resized(found) for found in looked]

    def _resized(self, found: FoundFace) -> FoundFace:
        """A face as `describe` takes it, with the alignment to that size."""
        if found.crop is None:
            return found
        scale = np.float32(self.image_size / len(found.crop))
        crop = resize(found.crop, self.image_size)
        return replace(found, crop=crop, alignment=found.alignment * scale)

    def predict(
        self,
        pictures: Iterable[PictureInput],
        paths: Sequence[str | Path] | None = None,
        limits: Limits | None = None,
        keep_doubtful: bool = False,
    ) -> list[PictureResult]:
        """Finds, crops and describes the largest face of every picture, unless it is doubtful.

        Args:
            pictures: of any sizes: paths of files, arrays RGB uint8 [h, w, 3], PIL's images.
            paths: the pictures' files, where pictures are none; only crop rules that look pictures
                up in a table need them.
            limits: beyond which a face is doubtful; `Limits()` if None.
            keep_doubtful: describe doubtful faces, too.

        Returns:
            A result for each picture, in their order.

        Raises:
            ValueError: one path instead of a list, a picture of another dtype or shape, another
                number of paths than pictures, or no paths though the crop rule needs them.
            UserError: the table that the rule reads is missing or malformed.
        """
        if isinstance(pictures, (str, Path)):  # a string is iterable: its letters would be paths
            raise ValueError(f"pictures={str(pictures)!r} is one path; give a list of pictures")
        pictures = list(pictures)
        if paths is not None and len(paths) != len(pictures):
            raise ValueError(f"{len(paths)} paths for {len(pictures)} pictures; expected one each")
        faces = (
            self._look_at(picture, "" if paths is None else paths[k], limits)
            for k, picture in enumerate(pictures)
        )
        return list(self.results(faces, keep_doubtful))

    def stream(
        self,
        pictures: Iterable[PictureInput],
        limits: Limits | None = None,
        keep_doubtful: bool = False,
    ) -> Iterator[PictureResult]:
        """As `predict`, one result after another: of a video's frames, of any number of files.

        Pictures are taken from the iterator when they are needed, two batches ahead at most, and
        threads find their faces while the program describes those before. Arguments and errors are
        those of `predict`; an error is raised where its picture's result is due.
        """
        look = partial(self._look_at, path="", limits=limits)
        with closing(in_threads(look, pictures, ahead=self.batch_size)) as faces:
            yield from self.results(faces, keep_doubtful)

    def _look_at(self, picture: PictureInput, path: str | Path, limits: Limits | None) -> FoundFace:
        """What there is to describe of a picture in whatever form."""
        try:
            array = as_array(picture)
        except Unreadable as error:
            return FoundFace(None, LOSSES[error.loss], error.detail)
        path = picture if isinstance(picture, str | Path) else path
        return self.look(array, path, Path(path).parent if str(path) else "", limits)

    def results(
        self, faces: Iterable[FoundFace | np.ndarray | DropReason], keep_doubtful: bool = False
    ) -> Iterator[PictureResult]:
        """Describes what `look` or `find_face` returned for many pictures; memory holds one batch.

        Args:
            faces: what was found, or faces, or the reasons why there is none.
            keep_doubtful: describe doubtful faces, too.

        Yields:
            A result for each of `faces`, in their order.
        """
        found = map(_as_found, faces)
        while group := list(islice(found, self.batch_size)):
            good = [
                face.crop is not None and (face.reason is None or keep_doubtful) for face in group
            ]
            crops = [face.crop for face, is_good in zip(group, good, strict=True) if is_good]
            predictions = iter(self.describe(np.stack(crops)) if crops else [])
            for face, is_good in zip(group, good, strict=True):
                yield PictureResult.of(face, next(predictions) if is_good else None)


def _check_spoken(
    descriptions: Descriptions, aus: Sequence[int], vocabulary: Vocabulary, path: Path
) -> None:
    """UserError where the texts of a folder are not those of its units and of its tokenizer."""
    missing = [au for au in aus if au not in descriptions.aus]
    if missing:
        raise UserError(f"{path}: descriptions lack AU{missing[0]}; export the model again")
    if Vocabulary.build(descriptions).words != vocabulary.words:
        raise UserError(
            f"{path}: descriptions are not made of the words of {TOKENIZER}; export the model again"
        )


def _sharing(batch_size: int, devices: Sequence[jax.Device] | None) -> list[jax.Device]:
    if devices is not None and not devices:
        raise ValueError("devices is empty; give some of jax.local_devices(), or None for all")
    devices = list(devices or jax.local_devices())
    return devices if batch_size % len(devices) == 0 else devices[:1]


def _checked(picture: np.ndarray, rule: CropRule, path: str | Path) -> np.ndarray:
    picture = np.asarray(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"a picture is {_array(picture)}; expected RGB uint8 [h, w, 3]")
    if not picture.size:
        raise ValueError(f"a picture is {_array(picture)}; expected at least one pixel")
    if rule.READS_TABLE and not str(path):
        raise ValueError(
            f"the crop rule {rule.name} looks pictures up in a table; give the paths of their files"
        )
    return picture


def _as_found(face: FoundFace | np.ndarray | DropReason) -> FoundFace:
    if isinstance(face, FoundFace):
        return face
    return FoundFace(None, face) if isinstance(face, str) else FoundFace(face, faces=1)


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
