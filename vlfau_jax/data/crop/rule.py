"""The base class of crop rules: how the face of a picture is found, named and versioned.

An author's checkpoint is known to lose a third of its score on faces cropped another way, so the
rule's digest travels with the data set, the checkpoint and the exported model.

A new rule is a subclass in a module of its own and an entry of registry.RULES.
"""

from __future__ import annotations

import hashlib
import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Self, TypeVar

import numpy as np

from vlfau_jax.data.crop.face import Face
from vlfau_jax.data.raw.frames import Place
from vlfau_jax.errors import FileError, UserError
from vlfau_jax.files import TABLE_LIMIT, open_regular

SMALLEST, LARGEST = 16, 1024  # pixels of a crop's side
MODEL_LIMIT = 256 << 20  # bytes of a detector; MediaPipe's have 4 MB

T = TypeVar("T")


def kept_by_each_thread(make: Callable[..., T]) -> Callable[..., T]:
    """Makes a finder once in each thread: it has a state while it looks for a face."""
    own = threading.local()

    @wraps(make)
    def kept(*given: Any) -> T:
        if not hasattr(own, "made"):
            own.made = lru_cache(maxsize=2)(make)
        return own.made(*given)

    return kept


@dataclass(frozen=True)
class CropRule(ABC):
    """How a face becomes a square picture; the first line of a subclass's docstring is its help.

    Rules are plain values, equal by their content; they are pickled for worker processes and Beam,
    and several threads may look for faces at once.

    Attributes:
        name: the rule's name, which matches [a-z]+: it is the first part of the names of configs.
        version: counts changes that alter pixels.
        PARAMETERS: the rule's own numbers, and those that `alignment.pose_of` and `smoothing` read.
        FILE: what the file is that users name as --crop_file, for help and messages; "" if the rule
            reads none.
        READS_TABLE: whether it looks pictures up in a table and may raise NotInTable. FILE is then
            the table, which is data: a model trained on faces from one table can be given faces
            from a table of other pictures. Otherwise FILE is a model, which is part of the rule.
        FINDS_FACES: False if it takes the same part of every picture. Its crops then count as
            aligned by "none".
        SURE: the confidence from which a face needs no second look at the picture turned; 0 where
            there is no finder, or one without a confidence.
        size: pixels of the crop's side.
        parameters: PARAMETERS, and the SHA-256 of a model file as `file_sha256`.
        file: the path of the file. Where it lies is not part of the rule's digest.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    PARAMETERS: ClassVar[Mapping[str, Any]]
    FILE: ClassVar[str] = ""
    READS_TABLE: ClassVar[bool] = False
    FINDS_FACES: ClassVar[bool] = True
    SURE: ClassVar[float] = 0.0

    size: int
    parameters: dict[str, Any]
    file: str = ""

    @classmethod
    def create(cls, size: int, file: str = "") -> Self:
        """The rule for crops of `size` pixels that reads `file`.

        Raises:
            UserError: a size out of range; a file that is missing, or given to a rule that reads
                none.
        """
        if not SMALLEST <= size <= LARGEST:
            raise UserError(
                f"--crop_size={size} is out of range; expected {SMALLEST} to {LARGEST} pixels"
            )
        if file and not cls.FILE:
            raise UserError(
                f"--crop_file={file}: the crop rule {cls.name} reads no file; leave it out"
            )
        if cls.FILE and not file:
            raise UserError(f"--crop={cls.name} needs a --crop_file; expected {cls.FILE}")
        if cls.FILE and not Path(file).exists():
            raise UserError(f"--crop_file={file} is no file; expected {cls.FILE}")
        parameters = dict(cls.PARAMETERS)
        if cls._reads_model():
            parameters["file_sha256"] = cls._digest(file, MODEL_LIMIT)
        elif cls.FILE:
            cls._open(file, TABLE_LIMIT).close()
        return cls(size, parameters, file)

    @classmethod
    def _open(cls, file: str, limit: int) -> BinaryIO:
        try:
            return open_regular(file, limit)
        except FileError as error:
            raise UserError(f"--crop_file={error}; expected {cls.FILE}") from error

    @classmethod
    def _digest(cls, file: str, limit: int) -> str:
        with cls._open(file, limit) as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()

    @classmethod
    def from_record(cls, record: Mapping[str, Any], file: str, source: str | Path) -> Self:
        """Rebuilds the rule that cropped the faces of a prepared set, checkpoint or model folder.

        Args:
            record: what `describe` gave.
            file: the file that the rule reads; "" if it reads none.
            source: the file that holds the record, for messages.

        Raises:
            UserError: the record is of another version of this rule, or `file` is not the file
                that the rule read then.
        """
        if record["version"] != cls.version:
            raise unknown_rule(record, source)
        sha256 = record["parameters"].get("file_sha256")
        if cls._reads_model() and not file:
            raise UserError(
                f"{source}: faces were cropped by the rule {cls.name} with {cls.FILE} "
                f"of SHA-256 {sha256}; give that file as --crop_file"
            )
        rule = cls.create(record["size"], file)
        if rule.parameters.get("file_sha256") != sha256:
            raise UserError(
                f"--crop_file={file} is not the file that {source} names: its SHA-256 is "
                f"{rule.parameters.get('file_sha256')}, expected {sha256}"
            )
        if rule.digest != record["digest"]:
            raise unknown_rule(record, source)
        return rule

    @classmethod
    def _reads_model(cls) -> bool:
        return bool(cls.FILE) and not cls.READS_TABLE

    @abstractmethod
    def find(self, image: np.ndarray, place: Place, root: str) -> Face | None:
        """Finds the largest face of a picture; None if there is none.

        Args:
            image: RGB uint8 [h, w, 3].
            place: where the picture is, for rules that read tables.
            root: the folder to which the sources in a table are relative.

        Raises:
            NotInTable: the rule's table has no row for the picture.
            UserError: the rule's file or the picture's table is missing or malformed.
        """

    def find_all(self, image: np.ndarray, place: Place, root: str) -> list[Face]:
        """Finds every face of a picture, the largest first; see `find` for the arguments.

        A rule that can see one face only, as those that read tables do, gives that one.
        """
        face = self.find(image, place, root)
        return [] if face is None else [face]

    def confidence(self, face: Face, place: Place, root: str) -> float | None:
        """The confidence of what `find` found, 0-1; None if none is stated. See `find`."""
        return face.confidence

    def count(self, image: np.ndarray, face: Face) -> int:
        """How many faces there are in a picture in which `find` found `face`."""
        return face.found

    def check_installed(self) -> None:  # noqa: B027 rules need none
        """Raises UserError where a package that the rule needs is not installed."""

    @property
    def puts_eyes(self) -> tuple[float, float] | None:
        """Where the eyes come to lie in the crop, `alignment.EYE_POSITIONS`; None if it finds none.

        Rules that put them in the same places can find each other's faces.
        """
        p = self.parameters
        return (p["eye_distance"], p["eye_height"]) if "eye_distance" in p else None

    def smallest(self, image: np.ndarray) -> float:
        """The side in pixels below which `find` looks for no face; 0 if it does not say."""
        return 0.0

    def tables(self, places: Iterable[Place]) -> list[str]:
        """The tables that decide how the pictures at `places` are cropped, sorted.

        A model is not among them, because its SHA-256 is part of the rule.
        """
        return [self.file] if self.FILE and self.READS_TABLE else []

    def table_digest(self) -> str:
        """SHA-256 of the table given as --crop_file, which `digest` leaves out; "" without one."""
        return self._digest(self.file, TABLE_LIMIT) if self.FILE and self.READS_TABLE else ""

    def check_table(self, places: Iterable[Place], root: str) -> list[str]:
        """Checks the rule's tables before any of the pictures at `places` is read.

        Returns:
            Remarks: rows and frames without a counterpart.

        Raises:
            UserError: a table is malformed, has a row for none of the pictures, or counts frames
                from a number that leaves open which row is which frame's.
        """
        return []

    def describe(self) -> dict[str, Any]:
        """The rule as plain JSON values, its digest included."""
        return {**self._content(), "digest": self.digest}

    def _content(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "parameters": dict(self.parameters),
            "size": self.size,
        }

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the rule's canonical JSON."""
        text = json.dumps(self._content(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def unknown_rule(record: Mapping[str, Any], source: str | Path) -> UserError:
    """The error for a record of a rule, a version or parameters that are not this code's."""
    return UserError(
        f"{source}: this version does not know crop rule {record['name']} version "
        f"{record['version']} ({record['digest']}), and faces cropped another way would be "
        "scored wrongly; use the version of vlfau_jax that exported the model"
    )
