"""Pictures and videos with what was found drawn on them: boxes, bars, maps and the sentence.

They are drawn after all rows are there, from the rows and a file of maps: each picture and video is
read a second time, and nothing but one frame is in memory.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from fractions import Fraction
from functools import lru_cache
from itertools import chain, groupby
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vlfau_jax.data.raw.frames import read_picture
from vlfau_jax.data.raw.unreadable import Unreadable
from vlfau_jax.errors import printable
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.inference.pictures import Picture
from vlfau_jax.inference.video import VideoFrame, pyav, read_video

MAPS = "maps.bin"
_SMALLEST, _LARGEST = 480, 1440  # pixels of a drawn picture's shorter and longer side
_LINE = 1.3  # height of a line of text, in font sizes
_PANEL = 24  # width of the column of text, in font sizes
_MAP = 0.45  # opacity of a map where it is strongest
# One colour for each person: Okabe and Ito's, which colour-blind people tell apart.
_COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167))
_DIM, _BRIGHT, _BACK = (150, 150, 150), (235, 235, 235), (24, 24, 24)
_SENTENCE = 4  # lines of a sentence at most
_LONGEST_NAME = 200  # bytes of an input's name in an overlay's; file systems take 255 in all


class MapFile:
    """A file that has, for each row, where the face's crop lies and where the model looked there.

    Of a row without a prediction it has zeros. Rows have the same number of bytes, so that those
    after an interruption are cut off.
    """

    def __init__(self, path: Path, rows: int) -> None:
        """Opens it, with what it has of the first `rows` rows."""
        self._file = path.open("r+b" if path.exists() else "w+b")
        head = self._file.read(4)
        self._side = int.from_bytes(head) if len(head) == 4 else 0
        if self._side:
            self._file.truncate(4 + rows * self._size)
        self._file.seek(0, 2)
        self._pending = 0 if self._side else rows

    @property
    def _size(self) -> int:
        return 6 * 4 + self._side**2

    def add(self, alignment: np.ndarray | None, heat: np.ndarray | None) -> None:
        """Adds a row's.

        Args:
            alignment: float32 [2, 3], from positions in the picture to shares of the crop's side.
            heat: float [s, s], where the model looked in the crop; None without a prediction.
        """
        if heat is None or alignment is None:
            if not self._side:
                self._pending += 1  # its size is not known yet
                return
            self._file.write(bytes(self._size))
            return
        if not self._side:
            self._side = len(heat)
            self._file.write(self._side.to_bytes(4) + bytes(self._pending * self._size))
        scaled = 255 * heat / max(float(heat.max()), 1e-9)
        self._file.write(alignment.astype("<f4").tobytes() + scaled.astype(np.uint8).tobytes())

    def flush(self) -> None:
        """Writes what is in memory, so that it outlives a kill."""
        self._file.flush()

    def close(self) -> None:
        """Closes it."""
        self._file.close()


def read_maps(path: Path) -> Iterator[tuple[np.ndarray, np.ndarray] | None]:
    """What `MapFile` wrote for each row: alignment and heat uint8; then None without end."""
    with path.open("rb") as file:
        side = int.from_bytes(file.read(4))
        while side and len(record := file.read(24 + side**2)) == 24 + side**2:
            alignment = np.frombuffer(record[:24], "<f4").reshape(2, 3)
            heat = np.frombuffer(record[24:], np.uint8).reshape(side, side)
            yield (alignment, heat) if alignment.any() else None
    while True:
        yield None


def draw(
    picture: np.ndarray,
    rows: Sequence[Mapping[str, Any]],
    maps: Sequence[tuple[np.ndarray, np.ndarray] | None],
    units: int,
) -> np.ndarray:
    """A picture with its faces' boxes and maps, and beside it their units and sentences.

    Small pictures are enlarged and large ones reduced, so that the text can be read.

    Args:
        picture: RGB uint8 [h, w, 3].
        rows: of predictions.jsonl, those of this picture.
        maps: of each row, see `read_maps`.
        units: how many the model has; there is room for all of one face.

    Returns:
        RGB uint8; its size depends on the picture's and on `units` alone, and is even.
    """
    height, width = picture.shape[:2]
    scale = max(1.0, _SMALLEST / min(height, width))
    scale = min(scale, _LARGEST / max(height, width))
    size = [max(2, 2 * round(n * scale / 2)) for n in (width, height)]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    shown = cv2.resize(picture, size, interpolation=method)
    for one in maps:
        if one is not None:
            shown = _heated(shown, *one, scale)
    font = max(11, min(22, size[1] // 36))
    panel = 2 * round(_PANEL * font / 2)
    lines = 1 + units + _SENTENCE
    high = max(size[1], 2 * math.ceil((lines * _LINE + 1) * font / 2))
    canvas = Image.new("RGB", (size[0] + panel, high), _BACK)
    canvas.paste(Image.fromarray(shown), (0, 0))
    pen = ImageDraw.Draw(canvas)
    faces = [row for row in rows if row.get("box")]
    for row in faces:
        _box(pen, row, scale, font, size[0])
    _panel(pen, faces, (size[0] + font // 2, font // 2, size[0] + panel, high), font)
    return np.asarray(canvas)


def _heated(shown: np.ndarray, alignment: np.ndarray, heat: np.ndarray, scale: float) -> np.ndarray:
    """The picture with a map over the part that the crop shows."""
    side = len(heat)
    matrix = alignment.astype(np.float64) * side
    matrix[:, :2] /= scale
    size = shown.shape[1::-1]
    strength = cv2.warpAffine(
        heat.astype(np.float32) / 255,
        matrix,
        size,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
    )[..., None]
    colour = np.array([255, 70, 20], np.float32)
    mixed = shown * (1 - _MAP * strength) + colour * (_MAP * strength)
    return mixed.astype(np.uint8)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _colour(row: Mapping[str, Any]) -> tuple[int, int, int]:
    return _COLOURS[row["face_id"] % len(_COLOURS)] if row["success"] else _DIM


def _box(
    pen: ImageDraw.ImageDraw, row: Mapping[str, Any], scale: float, font: int, right: int
) -> None:
    """The face's box and above it its name, left of `right`, where the picture ends."""
    left, top, width, height = (side * scale for side in row["box"])
    pen.rectangle(
        (left, top, left + width, top + height), outline=_colour(row), width=max(2, font // 6)
    )
    label = _name(row)
    w = pen.textlength(label, font=_font(font)) + font // 2
    x, y = max(0.0, min(left, right - 1 - w)), max(0.0, top - _LINE * font)
    pen.rectangle((x, y, x + w, y + _LINE * font), fill=_colour(row))
    pen.text((x + font // 4, y), label, fill=(0, 0, 0), font=_font(font))


def _name(row: Mapping[str, Any]) -> str:
    confidence = row["confidence"]
    return f"{row['face_id']}" if confidence is None else f"{row['face_id']}  {confidence:.2f}"


def _panel(
    pen: ImageDraw.ImageDraw,
    faces: Sequence[Mapping[str, Any]],
    place: tuple[int, int, int, int],
    font: int,
) -> None:
    """A block for each face while there is room: its units as bars, then the sentence."""
    x, y, right, bottom = place
    step = _LINE * font
    several = len(faces) > 1
    for k, row in enumerate(faces):
        units = row["per_au"] or {}
        lines = [
            (int(au), unit["probability"], unit["active"])
            for au, unit in units.items()
            if unit["probability"] is not None and (unit["active"] or not several)
        ]
        columns = int((right - x) / (0.55 * font))
        text = row["sentence"] or ("" if row["success"] else f"not described: {row['reason']}")
        told = textwrap.wrap(printable(text), columns, max_lines=_SENTENCE, placeholder=" ...")
        if y + (1 + len(lines) + len(told)) * step > bottom and k:
            more = len(faces) - k
            pen.text((x, bottom - step), f"and {more} more", fill=_BRIGHT, font=_font(font))
            return
        pen.text((x, y), f"face {row['face_id']}", fill=_colour(row), font=_font(font))
        y += step
        for au, probability, active in lines:
            _bar(pen, (x, y, right), au, probability, active, _colour(row), font)
            y += step
        for one in told:
            pen.text((x, y), one, fill=_BRIGHT, font=_font(font))
            y += step
        y += step / 2


def _bar(
    pen: ImageDraw.ImageDraw,
    place: tuple[float, float, float],
    au: int,
    probability: float,
    active: bool,
    colour: tuple[int, int, int],
    font: int,
) -> None:
    x, y, right = place
    ink = _BRIGHT if active else _DIM
    pen.text((x, y), f"{au:>2} {ACTION_UNITS[au].name}", fill=ink, font=_font(font))
    begin, end = right - 8 * font, right - 3 * font
    pen.rectangle((begin, y + 0.25 * font, end, y + font), outline=_DIM)
    pen.rectangle(
        (begin, y + 0.25 * font, begin + probability * (end - begin), y + font),
        fill=colour if active else _DIM,
    )
    pen.text((end + font // 4, y), f"{probability:.2f}", fill=ink, font=_font(font))


def write_overlays(
    folder: Path,
    sources: Sequence[Picture],
    written: Callable[[Picture], str],
    rows: Iterable[Mapping[str, Any]],
    maps: Path,
    every: int,
    units: int,
) -> None:
    """Draws every picture and video into `folder`.

    Args:
        folder: created if it is missing. Its files are 000001_NAME.jpg and .mp4, numbered by input.
        sources: the inputs.
        written: gives the name that rows have of an input.
        rows: of predictions.jsonl, in the order of the inputs.
        maps: see `read_maps`.
        every: of a video's frames, see `read_video`.
        units: see `draw`.
    """
    folder.mkdir(exist_ok=True)
    grouped = groupby(zip(rows, read_maps(maps), strict=False), key=lambda pair: pair[0]["source"])
    of_source = next(grouped, None)
    for number, source in enumerate(sources, 1):
        stem = printable(source.path.stem).encode()[:_LONGEST_NAME].decode(errors="ignore")
        name = f"{number:06d}_{stem}"
        if of_source is None or of_source[0] != written(source):
            continue
        pairs = of_source[1]
        if source.video:
            _draw_video(folder / f"{name}.mp4", source, pairs, every, units)
        else:
            _draw_picture(folder / f"{name}.jpg", source, list(pairs), units)
        of_source = next(grouped, None)


_Pairs = Iterable[tuple[Mapping[str, Any], tuple[np.ndarray, np.ndarray] | None]]


def _draw_picture(path: Path, source: Picture, pairs: list, units: int) -> None:
    try:
        picture = read_picture(source.path)
    except Unreadable:
        return  # its row says so
    drawn = draw(picture, [row for row, _ in pairs], [one for _, one in pairs], units)
    with path.open("wb") as file:
        Image.fromarray(drawn).save(file, "JPEG", quality=92)


def _draw_video(path: Path, source: Picture, pairs: _Pairs, every: int, units: int) -> None:
    of_frame = groupby(pairs, key=lambda pair: pair[0]["frame"])
    with (
        closing(read_video(source.path, every)) as frames,
        path.open("wb") as file,
        suppress(Unreadable),  # its row says so
    ):
        _encode(file, _drawn(frames, of_frame, units))
    if not path.stat().st_size:
        path.unlink()


def _drawn(
    frames: Iterable[VideoFrame], of_frame: Iterator, units: int
) -> Iterator[tuple[float, np.ndarray]]:
    """Time and picture of each frame that has rows."""
    number, pairs = next(of_frame, (math.inf, ()))
    for frame in frames:
        if frame.number == number:
            here = list(pairs)
            rows, maps = [row for row, _ in here], [one for _, one in here]
            yield frame.timestamp, draw(frame.image, rows, maps, units)
            number, pairs = next(of_frame, (math.inf, ()))


def _encode(file: BinaryIO, pictures: Iterator[tuple[float, np.ndarray]]) -> None:
    """Writes an MP4 that keeps the frames' times."""
    av = pyav()
    first = next(pictures, None)
    if first is None:
        return
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    base = Fraction(1, 90_000)
    with av.open(file, "w", format="mp4") as container:
        # With B-frames x264's bytes differ from run to run.
        stream = container.add_stream(codec, rate=30, options={"bf": "0"})
        stream.height, stream.width = first[1].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = base
        last = -1
        for timestamp, picture in chain([first], pictures):
            last = _add(av, container, stream, timestamp, picture, last)
        for packet in stream.encode():
            container.mux(packet)


def _add(
    av: Any, container: Any, stream: Any, timestamp: float, picture: np.ndarray, last: int
) -> int:
    size = (stream.width, stream.height)
    if picture.shape[1::-1] != size:  # a video may change its size on the way
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    frame.time_base = stream.time_base
    frame.pts = max(last + 1, round(timestamp / stream.time_base))
    for packet in stream.encode(frame):
        container.mux(packet)
    return frame.pts
