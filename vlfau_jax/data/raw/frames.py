"""Reads picture files and videos, one frame at a time, always as RGB uint8.

See decoding.py for the kinds of pictures and what is made of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg

from vlfau_jax.data.raw.decoding import HEAD, MOST_PIXELS, decode_picture, kind_of
from vlfau_jax.data.raw.tree import ImageFiles, Video
from vlfau_jax.data.raw.unreadable import Loss, Unreadable
from vlfau_jax.errors import FileError, UserError
from vlfau_jax.files import OUT_OF, PICTURE_LIMIT, open_regular

# The caller counts what cannot be read; messages about it would only fill the screen.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_SCAN = b"\xff\xda"  # the marker of a scan's header
_MOST_HEADERS = 4096  # bytes before it; those of `encode_jpeg` are 607
_BASELINE = 0xC0  # a frame that is decoded in one pass; others can hold many scans
# JFIF's and Adobe's data, tables, the interval of restarts, comments.
_PLAIN = {bytes([kind]) for kind in (_BASELINE, 0xE0, 0xEE, 0xDB, 0xC4, 0xDD, 0xFE)}


class Place(NamedTuple):
    """Where a frame's picture is: a file, and the 0-based position if the file is a video."""

    path: str
    position: int | None = None


def place_of(pictures: ImageFiles | Video, i: int) -> Place:
    """The place of picture `i` of a sequence."""
    if isinstance(pictures, ImageFiles):
        return Place(pictures.paths[i])
    return Place(pictures.path, pictures.positions[i])


def source_of(root: str | Path, pictures: ImageFiles | Video, i: int) -> str:
    """The name of picture `i` in prepared sets: its path below `root`, `path#position` in a video.

    Raises:
        ValueError: the picture is not below `root`.
    """
    path, position = place_of(pictures, i)
    name = Path(path).relative_to(root).as_posix()
    return name if position is None else f"{name}#{position}"


def read_picture(path: str | Path) -> np.ndarray:
    """Reads a picture file as RGB uint8 [h, w, 3].

    Raises:
        Unreadable: no regular file of at most `PICTURE_LIMIT` bytes, or no picture; see decoding.
    """
    return decode_picture(read_encoded(path))


def read_encoded(path: str | Path) -> bytes:
    """The bytes of a picture file.

    Raises:
        Unreadable: no regular file of at most `PICTURE_LIMIT` bytes.
        OSError: the process has no more file descriptors or memory.
    """
    try:
        with open_regular(path, sys.maxsize) as file:
            if os.fstat(file.fileno()).st_size > PICTURE_LIMIT:
                raise Unreadable("image_too_large", f"more than {PICTURE_LIMIT >> 20} MB")
            return file.read(PICTURE_LIMIT)
    except FileError as error:
        raise Unreadable("image_unreadable", error.reason) from error.__cause__
    except OSError as error:
        if error.errno in OUT_OF:
            raise
        raise Unreadable("image_unreadable", error.strerror or str(error)) from error


def read_image(path: str | Path) -> np.ndarray | None:
    """As `read_picture`, but None if it cannot be decoded.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        data = read_encoded(path)
    except Unreadable as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        return None
    return decode_image(data)


def decode_image(data: bytes) -> np.ndarray | None:
    """As `decode_picture`, but None if it cannot be decoded."""
    try:
        return decode_picture(data)
    except Unreadable:
        return None


def decode_crop(data: bytes, out: np.ndarray | None = None) -> np.ndarray | None:
    """Decodes a picture of a prepared set, which `encode_jpeg` wrote, and fast.

    It is what OpenCV makes of it, to the bit: both have libjpeg-turbo, which simplejpeg calls
    without what OpenCV does around it. Anything else is decoded as any picture is.

    Args:
        data: the encoded picture.
        out: memory for it, contiguous uint8 [h, w, 3]; not used for another size.

    Returns:
        RGB uint8 [h, w, 3], perhaps in `out`'s memory; None if it cannot be decoded.
    """
    size = _plain_size(data[: max(0, data.find(_SCAN, 0, _MOST_HEADERS))])
    if size is None or data[-2:] != b"\xff\xd9":
        return decode_image(data)
    fits = out is not None and out.shape == (*size, 3)
    try:
        return simplejpeg.decode_jpeg(data, "RGB", buffer=out if fits else None)
    except ValueError:  # libjpeg's errors, and its warnings, of which OpenCV says nothing
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


@lru_cache(maxsize=64)  # all pictures of a set have the same headers
def _plain_size(headers: bytes) -> tuple[int, int] | None:
    """Height and width if these are all headers of a plain JPEG up to that of its first scan.

    It is a baseline one, grey or of three components, of at most `MOST_PIXELS`, and has no
    application's data but JFIF's and Adobe's: EXIF's state how the camera was held.
    """
    if not headers.startswith(b"\xff\xd8"):
        return None
    size = None
    at = 2  # segments are a marker of two bytes, their length, their content (ITU-T T.81, B.1.1)
    while at < len(headers):
        length = int.from_bytes(headers[at + 2 : at + 4])
        if headers[at] != 0xFF or headers[at + 1 : at + 2] not in _PLAIN or length < 2:
            return None
        if headers[at + 1] == _BASELINE:  # B.2.2
            height, width = (int.from_bytes(headers[at + k : at + k + 2]) for k in (5, 7))
            if size or headers[at + 9 : at + 10] not in (b"\1", b"\3"):
                return None
            size = height, width
        at += 2 + length
    if at != len(headers) or size is None or not 0 < size[0] * size[1] <= MOST_PIXELS:
        return None
    return size


def encode_jpeg(image: np.ndarray, quality: int = 95) -> bytes:
    """Encodes an RGB picture uint8 [h, w, 3] as JPEG."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def read_frames(
    pictures: ImageFiles | Video, seen: Callable[[int, bytes], None] | None = None
) -> Iterator[np.ndarray | Loss]:
    """Yields every frame of a sequence, uint8 RGB [h, w, 3]; the reason where there is none.

    A video is decoded once and to its end, one frame in memory; positions after its end are
    "image_unreadable". An AVI that has lost frames is detected. An MP4 ends where it is damaged,
    because its header states where every frame is. Frames that a damaged Matroska file skips are
    not detected.

    Args:
        pictures: the sequence's.
        seen: is given the position in the sequence and the bytes of each picture file.

    Raises:
        UserError: the video is missing, no video, or an AVI that has lost frames. The last is
            known only after the last frame.
    """
    if isinstance(pictures, Video):
        yield from _read_video(pictures)
        return
    for i, path in enumerate(pictures.paths):
        frame: np.ndarray | Loss
        try:
            data = read_encoded(path)
            if seen is not None:
                seen(i, data)
            frame = decode_picture(data)
        except Unreadable as error:
            frame = error.loss
        yield frame


def _open_video(path: str) -> tuple[cv2.VideoCapture, bytes]:
    """Opens a video; returns it with the first bytes of its file."""
    try:
        with open_regular(path, sys.maxsize) as file:
            head = file.read(HEAD)
    except FileError as error:
        raise UserError(f"{error}; expected a video") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; expected a video") from error
    if kind_of(head) == "video":
        # FFmpeg only: OpenCV's image backend takes 5.avi for one of a series of numbered pictures.
        video = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)
        size = [video.get(key) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)]
        if video.isOpened() and size[0] * size[1] <= MOST_PIXELS:
            return video, head
        video.release()
    raise UserError(f"{path}: not a video that can be read; expected a whole AVI or MP4 file")


def video_length(path: str | Path) -> int:
    """The number of frames that the file's header promises.

    Raises:
        UserError: the file is missing or no video.
    """
    video, _ = _open_video(str(path))
    try:
        return max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))
    finally:
        video.release()


def decoded_length(path: str | Path) -> int:
    """The number of frames that decode, for which the whole video is read.

    Raises:
        UserError: the file is missing or no video.
    """
    video, _ = _open_video(str(path))
    try:
        return sum(1 for _ in iter(video.grab, False))
    finally:
        video.release()


def _read_video(pictures: Video) -> Iterator[np.ndarray | Loss]:
    video, head = _open_video(pictures.path)
    try:
        promised = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        decoded, more = 0, True
        for position in pictures.positions:
            while more and decoded <= position:
                more = video.grab()
                decoded += more
            found, frame = video.retrieve() if more else (False, None)
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) if found else "image_unreadable"
        while more:  # labels may end before the video; lost frames are known only at its end
            more = video.grab()
            decoded += more
    finally:
        video.release()
    if decoded < promised and _is_whole_avi(pictures.path, head):
        raise UserError(
            f"{pictures.path}: holds {decoded} frames that decode, its header promises "
            f"{promised}; one that is lost in between shifts all labels after it, so write "
            "the video anew (ffmpeg -i OLD.avi -c:v mjpeg -q:v 2 NEW.avi) and compare"
        )


def _is_whole_avi(path: str, head: bytes) -> bool:
    """Whether a file is an AVI as long as its header states, so that its end is not missing.

    FFmpeg skips a damaged chunk of an AVI without a gap in the frames' times. The headers of other
    containers may promise more frames than there are, for instance after a cut.
    """
    size = int.from_bytes(head[4:8], "little") + 8
    return head[:4] == b"RIFF" and head[8:12] == b"AVI " and os.path.getsize(path) >= size
