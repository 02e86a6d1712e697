"""Metrics of attention maps: whether a unit's map shows where the unit does.

A map is a distribution over the cells of a grid: negative values count as zero. `share` is the part
of each cell that lies in the unit's region, tolerance included (`regions.TOLERANCE`), `hit` whether
the cell's centre does. Each metric takes one unit's faces and gives one number; NaN without faces.

That a map points at its unit does not say that the score depends on what is there: a loss that asks
for the region teaches the first (`losses.maps`). The second is what `evaluation.counterfactual`
measures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from vlfau_jax.regions import COMPACT, TOLERANCE

NAN = float("nan")


@dataclass(frozen=True, eq=False)
class MappedFaces:
    """The maps of m faces beside their units' regions.

    Attributes:
        maps: float [m, n, h, w], by whose they are: "branch" (DAIR's spatial maps) and "words" (the
            local sentences' attention, averaged over the words); those that the model has.
        share: float32 [m, n, h, w], see above.
        hit: bool [m, n, h, w].
        judged: bool [m, n], the units that count: those that are on, and whose region shows.
    """

    maps: dict[str, np.ndarray]
    share: np.ndarray
    hit: np.ndarray
    judged: np.ndarray

    @property
    def area(self) -> np.ndarray:
        """The mean share of the picture that each unit's region takes, float [n]."""
        return _unit_means(self.share.mean((-1, -2)), self.judged)

    @property
    def compact(self) -> np.ndarray:
        """Whether each unit's region is compact, bool [n]; see `regions.COMPACT`."""
        return self.area <= COMPACT


def cells(regions: np.ndarray, grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """`share` and `hit` of one face's cells, from its units' regions bool [n, s, s] in its crop."""
    size = regions.shape[-1]
    reach = round(TOLERANCE * size)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    h, w = grid
    rows, columns = ((2 * np.arange(k) + 1) * size // (2 * k) for k in (h, w))
    share, hit = [], []
    for region in regions.astype(np.float32):
        wide = cv2.dilate(region, disc, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        share.append(cv2.resize(wide, (w, h), interpolation=cv2.INTER_AREA))
        hit.append(wide[rows[:, None], columns[None]] > 0)
    return np.stack(share), np.stack(hit)


def pointing_game(maps: np.ndarray, share: np.ndarray, hit: np.ndarray) -> float:
    """Share of the faces [m, h, w] whose highest cell has its centre in the region.

    Of several highest cells, each counts as a part: an even map scores what chance would.
    """
    highest = maps == maps.max((-1, -2), keepdims=True)
    return _mean((highest & hit).sum((-1, -2)) / highest.sum((-1, -2)))


def mass_in_region(maps: np.ndarray, share: np.ndarray, hit: np.ndarray) -> float:
    """Mean share of the attention that lies in the region; a map that is zero has none to share."""
    maps = np.maximum(maps, 0.0)
    total = maps.sum((-1, -2))
    inside = (maps * share).sum((-1, -2))
    return _mean(inside[total > 0] / total[total > 0])


def even(metric: Callable[..., float]) -> Callable[..., float]:
    """The same metric of attention that is even over the whole picture."""
    return lambda maps, share, hit: metric(np.ones_like(share), share, hit)


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if values.size else NAN


def _unit_means(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Means of values [m, n] over the rows that are counted [m, n]; NaN where none is."""
    number = counted.sum(0)
    total = np.where(counted, values, 0.0).sum(0)
    return np.where(number > 0, total / np.maximum(number, 1), NAN)
