"""Encoded pictures to RGB uint8: which files are pictures, and how each kind is read.

JPEG, PNG, BMP, TIFF, WebP, PPM, GIF, AVIF and HEIC, of at most `MOST_PIXELS`, which are known from
the header before anything is decoded. Whatever a picture's mode is, RGB of eight bits comes out:

- Grey becomes three equal channels. CMYK and palettes are converted; transparency is dropped.
- Of more than eight bits the upper eight are kept. How many bits there are is taken from the
  brightest value: the fewest of 8, 10, 12, 14 and 16 that hold it. So a 12-bit camera's picture in
  a 16-bit file is not black; and a 16-bit picture that uses a part of its range is stretched.
- Where EXIF data or the container state how the camera was held, the picture is turned upright.
- Of several pictures in a file (animations, bursts, pages), the first or primary one is read.
"""

from __future__ import annotations

import io
import logging
import re
import threading
import warnings
from contextlib import suppress
from typing import Literal

import cv2
import numpy as np
import pi_heif
from PIL import Image, ImageOps

from vlfau_jax.data.raw import jpeg
from vlfau_jax.data.raw.unreadable import Unreadable

# Pillow logs some errors that it raises, too; without a handler they would be on the screen.
logging.getLogger("PIL").addHandler(logging.NullHandler())

FORMATS = "JPEG, PNG, BMP, TIFF, WebP, PPM, GIF, AVIF or HEIC"
MOST_PIXELS = 64_000_000  # a header of 600 bytes may claim pixels for many gigabytes of memory
HEAD = 32  # bytes from which `kind_of` tells what a file is

Kind = Literal["JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM", "GIF", "AVIF", "HEIF", "video"]

_DEPTHS = (8, 10, 12, 14, 16)
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
_BITS_PER_SAMPLE = 258  # a TIFF's tag
_PPM = re.compile(rb"P[1-6](\s|#[^\n]*\n)+(\d|#)")
# The first bytes of AVI, Matroska, MPEG, ASF and Ogg files, and the second word of MP4 and MOV.
# FFmpeg would follow a playlist in a file called .avi to any other file.
_VIDEOS = (b"\x1aE\xdf\xa3", b"\0\0\1\xba", b"0&\xb2u", b"OggS")
_ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_MOST_BOXES = 10_000
_PIXEL_BOXES = (b"ftyp", b"meta", b"mdat", b"moov")
_AVIF = {b"avif", b"avis"}
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2"}


class _Unwarned:
    """Ignores warnings while any thread is in this context.

    `warnings.catch_warnings` alone is one thread's: the filters belong to all, and of two that
    overlap, the first to leave would take them from the other, which would then restore its own.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._outer: warnings.catch_warnings

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._outer = warnings.catch_warnings(action="ignore")
                self._outer.__enter__()
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._outer.__exit__(*error)


_unwarned = _Unwarned()


def kind_of(head: bytes) -> Kind | None:
    """What a file is by its first `HEAD` bytes; None if neither a picture nor a video."""
    if head.startswith(jpeg.START):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith((b"II*\0", b"MM\0*")):
        return "TIFF"
    if head.startswith(b"RIFF"):
        return "WEBP" if head[8:12] == b"WEBP" else "video" if head[8:12] == b"AVI " else None
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if _PPM.match(head):
        return "PPM"
    if head.startswith(_VIDEOS):
        return "video"
    return _kind_of_atom(head)


def _kind_of_atom(head: bytes) -> Kind | None:
    if head[4:8] != b"ftyp":
        return "video" if head[4:8] in _ATOMS else None
    size = min(int.from_bytes(head[:4]), len(head))
    brands = {head[8:12], *(head[k : k + 4] for k in range(16, size, 4))}
    if brands & _AVIF:
        return "AVIF"
    return "HEIF" if brands & _HEIF else "video"


def decode_picture(data: bytes) -> np.ndarray:
    """Decodes an encoded picture to RGB uint8 [h, w, 3].

    Raises:
        Unreadable: it is none, is damaged or cut, or claims more than is read.
    """
    kind = kind_of(data[:HEAD])
    if kind in (None, "video"):
        raise Unreadable("image_unreadable", f"a {kind}" if kind else f"no {FORMATS}")
    with _unwarned:  # about tags; what matters is an error or seen in pixels
        if kind in ("AVIF", "HEIF"):
            _check_boxes(data, kind)
        if kind == "JPEG":
            return _upright_rgb(jpeg.decode_jpeg(data, MOST_PIXELS))
        if kind == "HEIF":
            return _decode_heif(data)
        picture = _decode_by_pillow(data, kind)
        # OpenCV forgets how an AVIF is turned, and darkens what is transparent in a TIFF.
        if kind in ("GIF", "AVIF") or (kind == "TIFF" and not _is_deep(picture)):
            return _upright_rgb(picture)
        del picture  # it is as large as the next one
    return _decode_by_opencv(data)


def _decode_by_pillow(data: bytes, kind: Kind) -> Image.Image:
    """Decodes to the end: OpenCV fills up truncated files, or prints errors, by its version.

    Not so WebP files, of which it reads whole ones only, and for which Pillow takes five times the
    picture's memory: of those the header is read.
    """
    # On damaged bytes Pillow's decoders raise all kinds of exceptions, struct.error, MemoryError
    # and zlib.error among them: each means a picture that is not whole.
    try:
        # Named, because Pillow would hand a PostScript file to Ghostscript, a program that it runs.
        picture = Image.open(io.BytesIO(data), formats=(kind,))
        _check_pixels(*picture.size)
        if kind == "PNG":  # checksums, about which OpenCV's libpng would print a line
            picture.verify()
            picture = Image.open(io.BytesIO(data), formats=(kind,))
        if kind != "WEBP":
            picture.load()
    except Unreadable:
        raise
    except Exception as error:
        raise _damaged(kind, error) from error
    return picture


def _check_pixels(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise Unreadable(
            "image_too_large", f"{width} by {height} pixels; at most {MOST_PIXELS} are read"
        )


def _damaged(kind: Kind, error: object) -> Unreadable:
    reason = " ".join(str(error).split())
    return Unreadable("image_unreadable", f"no {kind} that can be decoded ({reason})")


def _check_boxes(data: bytes, kind: Kind) -> None:
    """Checks that the boxes of which the file consists (ISO/IEC 14496-12) end where it does.

    libheif fills the missing tiles of a cut file, and phones write tiles.
    """
    at = 0
    for _ in range(_MOST_BOXES):
        if at >= len(data):
            return
        size = int.from_bytes(data[at : at + 4])
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16])
        elif size == 0:  # the last one may say so
            return
        if at + max(size, 8) > len(data) and data[at + 4 : at + 8] in _PIXEL_BOXES:
            raise _damaged(kind, "it ends early")
        if size < 8:  # no box: what a phone appends
            return
        at += size
    raise _damaged(kind, f"it has more than {_MOST_BOXES} parts")


def _decode_heif(data: bytes) -> np.ndarray:
    try:
        # Headers only; pixels are decoded when they are asked for, turned as the file says.
        pictures = pi_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)
        primary = pictures[pictures.primary_index]
        _check_pixels(*primary.size)
        picture = primary.to_pillow()
        if picture.mode.startswith("I"):  # grey of more bits, which comes scaled to 16
            picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
        return np.asarray(picture.convert("RGB"))
    except Unreadable:
        raise
    except Exception as error:
        raise _damaged("HEIF", error) from error


def _is_deep(picture: Image.Image) -> bool:
    """Whether a TIFF has more than eight bits a channel, of which Pillow would not give all."""
    return max(picture.tag_v2.get(_BITS_PER_SAMPLE, (1,))) > 8


def _upright_rgb(picture: Image.Image) -> np.ndarray:
    if "exif" in picture.info:
        with suppress(Exception):  # EXIF data that are damaged say nothing
            ImageOps.exif_transpose(picture, in_place=True)
    try:
        return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))
    except ValueError as error:
        raise Unreadable("image_unreadable", f"of the mode {picture.mode}, not read") from error


def _decode_by_opencv(data: bytes) -> np.ndarray:
    try:
        # Not into RGB: of a TIFF of sixteen bits OpenCV 4.14 then gives what was in the memory.
        picture = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
        )
    except cv2.error:  # such as a pixel format that OpenCV does not know
        picture = None
    if picture is None or picture.ndim != 3 or picture.dtype not in (np.uint8, np.uint16):
        raise Unreadable("image_unreadable", "a kind of picture that is not read (floating point)")
    if picture.dtype != np.uint8:
        picture = _eight_bits(picture)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _eight_bits(picture: np.ndarray) -> np.ndarray:
    """The upper eight of the bits that a picture uses; see the module."""
    needed = int(picture.max()).bit_length()
    depth = next(depth for depth in _DEPTHS if depth >= needed)
    return (picture >> (depth - 8)).astype(np.uint8)
