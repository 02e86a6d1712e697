"""predictions.jsonl as arrays and counts, and files that are no such thing."""

import json

import numpy as np
import pytest

from vlfau_jax.errors import UserError
from vlfau_jax.metrics import bootstrap
from vlfau_jax.studies.cell import read_scores
from vlfau_jax.studies.predicted import read_predictions

AUS = (1, 12)


def line(subject, frame, *units):
    per_au = {
        str(au): {"active": active, "probability": None if active is None else 0.5, "label": label}
        for au, (active, label) in zip(AUS, units, strict=True)
    }
    return {"subject": subject, "task": 1, "frame": frame, "sentence": None, "per_au": per_au}


def written(tmp_path, *lines):
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def test_unknown_labels_and_units_that_were_not_learned_count_nowhere(tmp_path):
    path = written(
        tmp_path,
        line("b", 1, (True, 1), (None, 1)),
        line("a", 1, (True, 0), (None, 0)),
        line("b", 2, (False, None), (None, 1)),
        line("b", 3, (False, 1), (None, None)),
    )
    found = read_predictions(path, AUS)
    assert found.keys == (("b", 1, 1), ("a", 1, 1), ("b", 1, 2), ("b", 1, 3))
    assert found.known.tolist() == [[1, 1], [1, 1], [0, 1], [1, 0]]
    assert np.isnan(found.probabilities[:, 1]).all()
    people, counts = found.counts()
    assert people == ("a", "b")
    assert [values.tolist() for values in counts] == [
        [[0, 0], [1, 0]],
        [[1, 0], [0, 0]],
        [[0, 0], [1, 0]],
        [[0, 0], [0, 0]],
    ]
    assert np.isnan(bootstrap.f1(counts.pooled())[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: one["per_au"].pop("12"), ":2: has AU 1; expected 1, 12"),
        (lambda one: one["per_au"]["12"].pop("label"), ":2: per_au.12.label is missing"),
        (lambda one: one["per_au"]["12"].update(label=2), ":2: per_au.12.label is 2"),
        (lambda one: one["per_au"]["12"].update(active=1), ":2: per_au.12.active is 1"),
        (lambda one: one.update(frame="x"), ":2: frame is 'x'"),
        (lambda one: one.update(subject=""), ":2: subject is ''"),
    ],
)
def test_a_line_of_something_else_is_named(tmp_path, change, message):
    lines = [line("a", frame, (True, 1), (False, 0)) for frame in (1, 2)]
    change(lines[1])
    with pytest.raises(UserError) as error:
        read_predictions(written(tmp_path, *lines), AUS)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_files_that_are_missing_empty_or_cut_are_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_predictions(tmp_path / "predictions.jsonl", AUS)
    with pytest.raises(UserError, match="holds no frame"):
        read_predictions(written(tmp_path), AUS)
    path = written(tmp_path, line("a", 1, (True, 1), (False, 0)))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"jsonl:1: not JSON"):
        read_predictions(path, AUS)
    scores = tmp_path / "scores.json"
    for content in ("{", "[]", "[" * 100_000, "{}"):
        scores.write_text(content)
        with pytest.raises(UserError, match=r"scores\.json: no "):
            read_scores(scores)
