"""What an evaluation found, and how scores.json holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from vlfau_jax.errors import UserError
from vlfau_jax.evaluation.json_values import read_fields, read_number, to_json
from vlfau_jax.metrics.table import (
    AU_FLOORS,
    AU_METRICS,
    EXPLANATION_METRICS,
    UnitScores,
    map_score_names,
)

# A fact of one data set; of a mixture, by the names of its sets.
Fact = TypeVar("Fact")
BySet = Fact | Mapping[str, Fact]

# In scores.json these metrics stand before F1, as in the files of earlier versions.
_FIRST = ("precision", "recall")
_FLOORS = dict.fromkeys(floor.name for floor in AU_FLOORS)

# What the files of earlier versions lack, and what it was then.
_EARLIER = {
    "per_dataset": {},
    "captions": ["local", "global"],
    "beams": 1,
    "validation_subjects": [],
    "folds": None,
    "layout": None,
    "camera": None,
    "frame_offset": None,
    "label_threshold": None,
    "data": {},
    "ema_decay": 0.0,
    "untaught": {},
    "averages": {},
    "choices": {},
    "intervals": {},
    "calibration": {},
    "language": {},
    "groups": {},
    "maps_per_au": {},
    "counterfactual": None,
    "cooccurrence": {},
}


@dataclass(frozen=True)
class DatasetScores:
    """Scores of one of a mixture's data sets on its own.

    Attributes:
        mean_f1: over the units of its benchmark that have an F1.
        floors: mean F1 of each of `AU_FLOORS` over the same units.
        aus: the units of its benchmark.
        units_scored: how many of them have an F1.
        per_au: `AU_METRICS` of every unit that the set codes.
        frames: number of its test frames.
    """

    mean_f1: float
    floors: Mapping[str, float]
    aus: tuple[int, ...]
    units_scored: int
    per_au: Mapping[int, UnitScores]
    frames: int


@dataclass(frozen=True)
class Scores:
    """Scores of a model on a fold's test subjects, and what decides what they mean.

    The fields are in the order of the keys of scores.json. Undefined numbers are NaN here and null
    there.

    Attributes:
        mean_f1: over the units that have an F1, 0-1.
        per_dataset: of each set of a mixture on its own; empty for a single set.
        aus: the units' numbers, in the model's order.
        per_au: `AU_METRICS` of each unit, by its number.
        floors: mean F1 of each of `AU_FLOORS`.
        floors_per_au: the F1 of each floor, by unit.
        explanations: `EXPLANATION_METRICS` and their floors, and the means of `MAP_METRICS` over
            the units with a compact region.
        explanations_note: why some of them are undefined; "" where the model writes all sentences.
        captions: which sentences the model writes: "local", "global", both or neither.
        beams: width of the search for the sentences; 1 is greedy.
        dataset: name of the data set, "bp4d+disfa" for a mixture.
        fold: the fold that was tested.
        test_subjects: the people who were tested.
        train_subjects: the people whom the model was trained on.
        validation_subjects: the people kept back from training, who chose the checkpoint.
        frames: number of test frames.
        thresholds: a probability above it counts as present, per unit. scores.json holds
            "threshold": the number that all units share, or {unit: number}.
        folds: whose folds were used, in words; None in files of earlier versions.
        layout: raw layout that the set was prepared from.
        camera: whose pictures it holds; None where there is only one.
        frame_offset: label frame n shows picture n + this.
        label_rule: when a unit counts as active.
        label_threshold: the least intensity of an active unit; None where occurrence decides.
        excluded_stretches: which frames were left out.
        crop_rule: how faces were cropped.
        data: the options of `data` that decide which faces training used, and how they were
            changed.
        average: how frames and units are averaged.
        checkpoint: which one was tested: "last", "step N", or the best by whose scores.
        step: its step of training.
        image_size: height and width of the faces in pixels.
        warm_start: the file of the first parameters and where it came from; None for random ones.
        ema_decay: of the running average that the parameters are; 0 where they are none.
        beginning: where the first parameters came from, in words.
        synthetic: whether any of the faces, trained on or tested, were rendered.
        note: the warning that belongs beside the scores; "" for none.
        config_digest: sha256 of the experiment.
        untaught: the units that the training labels could not teach, each with the reason. Their
            scores are undefined, and they are in no mean.
        units_scored: how many units have an F1: the mean is over these.
        averages: `ScoredFrames.averages`: "macro" and "micro", by metric. This and what follows is
            in JSON's terms, undefined numbers None.
        choices: F1 of `AU_CHOICES`, and the best step on the test subjects: what the field reports,
            too, and what this protocol does not choose by.
        intervals: `ScoredFrames.intervals`.
        calibration: `ScoredFrames.reliability`.
        language: `LANGUAGE_METRICS` of "local" and "global" sentences, and their "tokenizer".
        groups: `score_groups`, by column.
        maps_per_au: `score_maps` of each unit; empty where no exact regions are known.
        counterfactual: what `evaluation.counterfactual` measured; None where nobody asked.
        cooccurrence: `cooccurrence` of scoring.py: which units are active together.
    """

    mean_f1: float
    per_dataset: Mapping[str, DatasetScores]
    aus: tuple[int, ...]
    per_au: Mapping[int, UnitScores]
    floors: Mapping[str, float]
    floors_per_au: Mapping[str, Mapping[int, float]]
    explanations: Mapping[str, float]
    explanations_note: str
    captions: tuple[str, ...]
    beams: int
    dataset: str
    fold: int
    test_subjects: tuple[str, ...]
    train_subjects: tuple[str, ...]
    validation_subjects: tuple[str, ...]
    frames: int
    thresholds: tuple[float, ...]
    folds: BySet[str | None]
    layout: BySet[str | None]
    camera: BySet[str | None]
    frame_offset: BySet[int | None]
    label_rule: BySet[str]
    label_threshold: BySet[int | None]
    excluded_stretches: BySet[str]
    crop_rule: Mapping[str, Any]
    data: Mapping[str, Any]
    average: str
    checkpoint: str
    step: int
    image_size: int
    warm_start: Mapping[str, str] | None
    ema_decay: float
    beginning: str
    synthetic: bool
    note: str
    config_digest: str
    untaught: Mapping[int, str]
    units_scored: int
    averages: Mapping[str, Any]
    choices: Mapping[str, Any]
    intervals: Mapping[str, Any]
    calibration: Mapping[str, Any]
    language: Mapping[str, Any]
    groups: Mapping[str, Any]
    maps_per_au: Mapping[int, UnitScores] = field(default_factory=dict)
    counterfactual: Mapping[str, Any] | None = None
    cooccurrence: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What scores.json holds, of JSON's types."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["explanations"] = {**self.explanations, "note": values.pop("explanations_note")}
        values["per_au"] = _in_file_order(self.per_au)
        values["per_dataset"] = {
            name: vars(one) | {"per_au": _in_file_order(one.per_au)}
            for name, one in self.per_dataset.items()
        }
        if len(set(self.thresholds)) == 1:
            values["thresholds"] = self.thresholds[0]
        else:
            values["thresholds"] = dict(zip(self.aus, self.thresholds, strict=True))
        keys = {"thresholds": "threshold"}
        return to_json({keys.get(name, name): value for name, value in values.items()})

    @classmethod
    def from_json(cls, mapping: Mapping[str, Any], source: str = "scores.json") -> Scores:
        """Read what scores.json holds, also as earlier versions wrote it.

        Metrics and floors that the file lacks are NaN. Other keys than this version's are left out.

        Args:
            mapping: the parsed JSON.
            source: where it comes from, for the message.

        Raises:
            UserError: it is not what scores.json holds.
        """
        advice = "give the scores.json that `evaluate` wrote, or evaluate the run again"
        try:
            return cls(**read_fields(cls, _as_fields(mapping)))
        except KeyError as error:
            raise UserError(f"{source}: no scores.json, it lacks {error}; {advice}") from error
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(f"{source}: no scores.json ({error}); {advice}") from error


def read_thresholds(scores: Mapping[str, Any]) -> tuple[float, ...]:
    """The threshold of each unit, from what scores.json holds."""
    threshold, aus = scores["threshold"], scores["aus"]
    if isinstance(threshold, Mapping):
        return tuple(read_number(threshold[str(au)]) for au in aus)
    return (read_number(threshold),) * len(aus)


def _as_fields(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `Scores`, their values still JSON's, from scores.json of any version."""
    if not isinstance(mapping, Mapping):
        raise TypeError(f"{type(mapping).__name__} where an object should be")
    values = _EARLIER | mapping
    if "epoch" in mapping:  # the key of `checkpoint` in earlier versions
        values.setdefault("checkpoint", mapping["epoch"])
    aus, floors, explanations = values["aus"], values["floors_per_au"], values["explanations"]
    names = [one.name for metric in EXPLANATION_METRICS for one in (metric, metric.floor) if one]
    names += map_score_names()
    return values | {
        "per_au": {au: _with_all_metrics(values["per_au"][str(au)]) for au in aus},
        "per_dataset": {
            name: DatasetScores(**read_fields(DatasetScores, _set_as_fields(one)))
            for name, one in values["per_dataset"].items()
        },
        "floors": _FLOORS | values["floors"],
        "floors_per_au": {name: floors.get(name, dict.fromkeys(aus)) for name in _FLOORS | floors},
        "explanations": dict.fromkeys(names)
        | {name: value for name, value in explanations.items() if name != "note"},
        "explanations_note": explanations.get("note", ""),
        "thresholds": read_thresholds(values),
        "units_scored": sum(unit.get("f1") is not None for unit in values["per_au"].values()),
    }


def _set_as_fields(one: Mapping[str, Any]) -> dict[str, Any]:
    per_au = {au: _with_all_metrics(unit) for au, unit in one["per_au"].items()}
    return {**one, "floors": _FLOORS | one["floors"], "per_au": per_au}


def _with_all_metrics(unit: Mapping[str, Any]) -> dict[str, Any]:
    return dict.fromkeys(metric.name for metric in AU_METRICS) | dict(unit)


def _in_file_order(per_au: Mapping[int, UnitScores]) -> dict[int, dict[str, float]]:
    return {
        au: {name: unit[name] for name in sorted(unit, key=lambda name: name not in _FIRST)}
        for au, unit in per_au.items()
    }
