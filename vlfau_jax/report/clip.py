"""A clip as a page shows it: gathered frame by frame, in memory that does not grow with pictures.

Of every person the probabilities of all frames are kept. Of faces, as many stills as a page can
hold, evenly spaced: where there are too many, every other one is forgotten. And of each unit, the
face at its peak.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np

from vlfau_jax.inference.describing import Described, Describer
from vlfau_jax.inference.exported_model import ExportedModel
from vlfau_jax.inference.faces import FoundFace
from vlfau_jax.inference.prediction import Prediction
from vlfau_jax.inference.shots import Look, Place, Shot, portraits
from vlfau_jax.report.pictures import face_uri

MOST_STILLS = 240
STILL = 224  # pixels of a still's side
MOST_PEAKS = 6  # faces that are told in full
MOST_PEOPLE = 6  # that a page shows


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
    face: FoundFace
    prediction: Prediction


@dataclass
class Clip:
    """One person along a clip.

    Attributes:
        aus: the model's n units.
        times: of every frame, seconds.
        probabilities: of every frame float32 [n], NaN where the person is not seen.
        stills: evenly spaced frames.
        peaks: of each unit that is on in some frame.
    """

    aus: tuple[int, ...]
    times: list[float] = field(default_factory=list)
    probabilities: list[np.ndarray] = field(default_factory=list)
    stills: list[Still] = field(default_factory=list)
    peaks: dict[int, Peak] = field(default_factory=dict)
    stride: int = 1  # frames from one still to the next

    def __post_init__(self) -> None:
        self._unseen = np.full(len(self.aus), np.nan, np.float32)  # one for all such frames

    def copy(self) -> Clip:
        """Another person with the same frames so far."""
        lists = {name: list(getattr(self, name)) for name in ("times", "probabilities", "stills")}
        return replace(self, peaks=dict(self.peaks), **lists)

    @property
    def described(self) -> int:
        """How many frames show the person."""
        return sum(not np.isnan(row[0]) for row in self.probabilities)

    def add(self, time: float, seen: tuple[FoundFace, Prediction] | None, reason: str = "") -> None:
        """Adds the next frame: the person's face, or the reason why it is not seen."""
        number = len(self.times)
        self.times.append(time)
        row = self._unseen
        if seen is not None:
            row = np.asarray(seen[1].probabilities, np.float32).copy()
        self.probabilities.append(row)
        if number % self.stride == 0:
            self.thin(MOST_STILLS - 1)
            if number % self.stride == 0:
                self.stills.append(_still(number, seen, reason))
        if seen is None:
            return
        face, prediction = seen
        for k, au in enumerate(self.aus):
            if not prediction.active[k] or au in prediction.untaught:
                continue
            if au not in self.peaks or row[k] > self.peaks[au].probability:
                self.peaks[au] = Peak(au, number, float(row[k]), face, prediction)

    def thin(self, most: int) -> None:
        """Forgets every other still until there are at most so many."""
        while len(self.stills) > most:
            self.stills = self.stills[::2]
            self.stride *= 2

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


@dataclass
class PeopleOfClip:
    """Everybody who is seen along a clip.

    Attributes:
        nobody: a person who is in no frame: how those begin who come later.
        clips: by the person's number.
        seen: how many frames show somebody.
    """

    nobody: Clip
    clips: dict[int, Clip] = field(default_factory=dict)
    seen: int = 0

    def add(
        self, time: float, there: Mapping[int, tuple[FoundFace, Prediction]], reason: str
    ) -> None:
        """Adds the next frame: everybody who is there, or the reason why nobody is."""
        for number in there:
            if number not in self.clips:
                self.clips[number] = self.nobody.copy()
        for number, clip in (*self.clips.items(), (None, self.nobody)):
            clip.add(time, there.get(number), reason or "not seen")
        self.seen += bool(there)

    def shown(self) -> dict[int, Clip]:
        """Those who are seen in the most frames, `MOST_PEOPLE` at most, in order of their numbers.

        They share the stills that a page can hold.
        """
        longest = sorted(self.clips, key=lambda number: -self.clips[number].described)
        shown = {number: self.clips[number] for number in sorted(longest[:MOST_PEOPLE])}
        for clip in shown.values():
            clip.thin(max(1, MOST_STILLS // len(shown)))
        return shown


def gather(model: ExportedModel, shots: Iterable[Shot], look: Look) -> PeopleOfClip:
    """Describes a clip; threads find the faces of the next frames meanwhile.

    Args:
        model: that describes.
        shots: its frames in order, all of one video (`Picture.video`). They are read once, as they
            are needed.
        look: gives the faces of a frame, see `shots.look_with`. Doubtful ones are described, too.
    """
    people = PeopleOfClip(Clip(model.aus))
    describer = Describer(model, keep_doubtful=True)
    with closing(portraits(shots, look, Place(), model.batch_size)) as seen:
        faces = (one for group in describer.batches(seen) for one in describer.describe(group))
        for _, of_frame in groupby(faces, key=lambda one: one.portrait.shot.number):
            here: list[Described] = list(of_frame)
            first = here[0].portrait
            there = {
                one.portrait.person: (one.portrait.face, one.result.prediction)
                for one in here
                if one.result.prediction is not None
            }
            reason = "" if there else first.face.reason or "no face"
            people.add(first.shot.timestamp, there, reason)
    return people


def _still(number: int, seen: tuple[FoundFace, Prediction] | None, reason: str) -> Still:
    if seen is None:
        return Still(number, "", None, reason)
    face, prediction = seen
    return Still(number, face_uri(face.crop, STILL), prediction.sentence, "")
