"""Reads videos for `predict`: frame after frame, upright, with their times.

PyAV decodes, which brings FFmpeg in its wheel. FFmpeg is given an open file that begins like a
video and no name: what a file says about other files is not followed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from time import monotonic
from types import ModuleType
from typing import NamedTuple

import cv2
import numpy as np

from vlfau_jax.data.raw.decoding import HEAD, MOST_PIXELS, kind_of
from vlfau_jax.data.raw.unreadable import Unreadable
from vlfau_jax.errors import FileError, UserError
from vlfau_jax.files import open_regular

KINDS = "MP4, MOV, AVI, WebM, Matroska or GIF"
_CUT = 1.0  # seconds that a video may end before its header says
_NAMES = "replace"  # what is no UTF-8 in titles and such, as older programs write them


class VideoFrame(NamedTuple):
    """One frame.

    Attributes:
        number: from 1.
        timestamp: seconds since the first frame, by the file's own time stamps.
        image: RGB uint8 [h, w, 3], turned as the file says.
    """

    number: int
    timestamp: float
    image: np.ndarray


VideoFrames = Generator[VideoFrame, None, list[str]]  # in order; returns remarks, see `read_video`


def pyav() -> ModuleType:
    """PyAV.

    Raises:
        UserError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise UserError(
            f'videos need the package av, which is not installed ({error}); `pip install "av>=18"`'
        ) from error
    av.logging.set_level(None)  # what it would print is counted, or raised
    return av


def read_video(path: str | Path, every: int = 1, first: int = 1) -> VideoFrames:
    """The frames of a video in order; memory holds a few.

    Args:
        path: the file.
        every: 1 for each frame, n for the first, the one n later, and so on.
        first: frames of smaller numbers are decoded and left out, as after an interruption.

    Returns:
        Remarks: what is damaged or missing at the end.

    Raises:
        Unreadable: no video, one without a frame that decodes, or too large.
        UserError: PyAV is not installed.
        OSError: the disk fails, or the process has no more file descriptors or memory: another try
            may find what follows.
    """
    av = pyav()
    try:
        with open_regular(path, sys.maxsize) as file:
            head = file.read(HEAD)
            if kind_of(head) not in ("video", "GIF"):
                raise Unreadable("image_unreadable", f"no {KINDS}" if head else "an empty file")
            file.seek(0)
            with av.open(file, metadata_errors=_NAMES) as container:
                return (yield from _frames(av, container, every, first))
    except FileError as error:
        raise Unreadable("image_unreadable", error.reason) from error
    except av.FFmpegError as error:
        raise Unreadable(
            "image_unreadable", f"no video that can be decoded ({error.strerror})"
        ) from error


def _frames(av: ModuleType, container: object, every: int, first: int) -> VideoFrames:
    if not container.streams.video:
        raise Unreadable("image_unreadable", "no video: it has sound or data only")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    if _is_too_large(stream):
        raise Unreadable("image_too_large", f"{stream.width} by {stream.height} pixels")
    # Read now: at the end of a file FFmpeg may state what it has found instead.
    promised = _seconds(stream)
    number, begin, timestamp, remarks = 0, None, 0.0, []
    for frame in _decoded(av, container.demux(stream), remarks):
        number += 1
        time = frame.time
        if time is None:  # the file states none
            time = (number - 1) / float(stream.average_rate or 25)
        begin = time if begin is None else begin
        timestamp = max(0.0, time - begin)
        if number >= first and (number - 1) % every == 0:
            yield VideoFrame(number, round(timestamp, 6), _upright(frame))
    if not number:
        raise Unreadable("image_unreadable", "; ".join(["no frame that can be decoded", *remarks]))
    if promised - timestamp > _CUT:
        remarks.append(
            f"ends after {timestamp:.1f} of the {promised:.1f} seconds that its header promises"
        )
    return remarks


def _decoded(av: ModuleType, packets: Iterator, remarks: list[str]) -> Iterator:
    """The frames of packets, as far as they can be read; what cannot is added to `remarks`."""
    damaged = 0
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:
            remarks.append(f"what follows cannot be read ({error.strerror})")
            break
        if packet is None:
            break
        try:
            frames = packet.decode()
        except av.FFmpegError:
            damaged += 1
            continue
        for frame in frames:
            if _is_too_large(frame):  # the size may change on the way
                remarks.append(f"what follows has {frame.width} by {frame.height} pixels")
                packets = iter(())
                break
            yield frame
    if damaged:
        remarks.append(f"damaged parts that are left out: {damaged}")


def _is_too_large(shown: object) -> bool:
    return shown.width * shown.height > MOST_PIXELS


def _seconds(stream: object) -> float:
    """How long a stream is by the header; 0 if that does not say."""
    seconds = float(stream.duration * stream.time_base) if stream.duration else 0.0
    return max(seconds, stream.frames / float(stream.average_rate or np.inf))


def _upright(frame: object) -> np.ndarray:
    """A frame as RGB, turned counterclockwise as its display matrix says."""
    image = frame.to_ndarray(format="rgb24")
    quarters = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, quarters)) if quarters else image


def promised_frames(path: str | Path) -> int:
    """About how many frames a video has, by its header; 0 if that does not say."""
    try:
        file = open_regular(path, sys.maxsize)
    except FileError:  # a webcam's name among them
        return 0
    av = pyav()
    with file:
        try:
            with av.open(file, metadata_errors=_NAMES) as container:
                stream = container.streams.video[0]
                return stream.frames or round(_seconds(stream) * float(stream.average_rate or 0))
        except (IndexError, av.FFmpegError):
            return 0


def camera_frames(number: int, every: int = 1, seconds: float = math.inf) -> VideoFrames:
    """The frames of a webcam, until it ends; their times are those of their arrival.

    Args:
        number: of the camera, from 0.
        every: see `read_video`.
        seconds: after which no more are given.

    Raises:
        UserError: there is no such camera.
    """
    camera = cv2.VideoCapture(number)
    try:
        if not camera.isOpened():
            raise UserError(f"--camera={number}: no camera of this number can be opened")
        begin, count = monotonic(), 0
        while True:
            there, image = camera.read()
            timestamp = round(monotonic() - begin, 6)
            if not there or timestamp > seconds:
                return []
            count += 1
            if (count - 1) % every == 0:
                yield VideoFrame(count, timestamp, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    finally:
        camera.release()
