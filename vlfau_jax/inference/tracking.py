"""Who is who in a video: a number for each person, kept through cuts, crossings and absences.

The rule, for each frame, of the people seen so far and the faces in it:

1. A face can be a person where it looks like them: the colours of the two aligned crops are at most
   `SAME` apart. Or where it lies where they were at most `GAP` seconds ago, overlapping by
   `OVERLAP` of the union, and does not look like somebody else: at most `OTHER` apart.
   Of faces close to each other, their boxes doubled in size overlap, one can cover a part of the
   other: the limits are then `COVERED`, and nothing is learnt of how they look.
2. Of all ways to pair people and faces, each at most once, the one with the greatest sum of
   likeness and overlap counts (linear assignment); an overlap less, the longer ago that place was.
3. A face without a person is a new one.

The distance of colours is 1 - the Bhattacharyya coefficient of their histograms in CIE L*a*b*. Of
crops from one recording it was, for one person (median, 99.5 %) 0.016 and 0.043 on rendered faces
and 0.020 and 0.052 in two filmed clips; of different people (0.5 %, median) 0.20 and 0.61. It tells
people apart in one light, with hair, skin and clothes as they are: somebody who comes back in
another light is a new person, and a recording of twins is beyond it. Histograms of local binary
patterns, mean colours by place and the correlation of grey levels told the same crops apart less
well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from vlfau_jax.data.crop.face import overlap
from vlfau_jax.records import Record

SAME, OTHER, COVERED = 0.12, 0.20, 0.45
OVERLAP = 0.3
GAP = 0.5  # seconds
_NEW_SHARE = 0.1  # of the newest crop in what is remembered of a person
_REMEMBERED = 64  # people, those seen last: memory does not grow with the video
_SIDE = 64  # pixels of the crop that is looked at
_BINS = (6, 12, 12)  # of L*, a* and b*; a* and b* from 96 to 176 of 255
_RANGES = (0, 256, 96, 176, 96, 176)

Box = tuple[float, float, float, float]


class Person(Record):
    """A person as last seen.

    Attributes:
        number: from 0, in the order of appearance.
        box: left, top, width, height in pixels.
        timestamp: seconds.
        colours: histogram, its sum is 1.
    """

    number: int
    box: Box
    timestamp: float
    colours: tuple[float, ...]


class People(Record):
    """Everybody seen so far in a video; a plain value, which a run that goes on is given.

    Attributes:
        seen: in the order in which they were last seen.
        count: how many there were, those that are forgotten included.
    """

    seen: tuple[Person, ...] = ()
    count: int = 0


class Seen(NamedTuple):
    """A face of a frame: its box, and the colours of its crop."""

    box: Box
    colours: np.ndarray


def colours_of(crop: np.ndarray) -> np.ndarray:
    """The histogram of a crop's colours, float64 [864], whose sum is 1; `crop` is RGB uint8."""
    small = cv2.resize(crop, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB)
    histogram = cv2.calcHist([lab], [0, 1, 2], None, _BINS, _RANGES).ravel().astype(np.float64)
    return histogram / max(histogram.sum(), 1.0)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """How far apart two histograms are: 0 for the same, 1 without a common colour."""
    return 1 - float(np.sqrt(a * b).sum())


def _is_close(face: Seen, faces: Sequence[Seen]) -> bool:
    """Whether another face is so close that one may cover a part of the other."""
    mine = _doubled(face.box)
    return any(other is not face and overlap(mine, _doubled(other.box)) > 0 for other in faces)


def _doubled(box: Box) -> Box:
    left, top, width, height = box
    return left - width / 2, top - height / 2, 2 * width, 2 * height


def recognise(people: People, faces: Sequence[Seen], timestamp: float) -> tuple[list[int], People]:
    """The number of each face's person, by the rule above, and everybody seen so far.

    Args:
        people: seen before.
        faces: of one frame.
        timestamp: of the frame, seconds.
    """
    colours = [np.array(person.colours) for person in people.seen]
    scores = np.full((len(faces), len(people.seen)), -1.0)
    close = [_is_close(face, faces) for face in faces]
    for i, face in enumerate(faces):
        same, other = (COVERED, COVERED) if close[i] else (SAME, OTHER)
        for j, person in enumerate(people.seen):
            apart = distance(face.colours, colours[j])
            gap = timestamp - person.timestamp
            shared = overlap(face.box, person.box) if gap <= GAP else 0.0
            if apart <= same or (shared >= OVERLAP and apart <= other):
                scores[i, j] = shared * (1 - gap / GAP) + 1 - apart
    numbers: list[int | None] = [None] * len(faces)
    seen = {person.number: person for person in people.seen}
    for i, j in zip(*linear_sum_assignment(np.maximum(scores, 0), maximize=True), strict=True):
        if scores[i, j] >= 0:
            numbers[i] = people.seen[j].number
    known = {person.number: colours[j] for j, person in enumerate(people.seen)}
    count = people.count
    for i, face in enumerate(faces):
        if numbers[i] is None:
            numbers[i], count, mixed = count, count + 1, face.colours
        elif close[i]:
            mixed = known[numbers[i]]
        else:
            mixed = (1 - _NEW_SHARE) * known[numbers[i]] + _NEW_SHARE * face.colours
        seen.pop(numbers[i], None)  # the last seen come last
        seen[numbers[i]] = Person(
            number=numbers[i],
            box=tuple(map(float, face.box)),
            timestamp=timestamp,
            colours=tuple(mixed.tolist()),
        )
    return numbers, People(seen=tuple(seen.values())[-_REMEMBERED:], count=count)
