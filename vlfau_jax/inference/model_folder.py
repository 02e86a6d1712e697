"""The model folder: its files, the record in its config.json, and what a folder must pass.

What answers depend on is covered by digests: config.json holds those of the other files and its
own. They find damage. Whoever writes a folder writes its digests, too, so that only the digest of
the whole folder, got on another way, tells whose folder it is.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from vlfau_jax import shipped
from vlfau_jax.data.text.descriptions import Descriptions
from vlfau_jax.data.text.vocabulary import TOKENIZER
from vlfau_jax.errors import FileError, UserError, printable
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.files import file_digest, read_bytes
from vlfau_jax.records import PlainName, Probability, Record, Sha256, Text, parse_record

FORMAT = "vlfau_jax.model"
FORMAT_VERSION = 1
WEIGHTS, PROGRAM, CONFIG, CARD = "model.safetensors", "model.stablehlo", "config.json", "README.md"
PREPROCESSOR = "preprocessor_config.json"
PLATFORMS = ("cpu", "cuda", "tpu")
MOST_BEAMS = 16
MOST_WORDS = 255  # of a sentence, <end> counted

# Bytes that the files may have: far above the largest network's.
CONFIG_LIMIT = 4 << 20
PROGRAM_LIMIT = 64 << 20
FILE_LIMIT = 64 << 30

_OWN_DIGEST = "config_sha256"


class Unit(Record):
    """An action unit that the model scores.

    Attributes:
        number: of the Facial Action Coding System.
        name: its name there.
        threshold: a probability above it counts as present.
    """

    number: int
    name: Text
    threshold: Probability

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        known = ACTION_UNITS.get(self.number)
        if known is None or known.name != self.name:
            raise ValueError(f"should be a unit of facs.py, not AU {self.number} {self.name!r:.60}")
        return self


class ModelConfig(Record):
    """config.json. Keys with defaults are absent in folders of earlier versions.

    Attributes:
        format: FORMAT.
        format_version: FORMAT_VERSION.
        versions: of the packages that wrote the folder.
        aus: the units, in the order of every array.
        image_size: pixels along a face's side.
        crop_rule: how the training faces were cropped, see `CropRule.describe`.
        normalisation: what the program does with pixels first, for readers.
        model: ModelOptions.
        vocabulary_size: how many tokens.
        descriptions: the texts that its sentences are made of; None for those of "states".
        captions: "local", "global", both or neither.
        sentence_lengths: tokens in the rows that the program gives.
        beams: width of the search for sentences; 1 is greedy.
        program: the program's arguments and results, for readers.
        formats: the other formats that the folder has, for readers.
        weights: the precision of the weights and what it changes, for readers.
        shifts: what `export --shifts` added to the units' logits; the weights have it, for readers.
        synthetic: whether any of the training faces were rendered.
        trained_on: facts about the training, for readers.
        files_sha256: digests of the other files, but of the card.
        config_sha256: the digest of all above, see `config_digest`.
    """

    format: Literal["vlfau_jax.model"]
    format_version: Literal[1]
    versions: dict[Text, Text] = Field(default={})
    aus: Annotated[tuple[Unit, ...], Field(min_length=1)]
    image_size: Annotated[int, Field(ge=16, le=1024)]
    crop_rule: dict[str, Any]
    normalisation: dict[str, Any] = Field(default={})
    model: dict[str, Any]
    vocabulary_size: Annotated[int, Field(ge=5)] | None = None
    descriptions: Descriptions | None = None
    captions: tuple[Literal["local", "global"], ...] | None = None
    sentence_lengths: (
        dict[Literal["local", "global"], Annotated[int, Field(ge=2, le=MOST_WORDS + 1)]] | None
    ) = None
    beams: Annotated[int, Field(ge=1, le=MOST_BEAMS)] = 1
    program: dict[str, Any] = Field(default={})
    formats: dict[str, Any] = Field(default={})
    weights: dict[str, Any] = Field(default={})
    shifts: dict[Text, float] = Field(default={})
    synthetic: bool
    trained_on: dict[str, Any] = Field(default={})
    files_sha256: dict[PlainName, Sha256]
    config_sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        numbers = [unit.number for unit in self.aus]
        if len({*numbers}) < len(numbers):
            raise ValueError(f"aus should name every unit once, not AU {numbers}")
        if self.sentence_lengths is not None and len(self.sentence_lengths) < 2:
            raise ValueError("sentence_lengths should have local and global")
        for name in (WEIGHTS, PROGRAM, TOKENIZER):
            if name not in self.files_sha256:
                raise ValueError(f"files_sha256 lacks {name}; export the model again")
        return self


@dataclass(frozen=True)
class ModelFolder:
    """A model folder whose files have matched their digests.

    Attributes:
        path: the folder.
        config: its config.json.
        stored: config.json as JSON.
        program: the bytes of its program.
        tokenizer: the bytes of its vocabulary.
        digest: the SHA-256 of the whole folder, see `folder_digest`.
    """

    path: Path
    config: ModelConfig
    stored: dict[str, Any]
    program: bytes
    tokenizer: bytes
    digest: str

    @property
    def ships(self) -> bool:
        """Whether it is the model that ships with vlfau_jax."""
        return self.path.resolve() == shipped.MODEL.resolve()

    @property
    def config_path(self) -> Path:
        """Where config.json is, for messages."""
        return self.path / CONFIG


def config_digest(config: Mapping[str, Any]) -> str:
    """The SHA-256 of a config.json without its own digest.

    Hashed is its JSON in UTF-8 with sorted keys, "," and ":" between them, and other characters
    than ASCII escaped: `json.dumps(config, sort_keys=True, separators=(",", ":"))`.
    """
    kept = {key: value for key, value in config.items() if key != _OWN_DIGEST}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def folder_digest(files: Mapping[str, str]) -> str:
    """The SHA-256 of a folder, from the digests of config.json and of the files that it lists.

    Hashed are lines "DIGEST  NAME" sorted by name. README.md and files that config.json does not
    list are not in it: no answer depends on them. So this prints it, too:

        LC_ALL=C; sha256sum config.json model.* preproc* tokenizer* | sha256sum
    """
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def open_model_folder(folder: str | Path | None, verify: str = "") -> ModelFolder:
    """Opens a model folder: its config.json is valid and every file that it lists has its digest.

    Args:
        folder: its path; None for the model that ships, and a line on stderr says which that is.
        verify: the digest that it must have, see `folder_digest`; "" for any.

    Raises:
        UserError: the folder has no such config, is a training run's, or is of another format; a
            file is missing, no regular file or changed; or its digest is another one than `verify`.
            Or it is the one that ships, and this installation lacks it.
    """
    is_named = folder is not None
    folder = shipped.model() if folder is None else Path(folder)
    path = folder / CONFIG
    if not path.exists():
        raise UserError(f"--model={folder} has no {CONFIG}; name a folder that `export` wrote")
    content = read_bytes(path, CONFIG_LIMIT)
    stored = _stored(content, folder)
    config = parse_record(content, ModelConfig, path)
    if config.config_sha256 is None:
        print(
            f"{path} has no digest of its own, as an earlier version wrote it: damage to units and "
            "thresholds is not noticed; export the model again",
            file=sys.stderr,
        )
    elif _digest(stored, path) != config.config_sha256:
        raise UserError(f"{path}: changed since it was exported (SHA-256 differs); copy again")
    kept = {PROGRAM: b"", TOKENIZER: b""}
    found = {CONFIG: hashlib.sha256(content).hexdigest()}
    for name, digest in config.files_sha256.items():
        if name == CARD:  # of earlier versions; documents may be edited
            continue
        if not (folder / name).exists():
            raise UserError(f"{path}: lists {name!r}, which is not a file of this folder")
        if name in kept:
            kept[name] = read_bytes(folder / name, PROGRAM_LIMIT)
            found[name] = hashlib.sha256(kept[name]).hexdigest()
        else:
            found[name] = file_digest(folder / name, FILE_LIMIT)
        if found[name] != digest:
            raise UserError(
                f"{folder / name}: changed since it was exported (SHA-256 differs); copy again"
            )
    digest = folder_digest(found)
    if verify and verify.strip().lower() != digest:
        raise UserError(f"--verify: {folder} has the SHA-256 {digest}, not {verify}")
    if not is_named:
        text = (
            f"no --model was given: the one that ships is used, {folder}, which was trained on "
            f"rendered faces alone; its card: {folder / CARD}"
        )
        print(printable(text), file=sys.stderr)
    return ModelFolder(folder, config, stored, kept[PROGRAM], kept[TOKENIZER], digest)


def _digest(stored: Mapping[str, Any], path: Path) -> str:
    try:
        return config_digest(stored)
    except (ValueError, RecursionError) as error:  # a number that is not finite
        raise FileError(path, f"holds what has no digest ({error})") from None


def foreign_entry(folder: Path) -> str | None:
    """The name of something in a folder that `export` did not write, if any.

    A damaged model is recognised: by its config.json's format and the names that it lists. A card
    that was edited is its editor's.
    """
    entries = sorted(folder.iterdir())
    if not entries:
        return None
    try:
        content = read_bytes(folder / CONFIG, CONFIG_LIMIT)
        stored = parse_record(content, dict[str, Any], folder / CONFIG)
        listed = parse_record(json.dumps(stored["files_sha256"]), dict[PlainName, str], folder)
    except (FileError, KeyError):
        stored, listed = {}, {}
    ours = {CONFIG, *listed} if stored.get("format") == FORMAT else set()
    for entry in entries:
        if entry.name not in ours or entry.is_symlink() or not entry.is_file():
            return entry.name
    card = folder / CARD
    if card.exists() and file_digest(card) != listed[CARD]:
        return f"{CARD}, edited since it was exported"
    return None


def _stored(content: bytes, folder: Path) -> dict[str, Any]:
    """A config.json as it stands, if it is of our format."""
    path = folder / CONFIG
    try:
        stored = parse_record(content, dict[str, Any], path)
    except FileError as error:
        _refuse_training_run(folder)
        raise UserError(
            f"{path}: not a model's config ({error.reason}); name a folder that `export` wrote"
        ) from None
    written = stored.get("format"), stored.get("format_version")
    if written[0] != FORMAT:
        _refuse_training_run(folder)
        raise UserError(f"{path}: not a model's config; name a folder that `export` wrote")
    if written[1] != FORMAT_VERSION:
        raise UserError(
            f"{path}: format {FORMAT} {written[1]!r:.40}, this version reads {FORMAT_VERSION}"
        )
    return stored


def _refuse_training_run(folder: Path) -> None:
    from vlfau_jax.train.workdir import CHECKPOINTS  # seconds to import, needed only here

    if (folder / CHECKPOINTS).is_dir():
        raise UserError(
            f"--model={folder} is a training run's folder; name one that this writes: "
            f"python -m vlfau_jax export --workdir={folder} --out=MODEL"
        )
