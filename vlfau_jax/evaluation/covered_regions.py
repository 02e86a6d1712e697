"""Which regions of one face mattered: what a model answers when each of them is hidden.

The question of `counterfactual`, "cover", asked of a face that nobody labelled: a region is hidden
by the same blur, an equally large and equally shaped one elsewhere is the control. Where regions
lie is the prior of `vlfau_jax.regions`, for crop rules that put the eyes in fixed places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlfau_jax.data.text.reading import Reader
from vlfau_jax.evaluation.counterfactual import Case, states_on
from vlfau_jax.inference.exported_model import ExportedModel
from vlfau_jax.inference.prediction import Prediction
from vlfau_jax.metrics.maps import cells
from vlfau_jax.regions import REGIONS, has_eye_positions, template


@dataclass(frozen=True, eq=False)
class CoveredRegion:
    """A region of a face, hidden.

    Attributes:
        aus: the units that show there: its name.
        image: uint8 [h, w, 3], the face with the region hidden.
        falls: float32 [n], by how much each unit's probability falls.
        control_falls: float32 [n], the same of the control.
        silenced: bool [n], whether each unit's sentence stated it on and no longer does.
    """

    aus: tuple[int, ...]
    image: np.ndarray
    falls: np.ndarray
    control_falls: np.ndarray
    silenced: np.ndarray


def has_regions(model: ExportedModel) -> bool:
    """Whether somebody knows where a unit shows on the faces that the model gets."""
    return has_eye_positions(model.crop_rule.describe())


def cover_regions(
    model: ExportedModel, image: np.ndarray, prediction: Prediction
) -> list[CoveredRegion]:
    """Hides every region in which a unit of the model shows, one after another.

    Args:
        model: that described the face.
        image: uint8 [h, w, 3], as the model got it.
        prediction: what it said.

    Returns:
        The regions from the top of the face to its chin; none where nobody knows where they are.
    """
    if not has_regions(model):
        return []
    regions = _regions(model.aus, model.crop_rule.describe()["parameters"], len(image))
    cases = [(aus, Case(0, 0, image, region)) for aus, region in regions]
    hidden = [case.hidden(where) for _, case in cases for where in (case.region, case.control)]
    answers = model.describe(np.stack(hidden))
    found = []
    for k, (aus, _) in enumerate(cases):
        covered, control = answers[2 * k : 2 * k + 2]
        spoke, speaks = (_spoken(p, model.reader) for p in (prediction, covered))
        found.append(
            CoveredRegion(
                aus=aus,
                image=hidden[2 * k],
                falls=prediction.probabilities - covered.probabilities,
                control_falls=prediction.probabilities - control.probabilities,
                silenced=spoke & ~speaks,
            )
        )
    return found


def _regions(
    aus: Sequence[int], eyes: Mapping[str, Any], size: int
) -> list[tuple[tuple[int, ...], np.ndarray]]:
    """The units of each region, and its pixels, bool [size, size], tolerance included."""
    units: dict[tuple, list[int]] = {}
    for au in aus:
        if REGIONS.get(au):
            units.setdefault(REGIONS[au], []).append(au)
    found = []
    for same in units.values():
        region = cells(template(same[0], eyes, size)[None], (size, size))[1][0]
        found.append((tuple(same), region))
    return sorted(found, key=lambda one: np.argwhere(one[1])[:, 0].mean())


def _spoken(prediction: Prediction, reader: Reader) -> np.ndarray:
    units = range(len(prediction.aus))
    return np.array([states_on(prediction, unit, reader) for unit in units])
