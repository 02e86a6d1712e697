"""The table of metrics."""

import re

import numpy as np
import pytest

from vlfau_jax.metrics.table import (
    AU_FLOORS,
    AU_METRICS,
    EXPLANATION_METRICS,
    mean_f1,
    score,
    units_scored,
)

FLOORS = tuple(metric.floor for metric in EXPLANATION_METRICS if metric.floor)
ENTRIES = (*AU_METRICS, *AU_FLOORS, *EXPLANATION_METRICS, *FLOORS)


@pytest.mark.parametrize("group", [AU_METRICS, AU_FLOORS, (*EXPLANATION_METRICS, *FLOORS)])
def test_names_and_headings_are_distinct(group):
    assert len({entry.name for entry in group}) == len(group)
    assert len({entry.heading for entry in group}) == len(group)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_an_entry_fits_a_key_a_column_and_a_legend(entry):
    assert entry.name.isidentifier()
    assert 0 < len(entry.heading) <= 24
    assert entry.description[0].isupper() and entry.description.endswith(".")
    assert re.search(r"^Number of | -?[01] to (1|5|10)\b|at least 1\b", entry.description)


def test_f1_is_first_and_sentences_are_of_a_known_kind():
    assert AU_METRICS[0].name == "f1"  # the floors stand beside it
    assert {metric.sentences for metric in EXPLANATION_METRICS} == {"local", "global"}


def test_a_unit_that_was_not_taught_has_counts_and_no_scores():
    labels = np.array([[1, 1], [0, 0]])
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8]])
    arrays = (probabilities, probabilities > 0.5, labels, np.ones((2, 2), bool))
    found = score((1, 2), *arrays, untaught={2: "never known"})
    assert found[1] == score((1, 2), *arrays)[1]
    kept = {name: value for name, value in found[2].items() if not np.isnan(value)}
    assert kept == {"positives": 1, "frames": 2}
    assert mean_f1(found) == 1.0 and units_scored(found) == 1
