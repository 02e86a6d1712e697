"""JPEG files, strictly: how much work one is before it is decoded, and whether it is all there.

libjpeg gives a picture for a file that has lost part of its scans, with grey in place of the rest,
and what it says about that reaches neither OpenCV's callers nor Pillow's. Here such a file is
noticed by decoding it twice, the second time with bytes inserted where each stretch of scan data
ends. A decoder that has had all it needs skips them to the next marker; one that still wants data
takes them for that, and the two pictures differ. The second decoding is only done where the first
shows grey in its last corner, or where data may be missing without that: with restart markers and
in files of several scans. Data that are lost in the middle of a scan are noticed because it then
runs short of them at its end. A hole that was filled with zeros can leave too many instead: there
the last bytes are replaced, and must make a difference. Single bytes that are wrong may go
unnoticed.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from PIL import Image, JpegImagePlugin

from vlfau_jax.data.raw.unreadable import Unreadable

START = b"\xff\xd8\xff"
MOST_SEGMENTS = 10_000
MOST_MARKERS = 2_000_000  # twice as many as 64 megapixels can be divided by
MOST_SCANS = 1_000
# Every scan of a progressive file passes over the whole picture: 40 megapixels in ten scans, which
# is what encoders write, take about a second. 263 kB can hold scans for many.
MOST_SCANNED_PIXELS = 400_000_000

_FILL = re.compile(rb"\xff*")
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}  # Huffman and arithmetic coding; no lossless ones
_PROGRESSIVE, _ARITHMETIC = {0xC2, 0xCA}, {0xC9, 0xCA}
_RESTARTS = range(0xD0, 0xD8)
# No 0xFF, no repetition: whatever the tables are, it does not decode as grey.
_INSERTED = bytes((k * k * 37 + k * 101 + 29) % 255 for k in range(96))
_HOLE = bytes(64)
_GREY = 128  # what libjpeg gives where it has no data: all coefficients 0
_ROWS = 512
_CHUNK = 1 << 24


@dataclass
class _Frame:
    """What the frame header states, and which coefficients the scans have brought so far."""

    kind: int
    width: int
    height: int
    sampling: dict[int, tuple[int, int]]
    missing: dict[int, np.ndarray]


@dataclass
class _Layout:
    """The parts of a file that decide how it is read.

    Attributes:
        frame: its header.
        scans: how many there are.
        stretches: of scan data, from the first byte to the marker that ends it.
        restarts: whether markers divide the scans.
        end: the position after the end of the picture; what follows is not of it.
    """

    frame: _Frame | None = None
    scans: int = 0
    stretches: list[tuple[int, int]] = field(default_factory=list)
    restarts: bool = False
    end: int = 0


def decode_jpeg(data: bytes, most_pixels: int) -> Image.Image:
    """Decodes a JPEG of at most `most_pixels`, as Pillow's mode L, RGB or CMYK.

    Raises:
        Unreadable: it is none, has lost data, or is too much work.
    """
    layout = _read_layout(data, most_pixels)
    picture = _load(data[: layout.end])
    if layout.frame.kind in _ARITHMETIC:
        return picture  # its encoders leave out zeros at the end: nothing can be told from that
    if layout.scans > 1 or layout.restarts or _ends_grey(picture):
        ends = [0, *(stop for _, stop in layout.stretches), layout.end]
        parts = (data[a:b] for a, b in pairwise(ends))
        if not _equal(picture, _load(_INSERTED.join(parts))):
            raise _incomplete()
    holed = [part for part in layout.stretches if data.find(_HOLE, *part) >= 0]
    # Flat pictures can have such data, too, but need all of them; if there is more than one value.
    if holed and any(low < high for low, high in np.atleast_2d(picture.getextrema())):
        changed = bytearray(data[: layout.end])
        for first, stop in holed:
            replaced = max(first, stop - len(_INSERTED))
            changed[replaced:stop] = _INSERTED[: stop - replaced]
        if _equal(picture, _load(bytes(changed))):
            raise _incomplete()
    return picture


def _incomplete() -> Unreadable:
    return Unreadable("image_incomplete", "a JPEG that has lost part of its scan data")


def _load(data: bytes) -> Image.Image:
    # Not Image.open, which would take some for a series of pictures and read them all.
    try:
        picture = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
        picture.load()
    except Exception as error:  # Pillow raises all kinds of them on damaged bytes
        raise Unreadable("image_unreadable", f"no JPEG that can be decoded ({error})") from error
    return picture


def _ends_grey(picture: Image.Image) -> bool:
    last = picture.getpixel((picture.width - 1, picture.height - 1))
    return picture.mode == "CMYK" or last in (_GREY, (_GREY,) * 3)


def _equal(a: Image.Image, b: Image.Image) -> bool:
    """Whether two pictures have the same pixels; in strips, because both are large already."""
    strips = ((0, y, a.width, min(a.height, y + _ROWS)) for y in range(0, a.height, _ROWS))
    return all(a.crop(box).tobytes() == b.crop(box).tobytes() for box in strips)


def _read_layout(data: bytes, most_pixels: int) -> _Layout:
    """Walks through the segments (ITU-T T.81, annex B) to the end of the picture."""
    places = _markers(data)
    kinds = np.frombuffer(data, np.uint8)[places + 1]
    is_restart = (kinds >= _RESTARTS.start) & (kinds < _RESTARTS.stop)
    others = places[~is_restart]
    layout, interval, at = _Layout(), 0, 2
    for _ in range(MOST_SEGMENTS):
        if data[at : at + 1] not in (b"\xff", b""):
            raise Unreadable("image_unreadable", "a damaged JPEG: no segment where one belongs")
        at = _FILL.match(data, at).end()
        if at >= len(data):
            raise _ends_early()
        kind = data[at]
        if kind == 0xD9:
            layout.end = at + 1
            _check_complete(layout)
            return layout
        segment = data[at + 3 : at + 1 + int.from_bytes(data[at + 1 : at + 3])]
        if kind < 0xC0 or kind in _RESTARTS or kind == 0xD8:
            raise Unreadable("image_unreadable", f"a damaged JPEG: marker {kind:02x} in its header")
        length = int.from_bytes(data[at + 1 : at + 3])
        at += 1 + length
        if at >= len(data):
            raise _ends_early()
        if length < 2:
            raise Unreadable("image_unreadable", "a damaged JPEG: a segment without a length")
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            if layout.frame is not None:
                raise Unreadable("image_unreadable", "a damaged JPEG: two frame headers")
            layout.frame = _read_frame(kind, segment, most_pixels)
        elif kind == 0xDD:
            interval = int.from_bytes(segment[:2])
        elif kind == 0xDA:
            inside = _read_scan(layout, segment, interval)
            k = np.searchsorted(others, at)
            if k == len(others):
                raise _ends_early()
            stop = int(others[k])
            marks = slice(*np.searchsorted(places, (at, stop)))
            _check_restarts(kinds[marks], inside)
            layout.stretches += pairwise([at, *map(int, places[marks]), stop])
            layout.restarts |= inside > 0
            at = stop
    raise Unreadable("image_too_large", f"a JPEG of more than {MOST_SEGMENTS} segments")


def _markers(data: bytes) -> np.ndarray:
    """The positions of all markers that may be in scan data, int64 [k].

    There 0xFF of the data is followed by 0, and markers may be preceded by more of 0xFF.
    """
    codes, found, count = np.frombuffer(data, np.uint8), [], 0
    for start in range(0, max(1, len(data) - 1), _CHUNK):
        part = codes[start : start + _CHUNK + 1]
        after = part[1:]
        found.append(start + np.flatnonzero((part[:-1] == 0xFF) & (after != 0) & (after != 0xFF)))
        count += len(found[-1])
        if count > MOST_MARKERS:
            raise Unreadable("image_too_large", f"a JPEG of more than {MOST_MARKERS} markers")
    return np.concatenate(found)


def _ends_early() -> Unreadable:
    return Unreadable("image_unreadable", "a JPEG that ends early")


def _read_frame(kind: int, segment: bytes, most_pixels: int) -> _Frame:
    if kind not in _FRAMES:
        raise Unreadable("image_unreadable", "a JPEG of a kind that is not read (lossless)")
    height, width = (int.from_bytes(segment[k : k + 2]) for k in (1, 3))
    count = segment[5] if len(segment) > 5 else 0
    parts = [segment[k : k + 3] for k in range(6, 6 + 3 * count, 3)]
    sampling = {part[0]: (part[1] >> 4, part[1] & 15) for part in parts if len(part) == 3}
    fits = len(sampling) == count and all(1 <= a <= 4 and 1 <= b <= 4 for a, b in sampling.values())
    if not (height and width and count and fits):
        raise Unreadable("image_unreadable", "a damaged JPEG: its frame header")
    if height * width > most_pixels:
        raise Unreadable(
            "image_too_large", f"{width} by {height} pixels; at most {most_pixels} are read"
        )
    return _Frame(kind, width, height, sampling, {name: np.ones(64, bool) for name in sampling})


def _read_scan(layout: _Layout, segment: bytes, interval: int) -> int:
    """Notes what a scan brings; returns the number of restart markers that belong into it."""
    frame, count = layout.frame, segment[0] if segment else 0
    names = segment[1 : 1 + 2 * count : 2]
    known = frame is not None and set(names) <= frame.sampling.keys()
    if not known or not 1 <= count <= 4 or len(segment) < 4 + 2 * count:
        raise Unreadable("image_unreadable", "a damaged JPEG: the header of a scan")
    layout.scans += 1
    pixels = layout.scans * frame.width * frame.height
    if layout.scans > MOST_SCANS or (layout.scans > 1 and pixels > MOST_SCANNED_PIXELS):
        raise Unreadable(
            "image_too_large",
            f"more than {layout.scans - 1} scans of {frame.width} by {frame.height} pixels",
        )
    first, last, bits = segment[1 + 2 * count : 4 + 2 * count]
    if frame.kind not in _PROGRESSIVE:
        first, last, bits = 0, 63, 0
    if not bits & 15:  # no later scan refines them
        for name in names:
            frame.missing[name][first : last + 1] = False
    return (_units(frame, names) - 1) // interval if interval else 0


def _units(frame: _Frame, names: bytes) -> int:
    """How many units of coding (MCUs, A.2) a scan of these components has."""
    widest = max(h for h, _ in frame.sampling.values())
    tallest = max(v for _, v in frame.sampling.values())
    across, down = 8 * widest, 8 * tallest
    width, height = frame.width, frame.height
    if len(names) == 1:  # then a unit is one block of the component
        h, v = frame.sampling[names[0]]
        width, height, across, down = -(-width * h // widest), -(-height * v // tallest), 8, 8
    return -(-width // across) * -(-height // down)


def _check_restarts(kinds: np.ndarray, expected: int) -> None:
    """Restart markers count from 0 to 7 again and again: one that is missing is noticed."""
    if len(kinds) < expected or (kinds != 0xD0 + np.arange(len(kinds)) % 8).any():
        raise _incomplete()


def _check_complete(layout: _Layout) -> None:
    if layout.frame is None or not layout.scans:
        raise Unreadable("image_unreadable", "a JPEG without a picture")
    if any(missing.any() for missing in layout.frame.missing.values()):
        raise Unreadable("image_incomplete", "a JPEG that has lost some of its scans")
