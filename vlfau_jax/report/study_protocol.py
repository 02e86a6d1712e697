"""What all runs of a study share, as its page shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlfau_jax.report.formats import UNDEFINED, protocol_field

_TERMS = {
    "dataset": "Data set",
    "folds": "Folds",
    "label_rule": "Labels",
    "excluded_stretches": "Excluded stretches",
    "checkpoint": "Checkpoint",
    "step": "Steps of each run",
    "average": "Averaging",
    "code": "Code",
}


def study_protocol(result: Mapping[str, Any]) -> dict[str, str]:
    """Terms and their texts, from what a study's JSON file holds."""
    found = {
        term: protocol_field(result["protocol"][key], UNDEFINED) for key, term in _TERMS.items()
    }
    return found | {"Test subjects": ", ".join(result["test_subjects"])}
