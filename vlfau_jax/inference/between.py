"""Faces of a frame between two others: where both show the same, they need not be looked for.

Of a video whose frames follow each other fast, every other one is searched. A frame between two of
those shows what they show, at the places halfway, unless something happened: a cut, somebody who
comes or goes. Searching for faces is most of the work of `predict` on a video.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from vlfau_jax.data.crop.face import Face, overlap

FAST = 0.1  # seconds between the two frames at most: 20 frames a second and more
SAME = 0.5  # overlap, of the union, of a face's boxes in the two frames at least


def faces_between(
    before: Sequence[Face], after: Sequence[Face], share: float = 0.5
) -> list[Face] | None:
    """The faces of a frame between two; None where the two do not show the same faces.

    Args:
        before: of the one frame, with boxes and eyes, the largest first.
        after: of the other.
        share: how much of the time between the two has passed.

    Returns:
        In the order of `before`; the confidence of each is the lower one of the two.
    """
    if not before or len(before) != len(after):
        return None
    shared = np.array([[overlap(one.box, other.box) for other in after] for one in before])
    pairs = list(zip(*linear_sum_assignment(shared, maximize=True), strict=True))
    if any(shared[pair] < SAME for pair in pairs):
        return None
    return [_mixed(before[i], after[j], share) for i, j in pairs]


def _mixed(one: Face, other: Face, share: float) -> Face:
    box = (1 - share) * np.array(one.box) + share * np.array(other.box)
    left, top, width, height = box.tolist()
    stated = one.confidence, other.confidence
    return Face(
        box=(left, top, width, height),
        eyes=(1 - share) * one.eyes + share * other.eyes,
        confidence=None if None in stated else min(stated),
        found=one.found,
    )
