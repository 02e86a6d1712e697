"""Numbers that are added to the units' logits, so that a threshold of 0.5 fits other faces.

They become part of the classifier's bias, which every format and precision of the weights has in
float32. Probabilities are then sigmoid(logit + shift), and sentences that are told their unit's
score (`model.told_scores`) hear the shifted one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, StringConstraints

from vlfau_jax.errors import UserError
from vlfau_jax.inference.trained import Trained
from vlfau_jax.records import Record, read_record

_LARGEST = 50.0  # beyond it a probability is 0 or 1 in float32, whatever the face

_Unit = Annotated[str, StringConstraints(pattern="^[1-9][0-9]?$")]
_Shift = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]


class ShiftsFile(Record, extra="ignore"):
    """A JSON file with `shifts`, by the unit's number; other keys are its writer's.

    Attributes:
        shifts: what is added to the logit of each unit, in nats.
    """

    shifts: Annotated[dict[_Unit, _Shift], Field(min_length=1)]


def read_shifts(path: str | Path) -> dict[int, float]:
    """The shifts of a file by unit.

    Raises:
        UserError: no such file, or another one.
    """
    return {int(au): shift for au, shift in read_record(path, ShiftsFile).shifts.items()}


def shifted(trained: Trained, shifts: Mapping[int, float], source: str) -> Trained:
    """The network with `shifts` added to its logits; units that have none stay as they are.

    Args:
        trained: the network.
        shifts: by unit; empty for none.
        source: where they come from, for messages.

    Raises:
        UserError: the network lacks a unit.
    """
    if not shifts:
        return trained
    if unknown := sorted(shifts.keys() - {*trained.aus}):
        raise UserError(
            f"{source} shifts AU {', '.join(map(str, unknown))}, which the model does not score; "
            f"it has AU {', '.join(map(str, trained.aus))}"
        )
    classifier = trained.params["classifier"]
    added = np.array([shifts.get(au, 0.0) for au in trained.aus], np.float32)
    classifier = {**classifier, "bias": np.asarray(classifier["bias"]) + added}
    return dataclasses.replace(
        trained, params={**trained.params, "classifier": classifier}, shifts=dict(shifts)
    )
