"""Scores as scores.json holds them, of this and of earlier versions."""

import dataclasses
import json
import math

import pytest

from tests.evaluation.example_scores import example
from vlfau_jax.errors import UserError
from vlfau_jax.evaluation.scores import Scores
from vlfau_jax.evaluation.screen import format_scores
from vlfau_jax.metrics.table import AU_FLOORS, AU_METRICS, EXPLANATION_METRICS, map_score_names

KEYS = (
    "mean_f1 per_dataset aus per_au floors floors_per_au explanations captions beams dataset fold "
    "test_subjects train_subjects validation_subjects frames threshold folds layout camera "
    "frame_offset label_rule label_threshold excluded_stretches crop_rule data average checkpoint "
    "step image_size warm_start ema_decay beginning synthetic note config_digest untaught "
    "units_scored averages choices intervals calibration language groups maps_per_au "
    "counterfactual cooccurrence"
)
UNIT_KEYS = "precision recall f1 accuracy auc positives frames"
SENTENCE_KEYS = "polarity_accuracy polarity_constant agreement global_f1 noun_accuracy note"


def keys(mapping, expected):
    """Those keys of `expected` that a mapping has, in its order; new metrics may stand anywhere."""
    return " ".join(key for key in mapping if key in expected.split())


def test_keys_stand_in_the_order_that_files_have():
    values = example().to_json()
    assert " ".join(values) == KEYS
    assert keys(values["per_au"]["12"], UNIT_KEYS) == UNIT_KEYS
    assert keys(values["per_dataset"]["bp4d"]["per_au"]["1"], UNIT_KEYS) == UNIT_KEYS
    assert keys(values["explanations"], SENTENCE_KEYS) == SENTENCE_KEYS
    assert " ".join(values["per_dataset"]["bp4d"]) == (
        "mean_f1 floors aus units_scored per_au frames"
    )


def test_what_is_written_is_read_back():
    scores = example()
    text = json.dumps(scores.to_json(), allow_nan=False)
    found = Scores.from_json(json.loads(text))
    assert repr(found) == repr(scores)  # NaN is not equal to itself
    assert json.dumps(found.to_json()) == text
    assert math.isnan(found.per_au[12]["f1"]) and type(found.per_au[12]["frames"]) is int


@pytest.mark.parametrize(
    ("thresholds", "value"), [((0.5, 0.5), 0.5), ((0.5, 0.25), {"1": 0.5, "12": 0.25})]
)
def test_a_threshold_is_one_number_or_one_per_unit(thresholds, value):
    values = dataclasses.replace(example(), thresholds=thresholds).to_json()
    assert values["threshold"] == value
    assert Scores.from_json(values).thresholds == thresholds


def test_a_file_of_an_earlier_version_is_read():
    """Of the first version, which had one data set, and "epoch" for "checkpoint"."""
    values = example().to_json()
    later = "captions beams per_dataset validation_subjects folds layout camera frame_offset"
    later += " untaught units_scored averages choices intervals calibration language groups"
    for key in (*later.split(), "label_threshold", "data", "ema_decay"):
        del values[key]
    values["epoch"] = values.pop("checkpoint")
    found = Scores.from_json(values)
    assert (found.checkpoint, found.captions, found.beams) == ("step 7", ("local", "global"), 1)
    assert (found.per_dataset, found.validation_subjects, found.ema_decay) == ({}, (), 0.0)
    assert found.folds is None
    assert (found.layout, found.camera, found.data) == (None, None, {})
    assert (found.untaught, found.units_scored) == ({}, 1)
    assert found.averages == found.choices == found.intervals == found.groups == {}
    assert "mean" in format_scores(found)
    assert "epoch" not in found.to_json() and found.to_json()["checkpoint"] == "step 7"


def test_metrics_that_a_file_lacks_are_undefined():
    values = example().to_json()
    del values["per_au"]["1"]["auc"], values["explanations"]["agreement"]
    del values["floors"]["best_constant"], values["floors_per_au"]["best_constant"]
    found = Scores.from_json(values)
    assert math.isnan(found.per_au[1]["auc"]) and math.isnan(found.explanations["agreement"])
    assert math.isnan(found.floors["best_constant"])
    assert math.isnan(found.floors_per_au["best_constant"][12])
    assert found.per_au[1]["f1"] == example().per_au[1]["f1"]


def change(*path, to):
    def changed(values):
        for key in path[:-1]:
            values = values[key]
        values[path[-1]] = to

    return changed


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda v: v.pop("mean_f1"), "lacks 'mean_f1'"),
        (lambda v: v.pop("checkpoint"), "lacks 'checkpoint'"),
        (lambda v: v["per_au"].pop("12"), "lacks '12'"),
        (change("mean_f1", to="0.5"), "'0.5' is where a number should be"),
        (change("step", to=7.5), "7.5 is where int should be"),
        (change("frames", to=None), "None is where int should be"),
        (change("synthetic", to=1), "1 is where bool should be"),
        (change("aus", to="1 12"), "no scores.json"),
        (change("per_au", "1", to=[1]), "no scores.json"),
        (change("per_au", "1", "f1", to=True), "True is where a number should be"),
        (change("explanations", to=[]), "no scores.json"),
        (change("test_subjects", to=["F001", 2]), "2 is where str should be"),
        (change("threshold", to={"1": 0.5}), "lacks '12'"),
    ],
)
def test_what_is_no_scores_json_is_refused(spoil, message):
    values = example().to_json()
    spoil(values)
    with pytest.raises(UserError, match=message) as error:
        Scores.from_json(values, "runs/x/scores.json")
    text = str(error.value)
    assert text.startswith("runs/x/scores.json: ") and "that `evaluate` wrote" in text


@pytest.mark.parametrize("values", [None, [], "text", 3, {}])
def test_other_json_is_refused(values):
    with pytest.raises(UserError, match=r"scores\.json: no scores\.json"):
        Scores.from_json(values)


def test_every_entry_of_the_tables_is_a_key():
    values = example().to_json()
    explanations = {one.name for m in EXPLANATION_METRICS for one in (m, m.floor) if one}
    assert values["per_au"]["1"].keys() == {metric.name for metric in AU_METRICS}
    assert values["explanations"].keys() == explanations | {"note", *map_score_names()}
    assert values["floors"].keys() == values["floors_per_au"].keys()
    assert values["floors"].keys() == {floor.name for floor in AU_FLOORS}
