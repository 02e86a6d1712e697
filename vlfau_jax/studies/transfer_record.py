"""What transfer.json holds."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from vlfau_jax.data.set_record import Count, Unit
from vlfau_jax.metrics.table import AU_CHOICES, AU_FLOORS, AU_METRICS
from vlfau_jax.records import PlainName, Probability, Record, Sha256, Text
from vlfau_jax.studies.parts import Part

_Frames = Annotated[int, Field(ge=0, le=1 << 40)]
_Shift = Annotated[float, Field(ge=-1000, le=1000)]
_Bounds = tuple[Probability, Probability]
_People = Annotated[tuple[PlainName, ...], Field(min_length=1)]

SHARES = ("auc", "f1", "precision", "recall")
COUNTS = ("positives", "frames")
ALL_ON = next(floor for floor in AU_FLOORS if floor.name == "all_on")

# Of every column: heading and meaning, those of the metrics where they are metrics.
_ORACLE = next(choice for choice in AU_CHOICES if choice.name == "test_thresholds")
COLUMNS: dict[str, tuple[str, str]] = {
    **{m.name: (m.heading, m.description) for m in AU_METRICS if m.name in SHARES + COUNTS},
    ALL_ON.name: (ALL_ON.heading, ALL_ON.description),
    "shift": (
        "shift",
        "What, added to the unit's logit, gives the highest F1 on the very people who are scored; "
        "0 without positives or negatives. To be reported on other people.",
    ),
    "f1_oracle": (
        _ORACLE.heading,
        "F1 with that shift, 0 to 1: chosen on the very people it is scored on, and no result.",
    ),
    "shift_applied": ("shift given", "What --shifts adds to the unit's logit."),
    "f1_shifted": ("F1 shifted", "F1 with the shift that --shifts gives, 0 to 1."),
}


class UnitTransfer(Record):
    """Scores of a unit, see `COLUMNS`; None where a number is undefined, or no shifts are given."""

    auc: Probability | None
    f1: Probability | None
    precision: Probability | None
    recall: Probability | None
    positives: _Frames
    frames: _Frames
    all_on: Probability | None
    shift: _Shift
    f1_oracle: Probability | None
    shift_applied: _Shift | None
    f1_shifted: Probability | None


class Means(Record):
    """Means over the units that have the number; None where none has."""

    auc: Probability | None
    f1: Probability | None
    all_on: Probability | None
    f1_oracle: Probability | None
    f1_shifted: Probability | None


class Intervals(Record):
    """95 % intervals of means, by a bootstrap over the subjects; None for fewer than two of them.

    Attributes:
        f1: of the mean F1.
        f1_shifted: of the mean F1 with the shifts given.
        level: the share of resamples inside.
        resamples: how many there are.
    """

    f1: _Bounds | None
    f1_shifted: _Bounds | None
    level: Probability
    resamples: Count


class GroupScores(Record):
    """Scores of a group of people.

    Attributes:
        subjects: how many people there are.
        frames: of theirs.
        auc: mean over the units that all groups of the column have; None where none is.
        f1: the same of F1.
        f1_interval: of that mean, as in `Intervals`.
        f1_shifted: the same mean with the shifts given; None where none are.
    """

    subjects: Count
    frames: Count
    auc: Probability | None
    f1: Probability | None
    f1_interval: _Bounds | None
    f1_shifted: Probability | None


class GroupColumn(Record):
    """Scores by the groups of one column of a table, or by sex.

    Attributes:
        aus: the units of which every group has F1: those of its means.
        auc_units: of how many units every group has AUC.
        groups: by name.
    """

    aus: tuple[Unit, ...]
    auc_units: Annotated[int, Field(ge=0, le=99)]
    groups: Annotated[dict[Text, GroupScores], Field(min_length=1)]


class TestedModel(Record):
    """The exported model.

    Attributes:
        digest: of its folder, as `export` printed it.
        image_size: of the faces that it takes, pixels.
        trained_on: name of the data set that it was trained on; "" where the folder says none.
        synthetic: whether any of its training faces were rendered.
        thresholds: a probability above it counts as present, by unit.
        untaught: the units that its training labels could not teach, each with the reason; they
            have no scores here.
    """

    digest: Sha256
    image_size: Count
    trained_on: Text
    synthetic: bool
    thresholds: dict[Unit, Probability]
    untaught: dict[Unit, Text]


class TargetSet(Record):
    """The prepared set.

    Attributes:
        name: of the data set.
        digest: of its digests.json.
        synthetic: whether it has the mark of rendered faces.
        crop_size: of its pictures, pixels.
        label_rule: when a unit counts as active.
        excluded_stretches: which frames were left out.
    """

    name: PlainName
    digest: Sha256
    synthetic: bool
    crop_size: Count
    label_rule: Text
    excluded_stretches: Text


class GivenShifts(Record):
    """Where the shifts of --shifts were chosen: the set, its part and the people."""

    set_name: PlainName
    set_digest: Sha256
    part: Part
    subjects: _People
    lacking: tuple[Unit, ...]


class Transfer(Record):
    """transfer.json: scores of a model on the prepared set of another domain.

    Attributes:
        model: the model.
        target: the set.
        part: which of its people.
        subjects: their names.
        frames: how many frames of theirs were scored.
        per_au: of the units that model and set have, in the order of the set.
        mean: over these.
        intervals: of the means.
        groups: scores by group of people, by column; without any in files of earlier versions.
        only_model: units that the set does not code.
        only_set: units that the model does not know.
        shifts: where the shifts given come from; None where none are.
        same_names: names that are among those of the model's training people, too, where that was
            a set of the same name.
        synthetic: whether any of the faces, trained on or scored, were marked as rendered.
        note: the warning that belongs beside the scores; "" for none.
    """

    model: TestedModel
    target: TargetSet
    part: Part
    subjects: _People
    frames: Count
    per_au: Annotated[dict[Unit, UnitTransfer], Field(min_length=1)]
    mean: Means
    intervals: Intervals
    groups: dict[Text, GroupColumn] = Field(default_factory=dict)
    only_model: tuple[Unit, ...]
    only_set: tuple[Unit, ...]
    shifts: GivenShifts | None
    same_names: tuple[PlainName, ...]
    synthetic: bool
    note: Text

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [unit.shift_applied is not None for unit in self.per_au.values()]
        if set(given) != {self.shifts is not None}:
            raise ValueError("shift_applied and shifts should both be there, or neither")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of a table of units, without those of shifts that are not given."""
        without = () if self.shifts else ("shift_applied", "f1_shifted")
        return tuple(name for name in UnitTransfer.model_fields if name not in without)
