"""A clip as a page shows it: gathered frame by frame, in memory that does not grow with pictures.

Of all frames the probabilities are kept. Of faces, as many stills as a page can hold, evenly
spaced: where there are too many, every other one is forgotten. And of each unit, the face at its
peak.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import numpy as np

from vlfau_jax.data.workers import in_threads
from vlfau_jax.inference.exported_model import ExportedModel
from vlfau_jax.inference.faces import FoundFace, Limits
from vlfau_jax.inference.prediction import Prediction
from vlfau_jax.report.pictures import face_uri

MOST_STILLS = 240
STILL = 224  # pixels of a still's side
MOST_PEAKS = 6  # faces that are told in full

Frame = tuple[float, np.ndarray | None]


@dataclass(frozen=True, eq=False)
class Still:
    """A frame that the scrubber shows.

    Attributes:
        frame: its number, from 0.
        image: the face as a data: URI; "" without one.
        sentence: about the whole face; None without a face or captioner.
        reason: why there is no face; "" where there is one.
    """

    frame: int
    image: str
    sentence: str | None
    reason: str


@dataclass(frozen=True, eq=False)
class Peak:
    """The frame in which a unit that is on has its highest probability."""

    au: int
    frame: int
    probability: float
    crop: np.ndarray
    prediction: Prediction


@dataclass
class Clip:
    """A described clip.

    Attributes:
        aus: its n units.
        times: of every frame, seconds.
        probabilities: of every frame float32 [n], NaN where there is no face.
        stills: evenly spaced frames.
        peaks: of each unit that is on in some frame.
    """

    aus: tuple[int, ...]
    times: list[float] = field(default_factory=list)
    probabilities: list[np.ndarray] = field(default_factory=list)
    stills: list[Still] = field(default_factory=list)
    peaks: dict[int, Peak] = field(default_factory=dict)
    stride: int = 1  # frames from one still to the next

    @property
    def described(self) -> int:
        """How many frames show a face."""
        return sum(not np.isnan(row[0]) for row in self.probabilities)

    def add(self, time: float, found: FoundFace, prediction: Prediction | None) -> None:
        """Adds the next frame."""
        number = len(self.times)
        self.times.append(time)
        row = np.full(len(self.aus), np.nan, np.float32)
        if prediction is not None:
            row = np.asarray(prediction.probabilities, np.float32).copy()
        self.probabilities.append(row)
        if number % self.stride == 0:
            if len(self.stills) == MOST_STILLS:
                self.stills = self.stills[::2]
                self.stride *= 2
            if number % self.stride == 0:
                self.stills.append(_still(number, found, prediction))
        if prediction is None or found.crop is None:
            return
        for k, au in enumerate(self.aus):
            if not prediction.active[k] or au in prediction.untaught:
                continue
            if au not in self.peaks or row[k] > self.peaks[au].probability:
                self.peaks[au] = Peak(au, number, float(row[k]), found.crop, prediction)

    def told(self, most: int = MOST_PEAKS) -> list[Peak]:
        """Peaks that together show the units, in the order of time, at most so many.

        A frame in which another unit is nearly as high as at its own peak speaks for that one, too.
        """
        chosen: list[Peak] = []
        for peak in sorted(self.peaks.values(), key=lambda one: -one.probability):
            k = self.aus.index(peak.au)
            if all(one.prediction.probabilities[k] < 0.9 * peak.probability for one in chosen):
                chosen.append(peak)
        return sorted(chosen[:most], key=lambda one: one.frame)


def gather(model: ExportedModel, frames: Iterable[Frame], limits: Limits | None = None) -> Clip:
    """Describes a clip; threads find the faces of the next frames meanwhile.

    Args:
        model: that describes.
        frames: the time in seconds and the picture, RGB uint8 [h, w, 3], of each frame, in order;
            None for a picture that cannot be read. They are read once, as they are needed.
        limits: beyond which a face is doubtful; it is described all the same.
    """
    clip = Clip(model.aus)
    look = partial(_look, model, limits=limits)
    with closing(in_threads(look, frames, ahead=model.batch_size)) as looked:
        for group in _groups(looked, model.batch_size):
            crops = [found.crop for _, found in group if found.crop is not None]
            predictions = iter(model.describe(np.stack(crops)) if crops else [])
            for time, found in group:
                clip.add(time, found, None if found.crop is None else next(predictions))
    return clip


def _groups(
    looked: Iterator[tuple[float, FoundFace]], size: int
) -> Iterator[Sequence[tuple[float, FoundFace]]]:
    while group := list(islice(looked, size)):
        yield group


def _look(model: ExportedModel, frame: Frame, limits: Limits | None) -> tuple[float, FoundFace]:
    time, picture = frame
    if picture is None:
        return time, FoundFace(None, "unreadable")
    return time, model.look(picture, limits=limits)


def _still(number: int, found: FoundFace, prediction: Prediction | None) -> Still:
    if prediction is None or found.crop is None:
        return Still(number, "", None, found.reason or "no face")
    return Still(number, face_uri(found.crop, STILL), prediction.sentence, "")
