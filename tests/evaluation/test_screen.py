"""The table on the screen."""

import dataclasses
from itertools import pairwise

from tests.evaluation.example_scores import example
from vlfau_jax.evaluation.screen import format_scores
from vlfau_jax.metrics.table import (
    AU_CHOICES,
    AU_FLOORS,
    AU_METRICS,
    EXPLANATION_METRICS,
    LANGUAGE_METRICS,
    map_score_names,
)


def headings_of(group):
    return [metric.heading for metric in AU_METRICS if metric.group == group]


def rows(scores):
    return format_scores(scores).splitlines()


def columns(lines, headings):
    """The cells of lines whose first has the headings, right-aligned."""
    starts = [27]
    for heading in headings:
        starts.append(lines[0].index(heading, starts[-1]) + len(heading))
    return [[line[a:b].strip() for a, b in pairwise(starts)] for line in lines]


def test_each_number_stands_under_its_heading():
    lines = rows(example())
    headings = ["F1", "all on", "constant", *headings_of("decisions")[1:]]
    head, first, second, mean, alone = columns(lines[:5], headings)
    assert head == headings
    others = [*headings_of("scores"), *headings_of("frames")]
    others = ["F1 95 %", "F1 oracle", *others]  # no threshold was tuned on validation subjects
    rest = columns(lines[6:10], others)
    assert rest[0] == others
    expected = {  # of the first and the second unit
        "F1 95 %": ("0.00-1.00", "-"),
        "F1 oracle": ("0.800", "-"),
        "MCC": ("-0.500", "-"),
        "AP": ("0.833", "-"),
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
    found |= dict(zip(others, zip(rest[1], rest[2], strict=True), strict=True))
    assert {heading: found[heading] for heading in expected} == expected
    assert mean[:3] == alone[:3] == ["0.500", "0.800", "0.800"]
    assert mean[3:6] == ["0.500", "0.500", "0.500"]
    assert rest[3][1:] == ["1.000", "0.500", "0.833", "0.467", "", ""]


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
    choices = dict.fromkeys((c.name for c in AU_CHOICES), example().choices["test_thresholds"])
    text = format_scores(
        dataclasses.replace(
            example(), captions=("local", "global"), explanations=explained, choices=choices
        )
    )
    shown = [m for m in AU_METRICS if m.group not in ("cells", "intensities")]
    for column in (*shown, *AU_CHOICES, *AU_FLOORS, *EXPLANATION_METRICS, *LANGUAGE_METRICS):
        assert column.heading in text
    assert max(len(line) for line in text.splitlines()[:12]) < 120


def test_intensities_have_columns_where_they_are_coded():
    coded = example()
    unit = coded.per_au[1] | {"icc": 0.5, "pcc": 0.625, "mae": 1.25}
    text = format_scores(dataclasses.replace(coded, per_au={**coded.per_au, 1: unit}))
    assert all(heading in text for heading in headings_of("intensities"))
    assert "0.625" in text and "ICC" not in format_scores(coded)


def test_what_the_field_also_reports_is_named_for_what_it_is():
    text = format_scores(example())
    assert "best on the test subjects during training: mean F1 0.750 at step 5; chosen by" in text
    assert "no thresholds tuned on validation subjects: data.validation_subjects" in text
    assert "micro F1, all units pooled: 0.400" in text
    assert "2000 bootstrap resamples of 3 subjects" in text
    assert "by sex, mean F1 over the 0 units that all have:" in text
    assert "  female: -, 1 subjects, 2 frames" in text
    assert "global sentences' words: BLEU-1 0.125, " in text


def test_maps_and_counterfactuals_are_told_where_they_are_known():
    plain = format_scores(example())
    assert "maps of" not in plain and "hidden" not in plain
    unit = dict.fromkeys(map_score_names(), 0.25) | {"region_area": 0.1, "map_frames": 2}
    means = {name: k / 100 for k, name in enumerate(map_score_names(), 11)}
    found = {
        "faces": 3,
        "cases": 4,
        "regions": "prior",
        "cover": {"drop": 0.5, "control_drop": 0.125, "silenced": 0.75, "control_silenced": 0.0},
        "deletion": {"branch": 0.3, "random": 0.4},
        "insertion": {"branch": 0.7, "random": 0.6},
        "per_au": {},
    }
    scores = example()
    text = format_scores(
        dataclasses.replace(
            scores,
            explanations=scores.explanations | means,
            maps_per_au={1: unit},
            counterfactual=found,
        )
    )
    for line in (
        "maps of the branches: pointing game 0.110 (even: 0.150), mass in region 0.120 (even: 0.16",
        "maps of the words: pointing game 0.130 (even: 0.150), mass in region 0.140 (even: 0.160)",
        "hidden regions (prior), 4 units of 3 faces: the score falls by 0.500 (elsewhere: 0.125), ",
        "0.750 of the sentences no longer state the unit (elsewhere: 0.000)",
        "area under deletion: branch 0.300, random 0.400",
        "area under insertion: branch 0.700, random 0.600",
    ):
        assert line in text


def test_folds_that_are_not_the_published_ones_are_named():
    rules = {"bp4d": "lists (sha256 12)", "disfa": "published"}
    assert "folds of" not in format_scores(example())
    text = format_scores(dataclasses.replace(example(), folds=rules))
    assert "bp4d+disfa fold 1 (folds of bp4d: lists (sha256 12)), step" in text
