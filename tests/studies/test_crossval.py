"""The table of several folds: what is averaged, what is named, and what is refused."""

import csv
import io
import json

import numpy as np
import pytest

from tests.studies.examples import AUS, PEOPLE, answers, finished, unlearned
from vlfau_jax.errors import UserError
from vlfau_jax.metrics import au
from vlfau_jax.metrics.au import Counts
from vlfau_jax.studies import crossval
from vlfau_jax.studies.output import json_text


def f1(predicted, truth):
    return float(au.f1(Counts.of(predicted, truth, np.ones_like(truth))))


def of(*folds, asked=(1, 2, 3), **changes):
    return crossval.summarise({fold: finished(fold, **changes) for fold in folds}, asked)


def test_means_are_over_folds_and_pooled_counts_over_frames():
    result = of(1, 2, 3)
    cells = {fold: answers(fold) for fold in PEOPLE}
    for column, unit in enumerate(AUS):
        by_fold, rows = [], []
        for _, active, labels, known in cells.values():
            keep = known[:, column]
            one = active[keep, column], labels[keep, column]
            rows.append(one)
            by_fold.append(f1(*one))
        answer, truth = map(np.concatenate, zip(*rows, strict=True))
        found = result["per_au"][unit]
        assert list(found["folds"].values()) == by_fold
        assert found["f1"] == {
            "mean": pytest.approx(np.mean(by_fold)),
            "deviation": pytest.approx(np.std(by_fold, ddof=1)),
            "pooled": pytest.approx(f1(answer, truth)),
        }
        assert found["frames"]["sum"] == len(truth)
        assert found["positives"]["sum"] == truth.sum()
    means = [one["mean_f1"] for one in result["folds"].values()]
    assert result["mean_f1"] == pytest.approx(np.mean(means))
    assert result["deviation"] == pytest.approx(np.std(means, ddof=1))
    assert result["interval"]["low"] < result["pooled_f1"] < result["interval"]["high"]
    assert (result["missing"], result["left_out"]) == ([], {})
    assert result["test_subjects"] == ["a", "b", "c", "d", "e", "f", "g"]


def test_a_missing_fold_is_named_and_nothing_is_averaged():
    result = of(1, 3)
    assert result["missing"] == [2]
    text = json_text(result)
    plain = json.loads(text)
    assert plain["mean_f1"] is plain["deviation"] is plain["pooled_f1"] is None
    assert plain["interval"]["low"] is None
    assert set(plain["per_au"]["4"]["f1"].values()) == {None}
    assert plain["per_au"]["4"]["frames"] == {"sum": None}
    assert set(plain["per_au"]["4"]["folds"]) == {"1", "3"}
    table = crossval.table_of(result)
    assert "Fold 2 is missing" in table.text()
    assert "Folds 1, 2 are missing" in crossval.table_of(of(3)).text()
    assert "Fold 3 tests f, g (40 frames)." in table.text()
    assert table.rows[0][-3:] == ("-", "-", "-")


def test_a_unit_without_positives_in_a_fold_is_in_no_mean_and_said():
    cells = {fold: finished(fold, silent=(12,) * (fold == 2)) for fold in PEOPLE}
    result = crossval.summarise(cells, (1, 2, 3))
    assert result["left_out"] == {12: {2: "no positives"}}
    assert np.isnan(result["per_au"][12]["f1"]["mean"])
    assert not np.isnan(result["per_au"][12]["f1"]["pooled"])
    others = [result["per_au"][unit]["f1"]["mean"] for unit in (4, 26)]
    assert result["mean_f1"] == pytest.approx(np.mean(others))
    common = [
        np.mean([cell.scores.per_au[unit]["f1"] for unit in (4, 26)]) for cell in cells.values()
    ]
    assert result["deviation"] == pytest.approx(np.std(common, ddof=1))
    row = crossval.table_of(result).rows[len(AUS)]
    assert row[1:5] == tuple(f"{value:.3f}" for value in (*common, np.mean(common)))
    text = crossval.table_of(result).text()
    assert "AU12 lacks an F1 in some folds and is in no mean over them (fold 2: no positives)" in (
        text
    )
    assert f"Pooled mean F1 {result['pooled_f1']:.3f} over 3 units, " in text


def test_a_unit_that_one_fold_could_not_learn_says_why():
    cell = unlearned(finished(2), 26)
    result = crossval.summarise({1: finished(1), 2: cell}, (1, 2))
    assert result["left_out"] == {26: {2: "not learned: never active in training"}}
    # Its counts lack the people of fold 2, so that pooled ones would be of fold 1 alone.
    assert np.isnan(result["per_au"][26]["f1"]["pooled"])
    others = [result["per_au"][unit]["f1"]["pooled"] for unit in (4, 12)]
    assert result["pooled_f1"] == pytest.approx(np.mean(others))
    assert result["interval"]["low"] <= result["pooled_f1"] <= result["interval"]["high"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "1" * 64}, "data.bp4d is '000"),
        ({"code": "0.2.0 (sources def)"}, "code is '0.1.0 (sources abc)'"),
        ({"code": None}, "code is"),
        ({"step": 9}, "step is 7 in study/full/1, 9 in study/full/2"),
        ({"checkpoint": "best"}, "checkpoint is 'step 7'"),
        ({"label_threshold": 1}, "label_threshold is None"),
        ({"thresholds": (0.4,) * 3}, "thresholds is a list of 3"),
        ({"crop_rule": {"name": "box", "digest": "1"}}, "crop_rule.digest is"),
        ({"dataset": "bp4d"}, "dataset is 'bp4d+disfa'"),
        ({"frame_offset": {"bp4d": 1, "disfa": 0}}, "frame_offset.bp4d is 0"),
    ],
)
def test_folds_of_different_protocol_are_refused_in_one_line(changes, message):
    with pytest.raises(UserError) as error:
        crossval.summarise({1: finished(1), 2: finished(2, **changes)}, (1, 2))
    text = str(error.value)
    assert text.startswith("full, fold 1 and full, fold 2 cannot be in one table: ")
    assert message in text
    assert "\n" not in text and len(text) < 400


def test_other_code_may_be_accepted_and_is_then_said():
    cells = {1: finished(1), 2: finished(2, code="0.2.0 (sources def)")}
    result = crossval.summarise(cells, (1, 2), other_code=True)
    assert result["protocol"]["code"] == ["0.1.0 (sources abc)", "0.2.0 (sources def)"]
    assert "Made by different code: 0.1.0" in crossval.table_of(result).text()


def test_folds_that_share_a_person_are_refused():
    with pytest.raises(UserError, match=r"both test a \(study/full/1, study/full/1\)"):
        crossval.summarise({1: finished(1), 2: finished(1)}, (1, 2))


def test_every_number_of_the_csv_is_that_of_the_json():
    result = of(1, 2, 3)
    rows = list(csv.DictReader(io.StringIO(crossval._csv(result))))
    assert [row["au"] for row in rows] == [str(unit) for unit in AUS]
    for unit, row in zip(AUS, rows, strict=True):
        found = result["per_au"][unit]
        assert float(row["f1_fold2"]) == found["folds"][2]
        assert float(row["f1_mean"]) == found["f1"]["mean"]
        assert float(row["f1_pooled"]) == found["f1"]["pooled"]
        assert float(row["recall_deviation"]) == found["recall"]["deviation"]
        assert float(row["mcc_pooled"]) == found["mcc"]["pooled"]
