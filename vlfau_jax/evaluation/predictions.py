"""The lines of predictions.jsonl: a test frame's labels, scores and sentences."""

from __future__ import annotations

from typing import TextIO

from vlfau_jax.data.read.dataset import Dataset
from vlfau_jax.evaluation.answers import Answers
from vlfau_jax.inference.prediction_files import json_line


def write_predictions(file: TextIO, dataset: Dataset, answers: Answers) -> None:
    """Write a line per frame: who, the labels, and what `Prediction.to_json` gives."""
    for row, prediction in enumerate(answers.predictions):
        subject, task, frame = (int(k) for k in answers.keys[row])
        record = {
            "subject": dataset.subjects[subject],
            "task": task,
            "frame": frame,
            "true_sentence": true_sentence(dataset, answers, row),
            **prediction.to_json(),
        }
        for column, unit in enumerate(record["per_au"].values()):
            known = answers.known[row, column]
            unit["label"] = int(answers.labels[row, column]) if known else None
        file.write(json_line(record))


def true_sentence(dataset: Dataset, answers: Answers, row: int) -> str | None:
    """The first of `true_sentences`; None without any."""
    return next(iter(true_sentences(dataset, answers, row)), None)


def true_sentences(dataset: Dataset, answers: Answers, row: int) -> tuple[str, ...]:
    """The global descriptions that a frame's labels give; none where one of them is unknown.

    They leave out units that the frame's own data set does not code. Several where the texts have
    several phrases for a unit (`Descriptions.wordings`).
    """
    subject = answers.keys[row, 0]
    coded = dataset.coded[dataset.parts[subject]]
    if not coded.any() or not answers.known[row, coded].all():
        return ()
    active = answers.labels[row] > 0
    return answers.descriptions.wordings(dataset.aus, active, dataset.nouns[subject])
