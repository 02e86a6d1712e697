"""Reads pictures and videos, one frame at a time, always as RGB uint8.

Pictures are JPEG, PNG, BMP, TIFF, WebP or PPM files of at most `MOST_PIXELS`; others count as
unreadable. Grey, 16-bit, RGBA and CMYK pictures are converted (16 bits lose the lower eight,
transparency is dropped). A picture whose EXIF data state the camera's orientation is turned
upright.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from vlfau_jax.data.raw.tree import ImageFiles, Video
from vlfau_jax.errors import UserError

# The caller counts what cannot be read; messages about it would only fill the screen.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

# Pillow would hand a PostScript file in a .jpg to Ghostscript, which is a program that it runs.
_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM")
MOST_PIXELS = 64_000_000  # a header of 600 bytes may claim pixels for many gigabytes of memory

# The first bytes of AVI, Matroska, MPEG, ASF and Ogg files, and the second word of MP4 and MOV.
# FFmpeg would follow a playlist in a file called .avi to any other file.
_BEGINNINGS = (b"RIFF", b"\x1aE\xdf\xa3", b"\0\0\1\xba", b"0&\xb2u", b"OggS")
_ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


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


def read_image(path: str | Path) -> np.ndarray | None:
    """Reads a picture as uint8 RGB [h, w, 3]; None if it cannot be decoded.

    Raises:
        OSError: the file cannot be read.
    """
    return decode_image(Path(path).read_bytes())


def decode_image(data: bytes) -> np.ndarray | None:
    """Decodes an encoded picture; see `read_image`."""
    if not (_is_plain_jpeg(data) or _is_whole(data)):
        return None
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:  # such as a pixel format that OpenCV does not know
        return None


def _is_plain_jpeg(data: bytes) -> bool:
    """Whether the data are a complete JPEG whose frame header claims at most `MOST_PIXELS`.

    Prepared sets hold no others. Checking them with Pillow would take a twentieth of the decoding
    time.
    """
    if data[:2] != b"\xff\xd8" or data[-2:] != b"\xff\xd9":
        return False
    at = 2  # segments are a marker of two bytes, their length, their content (ITU-T T.81, B.1.1)
    while data[at : at + 1] == b"\xff" and at + 9 <= len(data):
        kind = data[at + 1]
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):  # a frame header, B.2.2
            height, width = (int.from_bytes(data[at + k : at + k + 2]) for k in (5, 7))
            return height * width <= MOST_PIXELS
        if kind < 0xC0 or 0xD0 <= kind <= 0xD9:  # no segment, and no length
            return False
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return False


def _is_whole(data: bytes) -> bool:
    """Whether Pillow decodes the data to the end, in one of `_FORMATS` and `MOST_PIXELS` at most.

    OpenCV, depending on its version, fills up truncated files with grey or prints errors.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tags; see above
        # On damaged bytes Pillow's decoders raise all kinds of exceptions, struct.error,
        # MemoryError and zlib.error among them: each means a picture that is not whole.
        try:
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    return False
                image.load()  # Pillow refuses a file that ends early
        except Exception:
            return False
    return True


def encode_jpeg(image: np.ndarray, quality: int = 95) -> bytes:
    """Encodes an RGB picture uint8 [h, w, 3] as JPEG."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def read_frames(
    pictures: ImageFiles | Video, seen: Callable[[int, bytes], None] | None = None
) -> Iterator[np.ndarray | None]:
    """Yields every frame of a sequence, uint8 RGB [h, w, 3]; None where it cannot be read.

    A video is decoded once and to its end, one frame in memory; positions after its end are None.
    An AVI that has lost frames is detected. An MP4 ends where it is damaged, because its header
    states where every frame is. Frames that a damaged Matroska file skips are not detected.

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
        try:
            data = Path(path).read_bytes()
        except OSError:  # a dangling link, a folder named 5.jpg, a file of somebody else's
            yield None
            continue
        if seen is not None:
            seen(i, data)
        yield decode_image(data)


def _open_video(path: str) -> tuple[cv2.VideoCapture, bytes]:
    """Opens a video; returns it with the first twelve bytes of its file."""
    try:
        with open(path, "rb") as file:
            head = file.read(12)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; expected a video") from error
    if head.startswith(_BEGINNINGS) or head[4:8] in _ATOMS:
        # FFmpeg only: OpenCV's image backend takes 5.avi for one of a series of numbered pictures.
        video = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)
        if video.isOpened():
            return video, head
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


def _read_video(pictures: Video) -> Iterator[np.ndarray | None]:
    video, head = _open_video(pictures.path)
    try:
        promised = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        decoded, more = 0, True
        for position in pictures.positions:
            while more and decoded <= position:
                more = video.grab()
                decoded += more
            found, frame = video.retrieve() if more else (False, None)
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) if found else None
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
