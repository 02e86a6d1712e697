"""What `predict` looks at, in order: pictures, frames of videos, and the people in them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np

from vlfau_jax.data.crop.face import Face
from vlfau_jax.data.crop.rule import CropRule
from vlfau_jax.data.raw.frames import read_picture
from vlfau_jax.data.raw.unreadable import Unreadable
from vlfau_jax.data.workers import in_threads, prefetched
from vlfau_jax.inference.between import FAST, faces_between
from vlfau_jax.inference.exported_model import ExportedModel
from vlfau_jax.inference.faces import FoundFace, Limits
from vlfau_jax.inference.pictures import Picture
from vlfau_jax.inference.predict_options import Faces
from vlfau_jax.inference.prediction import LOSSES
from vlfau_jax.inference.tracking import People, Seen, colours_of, recognise
from vlfau_jax.inference.video import VideoFrames, read_video
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
        between: whether its faces may be told from those before and after.
    """

    source: Picture
    index: int
    number: int
    timestamp: float = 0.0
    image: np.ndarray | None = field(default=None, repr=False)
    fault: Unreadable | None = None
    between: bool = False


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


class Look(Protocol):
    """Gives the faces of a picture, at least one entry; see `faces.look_for_faces`."""

    def __call__(
        self, image: np.ndarray, source: Picture, known: Sequence[Face] | None = None
    ) -> list[FoundFace]: ...


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

    def look(
        image: np.ndarray, source: Picture, known: Sequence[Face] | None = None
    ) -> list[FoundFace]:
        return model.look_all(
            image,
            source.path,
            source.root,
            limits,
            finder=finder,
            faces=faces,
            turn=not source.video,
            known=known,
        )

    return look


def shots(
    sources: Sequence[Picture],
    every: int,
    begin: Place,
    on_remarks: Callable[[Picture, list[str]], None],
    camera: VideoFrames | None = None,
) -> Iterator[Shot]:
    """All pictures and frames from a place on, in order.

    Args:
        sources: the inputs.
        every: of a video, the first frame and each n-th after it.
        begin: where to begin. Of a video, the frame before may come, too.
        on_remarks: given a video and what is damaged in it, once it is read.
        camera: the frames of the one source, where that is no file.
    """
    for index in range(begin.source, len(sources)):
        source = sources[index]
        if not source.video:
            yield Shot(source, index, source.frame)
            continue
        first = begin.number if index == begin.source else 1
        if _is_between(first, every):
            first -= every  # what it shows is needed
        try:
            frames = read_video(source.path, every, first) if camera is None else camera
            remarks = yield from _of_video(frames, source, index, every)
        except Unreadable as error:
            yield Shot(source, index, 1, fault=error)
            continue
        if remarks:
            on_remarks(source, remarks)


def _of_video(
    frames: VideoFrames, source: Picture, index: int, every: int
) -> Generator[Shot, None, list[str]]:
    with closing(frames):
        while True:
            try:
                frame = next(frames)
            except StopIteration as end:
                return end.value
            between = _is_between(frame.number, every)
            yield Shot(source, index, frame.number, frame.timestamp, frame.image, None, between)


def _is_between(number: int, every: int) -> bool:
    """Whether a frame is one of those that `faces_between` may spare a search: every other one."""
    return (number - 1) // every % 2 == 1


class _Looked(NamedTuple):
    """A shot and its faces; `faces` is None where they wait for those of the next shot."""

    shot: Shot
    faces: list[FoundFace] | None
    colours: list[np.ndarray | None]


def portraits(
    all_shots: Iterable[Shot], look: Look, begin: Place, ahead: int
) -> Iterator[Portrait]:
    """The faces of all shots, each with its person's number.

    A thread decodes videos, one for each core reads pictures and finds faces; the caller's own
    thread, which describes those before, recognises people. Of a video, every other frame is
    searched, and those between where the two around them do not show the same faces, or are more
    than `between.FAST` apart.

    Args:
        all_shots: from `begin` on.
        look: gives the faces of a picture, at least one entry; see `faces.look_for_faces`.
        begin: the first face that is given.
        ahead: how many shots are looked at before they are due.
    """
    people, index = begin.people, begin.source

    def searched(shot: Shot) -> _Looked:
        return _Looked(shot, None, []) if shot.between else _look(shot, look)

    def completed(three: tuple[_Looked | None, _Looked, _Looked | None]) -> _Looked:
        this = three[1]
        return this if this.faces is not None else _look(this.shot, look, _known(*three))

    # A decoded frame has megabytes: of videos, few wait.
    with (
        closing(prefetched(all_shots, ahead=4)) as decoded,
        closing(in_threads(searched, decoded, ahead=ahead)) as half,
        closing(in_threads(completed, _with_neighbours(half), ahead=2)) as whole,
        # Without pictures they are small: the others go on while the caller describes a batch.
        closing(prefetched(whole, ahead=2 * ahead)) as found,
    ):
        for shot, faces, colours in found:
            if (shot.index, shot.number) < (begin.source, begin.number) and shot.source.video:
                continue
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


def _with_neighbours(
    looked: Iterable[_Looked],
) -> Iterator[tuple[_Looked | None, _Looked, _Looked | None]]:
    """Each that waits for its faces with the one before and the one after; None for no such one.

    Those that have their faces are given at once, without others.
    """
    before = waiting = None
    for this in looked:
        if waiting is not None:
            yield before, waiting, this
            waiting = None
        if this.faces is None:
            waiting = this
        else:
            yield None, this, None
            before = this
    if waiting is not None:
        yield before, waiting, None


def _known(before: _Looked | None, this: _Looked, after: _Looked | None) -> list[Face] | None:
    """The faces of a frame, told from those of the frames around it; None to search it."""
    if before is None or after is None or before.shot.index != after.shot.index:
        return None
    gap = after.shot.timestamp - before.shot.timestamp
    around = [[found.face for found in one.faces] for one in (before, after)]
    if not 0 < gap <= FAST or any(face is None for faces in around for face in faces):
        return None
    return faces_between(*around, (this.shot.timestamp - before.shot.timestamp) / gap)


def _look(shot: Shot, look: Look, known: Sequence[Face] | None = None) -> _Looked:
    bare = replace(shot, image=None)
    try:
        if shot.fault is not None:
            raise shot.fault
        image = read_picture(shot.source.path) if shot.image is None else shot.image
    except Unreadable as error:
        reason = LOSSES[error.loss]
        print(f"{shot.source.path}: {error.detail}", file=sys.stderr)
        return _Looked(bare, [FoundFace(None, reason, error.detail)], [None])
    faces = look(image, shot.source, known)
    if not shot.source.video:
        return _Looked(bare, faces, [None] * len(faces))
    return _Looked(bare, faces, [None if f.crop is None else colours_of(f.crop) for f in faces])
