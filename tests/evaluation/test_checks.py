"""What does not fit is refused before anything is computed or written."""

import dataclasses

import pytest

from vlfau_jax.errors import UserError
from vlfau_jax.evaluation import evaluate as evaluating
from vlfau_jax.facs import BP4D_AUS
from vlfau_jax.inference.trained import load_trained


@pytest.mark.parametrize("beams", [0, -1, 17])
def test_beams_that_cannot_be(tmp_path, beams):
    with pytest.raises(UserError, match=f"--beams={beams}: give 1"):
        evaluating.evaluate(tmp_path, beams=beams)


def test_beams_that_would_do_nothing(silent_workdir):
    with pytest.raises(UserError, match=r"--beams=2: .* writes no sentence"):
        evaluating.evaluate(silent_workdir, beams=2)


@pytest.mark.parametrize(
    ("change", "fold", "message"),
    [
        ({}, 2, "only the people whom fold 1 tests"),
        ({"data": {"fold": 0}}, None, "tests none"),
        ({"crop_rule": {"name": "none", "digest": "f" * 16}}, None, "prepare the set with that"),
        ({"aus": BP4D_AUS[::-1]}, None, "order"),
        ({"train_subjects": ("F001", "F004")}, None, "trained on F004"),
        ({"read_as": {"frame_offset": 1}}, None, "with frame_offset 0, but .* trained on 1; name"),
        ({"read_as": {"camera": "right"}}, None, "with camera None, but .* trained on right"),
        (
            {"read_as": {"folds": "lists (sha256 1234)"}},
            None,
            r"its folds are published, but the model was trained by lists \(sha256 1234\); eval",
        ),
    ],
)
def test_what_does_not_fit_is_refused(workdir, monkeypatch, change, fold, message):
    trained = load_trained(workdir)
    if "data" in change:
        change = {"data": dataclasses.replace(trained.data, **change["data"])}
    monkeypatch.setattr(
        evaluating, "load_trained", lambda *_: dataclasses.replace(trained, **change)
    )
    with pytest.raises(UserError, match=message):
        evaluating.evaluate(workdir, fold=fold)
    assert not (workdir / "scores.json").exists()
