"""The record that a checkpoint's manifest holds: how far the run is, and what inference needs.

Keys of later versions are left alone; those that an earlier version did not write have defaults.
"""

from __future__ import annotations

import math
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)

from vlfau_jax.data.read.statistics import Untaught
from vlfau_jax.data.text.descriptions import Descriptions
from vlfau_jax.records import Probability, Record, Sha256, Text

MOST_STEPS = 2**31 - 1  # the state counts them in int32

Name = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Steps = Annotated[int, Field(ge=0, le=MOST_STEPS)]
_DEEPEST = 10  # lists and objects inside each other
_LONGEST = 10_000  # characters of a text


def _bounded(value: JsonValue, depth: int = 0) -> JsonValue:
    match value:
        case _ if depth > _DEEPEST:
            raise ValueError(f"should have at most {_DEEPEST} levels")
        case str() if len(value) > _LONGEST:
            raise ValueError(f"should have at most {_LONGEST} characters")
        case float() if not math.isfinite(value):
            raise ValueError("should be a finite number")
        case int() if abs(value) > 2**63:
            raise ValueError("should be a number of 64 bits")
        case list():
            for item in value:
                _bounded(item, depth + 1)
        case dict():
            for key, item in value.items():
                _bounded(key), _bounded(item, depth + 1)
    return value


# Options: what a value means is for their own classes to check.
Value = Annotated[JsonValue, AfterValidator(_bounded)]
Section = dict[Name, Value]
Names = Annotated[list[Name], Field(max_length=100_000)]


class RunConfig(Record):
    """An experiment, as config.json of a workdir and every checkpoint hold it."""

    seed: Annotated[int, Field(ge=-(2**63), le=2**63)]
    data: Section
    train: Section
    model: Section = Field(default_factory=dict)
    objective: Section = Field(default_factory=dict)
    optimizer: Section = Field(default_factory=dict)
    mesh: Section = Field(default_factory=dict)


class _Open(Record):
    model_config = ConfigDict(extra="ignore")


class Progress(_Open):
    """How far the run was: the next batch, the seconds spent by activity, and the devices."""

    next_batch: Steps
    seconds: dict[Name, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    computed_on: Name | None = None


class CropRecord(_Open):
    """A crop rule; its own class reads what else it holds."""

    name: Name
    digest: Name


class Normalisation(Record):
    """Mean and standard deviation of the pixels' channels."""

    mean: Annotated[list[float], Field(max_length=16)]
    std: Annotated[list[float], Field(max_length=16)]


class InitialParameters(_Open):
    """The file that a run's parameters began from, and who they had been trained on."""

    file: Text
    sha256: Name
    people: Name | None = None
    trained_on: Text | None = None
    dataset: Text | None = None
    seen: Annotated[list[tuple[Name, Name, Text]], Field(max_length=1_000_000)] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.people is not None and self.trained_on is None:
            raise ValueError("should say trained_on where it says people")
        return self


class InferenceRecord(_Open):
    """All besides parameters that a prediction depends on (`Experiment.inference_record`)."""

    dataset: Name
    synthetic: bool
    crop: CropRecord
    layout: Value = None
    camera: Value = None
    frame_offset: Value = None
    frames: dict[Name, Count] = Field(default_factory=dict)
    folds: Value = None
    set_digests: dict[Name, Sha256] = Field(default_factory=dict)
    untaught: Untaught = Field(default_factory=dict)
    image_size: Annotated[int, Field(ge=1, le=4096)]
    normalisation: Normalisation
    aus: Annotated[list[Annotated[int, Field(ge=0, le=1000)]], Field(min_length=1, max_length=100)]
    vocabulary: Annotated[list[Text], Field(max_length=100_000)]
    descriptions: Descriptions | None = None
    lengths: tuple[
        Annotated[int, Field(ge=2, le=10_000)],
        Annotated[int, Field(ge=2, le=10_000)],
    ]
    model: Section
    fold: Annotated[int, Field(ge=0, le=1000)] = 0
    train_subjects: Names
    validation_subjects: Names = Field(default_factory=list)
    test_subjects: Names = Field(default_factory=list)
    scored: Name | None = None
    ema_decay: Probability
    warm_start: InitialParameters | None
    steps: Steps = 0
    config: RunConfig | None = None
    config_digest: Sha256


class CheckpointRecord(_Open):
    """The whole record.

    Attributes:
        progress: None in a checkpoint that is not to be resumed.
        mean_f1: the score of its step; None where it was not scored.
        inference: None in a checkpoint that is not to be evaluated.
    """

    progress: Progress | None = None
    mean_f1: Probability | None = None
    inference: InferenceRecord | None = None
