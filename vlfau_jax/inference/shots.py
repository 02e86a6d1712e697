"""What `predict` looks at, in order: pictures, frames of videos, and the people in them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from vlfau_jax.data.crop.rule import CropRule
from vlfau_jax.data.raw.frames import read_picture
from vlfau_jax.data.raw.unreadable import Unreadable
from vlfau_jax.data.workers import in_threads, prefetched
from vlfau_jax.inference.exported_model import ExportedModel
from vlfau_jax.inference.faces import FoundFace, Limits
from vlfau_jax.inference.pictures import Picture
from vlfau_jax.inference.predict_options import Faces
from vlfau_jax.inference.prediction import LOSSES
from vlfau_jax.inference.tracking import People, Seen, colours_of, recognise
from vlfau_jax.inference.video import VideoFrame, read_video
from vlfau_jax.records import Record

NOBODY = -1  # the number of a person where a video's frame shows none


class Place(Record):
    """Where a `predict` is: all that the rows from there on depend on, beside what was asked.

    Attributes:
        source: index of the picture or video.
        number: of its frame.
        face: index of the face in that frame.
        people: seen in the video before that frame.
    """

    source: int = 0
    number: int = 1
    face: int = 0
    people: People = People()

    def after(self) -> Place:
        """Behind this face: at the next one of the frame, if it has one."""
        return self.model_copy(update={"face": self.face + 1})


@dataclass(frozen=True)
class Shot:
    """A picture or a video's frame.

    Attributes:
        source: the file.
        index: of the file among the inputs.
        number: of the frame, from 1; of a picture its `Picture.frame`.
        timestamp: seconds since the video began; 0 for pictures.
        image: RGB uint8 [h, w, 3]; None for a picture file that is not read yet.
        fault: why a video gives no frame here.
    """

    source: Picture
    index: int
    number: int
    timestamp: float = 0.0
    image: np.ndarray | None = field(default=None, repr=False)
    fault: Unreadable | None = None


class Portrait(NamedTuple):
    """One face of a shot, or the reason why the shot has none.

    Attributes:
        shot: without its image.
        person: the face's number: in a video the person's, in a picture the face's own.
        face: what was found.
        place: of this face.
    """

    shot: Shot
    person: int
    face: FoundFace
    place: Place


Look = Callable[[np.ndarray, Picture], list[FoundFace]]


def look_with(
    model: ExportedModel, finder: CropRule, faces: Faces, limits: Limits | None = None
) -> Look:
    """A function that gives the faces of a picture or frame, cropped as a model takes them.

    Args:
        model: that will describe them.
        finder: finds them, see `registry.finder_for`.
        faces: "all", or the "largest" alone.
        limits: see `faces.look_for_faces`.
    """

    def look(image: np.ndarray, source: Picture) -> list[FoundFace]:
        return model.look_all(
            image,
            source.path,
            source.root,
            limits,
            finder=finder,
            faces=faces,
            turn=not source.video,
        )

    return look


def shots(
    sources: Sequence[Picture],
    every: int,
    begin: Place,
    on_remarks: Callable[[Picture, list[str]], None],
    camera: Generator[VideoFrame, None, list[str]] | None = None,
) -> Iterator[Shot]:
    """All pictures and frames from a place on, in order.

    Args:
        sources: the inputs.
        every: of a video, the first frame and each n-th after it.
        begin: where to begin.
        on_remarks: given a video and what is damaged in it, once it is read.
        camera: the frames of the one source, where that is no file.
    """
    for index in range(begin.source, len(sources)):
        source = sources[index]
        if not source.video:
            yield Shot(source, index, source.frame)
            continue
        first = begin.number if index == begin.source else 1
        try:
            frames = read_video(source.path, every, first) if camera is None else camera
            remarks = yield from _of_video(frames, source, index)
        except Unreadable as error:
            yield Shot(source, index, 1, fault=error)
            continue
        if remarks:
            on_remarks(source, remarks)


def _of_video(
    frames: Generator[VideoFrame, None, list[str]], source: Picture, index: int
) -> Generator[Shot, None, list[str]]:
    with closing(frames):
        while True:
            try:
                frame = next(frames)
            except StopIteration as end:
                return end.value
            yield Shot(source, index, frame.number, frame.timestamp, frame.image)


class _Looked(NamedTuple):
    shot: Shot
    faces: list[FoundFace]
    colours: list[np.ndarray | None]


def portraits(
    all_shots: Iterable[Shot], look: Look, begin: Place, ahead: int
) -> Iterator[Portrait]:
    """The faces of all shots, each with its person's number.

    A thread decodes videos, one for each core reads pictures and finds faces; the caller's own
    thread, which describes those before, recognises people.

    Args:
        all_shots: from `begin` on.
        look: gives the faces of a picture, at least one entry; see `faces.look_for_faces`.
        begin: the first face that is given.
        ahead: how many shots are looked at before they are due.
    """
    people, index = begin.people, begin.source

    def looked(shot: Shot) -> _Looked:
        return _look(shot, look)

    # A decoded frame has megabytes: of videos, few wait.
    with (
        closing(prefetched(all_shots, ahead=4)) as decoded,
        closing(in_threads(looked, decoded, ahead=ahead)) as found,
    ):
        for shot, faces, colours in found:
            if shot.index != index:
                people, index = People(), shot.index
            before = people
            persons: Sequence[int] = range(len(faces))
            if shot.source.video:
                there = [k for k, one in enumerate(colours) if one is not None]
                seen = [Seen(faces[k].box, colours[k]) for k in there]
                numbers, people = recognise(people, seen, shot.timestamp)
                known = dict(zip(there, numbers, strict=True))
                persons = [known.get(k, NOBODY) for k in range(len(faces))]
            for k, (person, face) in enumerate(zip(persons, faces, strict=True)):
                if (shot.index, shot.number) == (begin.source, begin.number) and k < begin.face:
                    continue
                # The number of a picture is its position, which a frame's of a video is not.
                place = Place(source=shot.index, number=shot.number, face=k, people=before)
                yield Portrait(shot, person, face, place)


def _look(shot: Shot, look: Look) -> _Looked:
    bare = replace(shot, image=None)
    try:
        if shot.fault is not None:
            raise shot.fault
        image = read_picture(shot.source.path) if shot.image is None else shot.image
    except Unreadable as error:
        reason = LOSSES[error.loss]
        print(f"{shot.source.path}: {error.detail}", file=sys.stderr)
        return _Looked(bare, [FoundFace(None, reason, error.detail)], [None])
    faces = look(image, shot.source)
    if not shot.source.video:
        return _Looked(bare, faces, [None] * len(faces))
    return _Looked(bare, faces, [None if f.crop is None else colours_of(f.crop) for f in faces])
