"""The table on the screen."""

import dataclasses
from itertools import pairwise

from tests.evaluation.example_scores import example
from vlfau_jax.evaluation.screen import format_scores
from vlfau_jax.metrics.table import AU_FLOORS, AU_METRICS, EXPLANATION_METRICS


def rows(scores):
    return format_scores(scores).splitlines()


def test_each_number_stands_under_its_heading():
    head, first, second, mean, alone, *_ = rows(example())
    starts = [27]
    headings = ["F1", "all on", "constant", *(metric.heading for metric in AU_METRICS[1:])]
    for heading in headings:
        starts.append(head.index(heading, starts[-1]) + len(heading))
    head, first, second, mean, alone = (
        [line[a:b].strip() for a, b in pairwise(starts)]
        for line in (head, first, second, mean, alone)
    )
    assert head == headings
    expected = {  # of the first and the second unit
        "F1": ("0.500", "-"),
        "all on": ("0.800", "-"),
        "constant": ("0.800", "-"),
        "precision": ("0.500", "-"),
        "recall": ("0.500", "-"),
        "accuracy": ("0.333", "0.667"),
        "AUC": ("0.500", "-"),
        "positives": ("2", "0"),
        "frames": ("3", "3"),
    }
    found = dict(zip(headings, zip(first, second, strict=True), strict=True))
    assert {heading: found[heading] for heading in expected} == expected
    assert mean[:3] == alone[:3] == ["0.500", "0.800", "0.800"] and not any(mean[3:])


def test_lines_are_named():
    _, first, _, mean, alone, *_ = rows(example())
    assert [line[:27].rstrip() for line in (first, mean, alone)] == [
        "AU01 inner brow raiser",
        "mean",
        "bp4d alone",
    ]
    assert alone.endswith("  1 units scored of AU 1, 12; 3 frames")


def test_sentences_are_scored_where_there_are_any():
    (line,) = [row for row in rows(example()) if row.startswith("global sentences: ")]
    assert line.startswith("global sentences: F1 of named units 0.800, noun accuracy 1.000, named")
    assert line.endswith("named with score off 0.333, score on but not named 0.333")
    both = dataclasses.replace(
        example(),
        captions=("local", "global"),
        explanations=dict.fromkeys(
            (one.name for m in EXPLANATION_METRICS for one in (m, m.floor) if one), 0.25
        ),
    )
    (line,) = [row for row in rows(both) if row.startswith("local sentences: ")]
    assert line == (
        "local sentences: polarity accuracy 0.250 (constant: 0.250), agreement with the score "
        "0.250, agreement near threshold 0.250, contradiction 0.250, unsaid 0.250"
    )
    none = format_scores(dataclasses.replace(example(), captions=()))
    assert "sentences:" not in none
    assert none.splitlines()[-2:] == ["polarity_accuracy and agreement are null", "SYNTHETIC"]


def test_every_entry_of_the_tables_is_on_the_screen():
    explained = {one.name: 0.25 for m in EXPLANATION_METRICS for one in (m, m.floor) if one}
    text = format_scores(
        dataclasses.replace(example(), captions=("local", "global"), explanations=explained)
    )
    for column in (*AU_METRICS, *AU_FLOORS, *EXPLANATION_METRICS):
        assert column.heading in text


def test_folds_that_are_not_the_published_ones_are_named():
    rules = {"bp4d": "lists (sha256 12)", "disfa": "published"}
    assert "folds of" not in format_scores(example())
    text = format_scores(dataclasses.replace(example(), folds=rules))
    assert "bp4d+disfa fold 1 (folds of bp4d: lists (sha256 12)), step" in text
