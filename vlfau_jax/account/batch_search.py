"""The largest batch that fits in a device, found with few compilations.

A step's memory grows nearly in proportion to its batch,

    needed(b) = a + k b,

with a the state, known without a compiler, and k what one image keeps for the backward pass;
layouts and the schedule bend the line a little. So one compilation says where the line meets the
memory, the next confirms it there, and each answer moves the line, which goes through the two
batches nearest to the limit. A batch that does not fit helps as well: its compiler says what it
would need.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

AT_MOST = 12  # compilations
LARGEST = 4096


class Sample(NamedTuple):
    """One compilation: `images` a device, what they `needed`, and whether that `fits`."""

    images: int
    needed: float
    fits: bool


def largest_that_fits(
    measure: Callable[[int], Sample],
    memory: float,
    *,
    state: float = 0.0,
    first: int = 32,
    step: int = 8,
) -> tuple[int, list[Sample]]:
    """Searches the largest batch, in steps of `step` images, below `step` in powers of two.

    Args:
        measure: compiles a step with so many images a device.
        memory: what a program may need, in the unit of `Sample.needed`.
        state: what it needs without an image, about.
        first: where to begin.
        step: how fine to search; a TPU's tiles are 8 high.

    Returns:
        The batch, 0 if none fits, and all samples in their order. The next larger batch was tried
        and does not fit, unless `AT_MOST` compilations were spent before or `LARGEST` is reached.
    """
    samples: list[Sample] = []
    while len(samples) < AT_MOST:
        low = max((one.images for one in samples if one.fits), default=0)
        high = min((one.images for one in samples if not one.fits), default=LARGEST + step)
        between = _candidates(low, high, step)
        if not between:
            break
        guess = _crossing([Sample(0, state, True), *samples], memory) if samples else first
        # The largest candidate at or below it, or the smallest of those that are left.
        images = max((b for b in between if b <= guess), default=between[0])
        samples.append(measure(images))
    return max((one.images for one in samples if one.fits), default=0), samples


def _candidates(low: int, high: int, step: int) -> list[int]:
    """Batches between two others: multiples of `step`, and powers of two below it."""
    small = [1 << k for k in range(step.bit_length()) if 1 << k < step]
    large = range(step, min(high, LARGEST + 1), step)
    return [b for b in (*small, *large) if low < b < high]


def _crossing(samples: list[Sample], memory: float) -> float:
    """Where the line through the two samples nearest to the limit crosses it."""
    nearest = sorted(samples, key=lambda one: abs(one.needed - memory))[:2]
    (x, y), (u, v) = ((one.images, one.needed) for one in nearest)
    per_image = (v - y) / (u - x)
    return x + (memory - y) / per_image if per_image > 0 else math.inf
