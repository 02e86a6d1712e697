"""The records in a prepared set's folder: prepare/ writes them, read/ checks them.

    digests.json    the SHA-256 of every shard and of the files beside them. It is written last: its
                    own digest stands for the whole set
    metadata.json   what a reader must know: units, crop rule, camera, people

tensorflow-datasets has its dataset_info.json and features.json there, too. They name classes, which
tfds imports; nothing here parses them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from vlfau_jax.files import file_digest, written_whole
from vlfau_jax.options import Seed
from vlfau_jax.records import PlainName, Record, Sha256, Text

DIGESTS, METADATA, LABELS = "digests.json", "metadata.json", "labels.npz"
DIGESTED = (METADATA, LABELS, "dataset_info.json", "features.json")

RELIEF, MESH = RENDERERS = ("relief", "mesh")  # a drawn relief, or a head in three dimensions

Count = Annotated[int, Field(ge=1, le=1 << 40)]
FoldName = Annotated[str, StringConstraints(pattern="^[1-9][0-9]?$")]
Unit = Annotated[int, Field(ge=1, le=99)]


class Shard(Record):
    """One shard: the examples of one raw sequence."""

    file: PlainName
    examples: Count
    size: Count
    sha256: Sha256


class Digests(Record):
    """digests.json.

    Attributes:
        format: counts changes of what a set consists of.
        files: those of `DIGESTED`.
        shards: subject -> their shards in the order of the examples.
    """

    format: Literal[1]
    files: dict[PlainName, Sha256]
    shards: Annotated[dict[PlainName, list[Shard]], Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        missing = set(DIGESTED) - self.files.keys()
        if missing:
            raise ValueError(f"files should have {min(missing)}")
        return self

    @property
    def in_order(self) -> list[Shard]:
        """All shards, subject by subject."""
        return [shard for subject in sorted(self.shards) for shard in self.shards[subject]]


class Crop(Record):
    """A crop rule, as its `describe` gives it."""

    name: Text
    version: int
    parameters: dict[str, Any]
    size: Annotated[int, Field(ge=1, le=1 << 16)]
    digest: Text


class Person(Record):
    """One subject; `fold` is the one that tests them, 0 where the data state none."""

    frames: Count
    sex: Text
    fold: Annotated[int, Field(ge=0, le=3)]


class Sides(Record):
    """Who trains and who is tested in one fold."""

    train: Annotated[list[PlainName], Field(min_length=1)]
    test: Annotated[list[PlainName], Field(min_length=1)]


class Rendering(Record):
    """What a raw tree of rendered faces was written with: each of its frames can be drawn again.

    Attributes:
        version: of the renderer.
        seed: of all that was drawn.
        size: pixels along a picture's side.
        frames: of each sequence; None for the published coded runs.
        renderer: of RENDERERS.
    """

    version: Annotated[int, Field(ge=1, le=1 << 16)]
    seed: Seed
    size: Annotated[int, Field(ge=1, le=1 << 16)]
    frames: Count | None
    renderer: Literal["relief", "mesh"] = RELIEF


class Metadata(Record):
    """metadata.json.

    Attributes:
        aus: the coded units, in the order of the label vectors.
        benchmark: those of them that the field scores.
        crop: the crop rule.
        crop_table_sha256: of the table that the crop rule reads; "" without one.
        opencv: the version that cropped.
        synthetic: whether the faces were rendered.
        rendering: how they were, where that is known; None in sets of earlier versions.
        layout: of the raw tree.
        camera: whose pictures, where the data set has several; else "".
        frame_offset: label frame n shows picture n + frame_offset.
        tasks: numbers of all tasks.
        subjects: by name.
        list_folds: fold -> its sides in the lists of a tree that was prepared for ME-GraphAU.
    """

    aus: Annotated[list[Unit], Field(min_length=1)]
    benchmark: Annotated[list[Unit], Field(min_length=1)]
    crop: Crop
    crop_table_sha256: Text = ""
    opencv: Text = ""
    synthetic: bool
    rendering: Rendering | None = None
    layout: Literal["raw", "me_graphau", "folder"]
    camera: Text
    frame_offset: int
    tasks: list[int]
    subjects: Annotated[dict[PlainName, Person], Field(min_length=1)]
    list_folds: dict[FoldName, Sides] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.aus)) != len(self.aus):
            raise ValueError("a unit comes twice in aus")
        if not set(self.benchmark) <= set(self.aus):
            raise ValueError("benchmark should name units of aus")
        folds = [person.fold for person in self.subjects.values()]
        if any(folds) != all(folds):
            raise ValueError("some subjects have a fold and others none")
        for fold, sides in self.list_folds.items():
            named = sides.train + sides.test
            if len(set(named)) != len(named) or not self.subjects.keys() >= set(named):
                raise ValueError(f"list_folds.{fold} should name subjects of the set, each once")
        return self


def seal(folder: Path, shards: Mapping[str, Sequence[Shard]]) -> None:
    """Writes digests.json, when all other files of a set are whole. Raises OSError."""
    digests = Digests(
        format=1,
        files={name: file_digest(folder / name) for name in DIGESTED},
        shards={subject: list(theirs) for subject, theirs in shards.items()},
    )
    with written_whole(folder / DIGESTS) as partial:
        partial.write_text(digests.model_dump_json(indent=1) + "\n", encoding="utf-8")
