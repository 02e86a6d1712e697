"""The scores while training, and floors: of whose labels."""

import json

import numpy as np
import pytest

from tests.conftest import untrained
from tests.data.sets import Person, write_set
from vlfau_jax.cli.settings import resolve
from vlfau_jax.evaluation import answers
from vlfau_jax.evaluation.during_training import score_during_training
from vlfau_jax.evaluation.evaluate import evaluate
from vlfau_jax.inference.trained import load_trained
from vlfau_jax.train.experiment import build_experiment


@pytest.fixture(scope="module")
def one_inactive(tmp_path_factory):
    """An untrained run: every unit is on in most frames of F001 and F009, and in none of F004.

    Fold 1 tests F004; one of the others is kept back for validation.
    """
    root = tmp_path_factory.mktemp("one_inactive")
    people = [
        Person(name, range(1, 5), np.outer((0, on, on, on), np.ones(12)).astype(np.int8))
        for name, on in (("F001", 1), ("F004", 0), ("F009", 1))
    ]
    write_set(root, "bp4d", people)
    return untrained(root, root / "run", {"validation_subjects": 1})


def test_scores_while_training_are_of_the_validation_people_alone(one_inactive, monkeypatch):
    experiment = build_experiment(resolve(json.loads((one_inactive / "config.json").read_text())))
    (kept_back,) = experiment.split.validation
    scored = []
    iterator = answers.eval_iterator

    def watched(dataset, rows, *rest, **named):
        scored.append({dataset.subjects[k] for k in dataset.labels.subject[rows]})
        return iterator(dataset, rows, *rest, **named)

    monkeypatch.setattr(answers, "eval_iterator", watched)
    found = score_during_training(experiment, load_trained(one_inactive).params)
    assert scored == [{kept_back}] and kept_back != "F004"
    assert not np.isnan(found["mean_f1"])  # as it would be of F004


def test_the_constant_floor_is_that_of_the_training_people(one_inactive):
    scores = evaluate(one_inactive, batch_size=8)
    assert scores.test_subjects == ("F004",) and len(scores.train_subjects) == 1
    # On, as mostly in training, is wrong of F004 everywhere; their own state would be right.
    assert scores.explanations["polarity_constant"] == 0
