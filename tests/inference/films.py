"""Videos of rendered people, with who is where in which frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import cv2
import numpy as np

from vlfau_jax.data.synthetic.dynamics import BP4D_BEHAVIOUR
from vlfau_jax.data.synthetic.identity import draw_identity
from vlfau_jax.data.synthetic.scenes import draw_sequence

WIDTH, HEIGHT, SIDE = 320, 192, 128
Cast = dict[str, tuple[int, int]]  # person -> left and top of the head's square

# What is in each frame: two people, a cut to one, nobody, the two crossing, the other alone.
FILM: list[Cast] = [
    *({"F001": (10 + k, 40), "F002": (180 - k, 30)} for k in range(6)),
    *({"F002": (100, 40 + k)} for k in range(4)),
    *({} for _ in range(3)),
    *({"F002": (10 + 16 * k, 30), "F001": (170 - 16 * k, 50)} for k in range(11)),
    *({"F001": (20, 40)} for _ in range(3)),
]
CROWD: list[Cast] = [
    {f"F{p:03}": (10 + 105 * k + frame, 30 + 9 * (p % 2)) for k, p in enumerate((3, 4, 5, 6, 7))}
    for frame in range(4)
]


@lru_cache(maxsize=64)
def head(person: str, frame: int, side: int = SIDE) -> np.ndarray:
    """A rendered head, RGB uint8 [side, side, 3]."""
    number = int(person[1:])
    scene = draw_sequence(BP4D_BEHAVIOUR, (0, number), 8)
    noise = np.random.default_rng((number, frame % 8))
    return scene.picture(draw_identity(0, person), frame % 8, side, noise)


def frames(
    film: Sequence[Cast], width: int = WIDTH, height: int = HEIGHT, side: int = SIDE
) -> Iterator[np.ndarray]:
    """The pictures of a film, RGB uint8 [height, width, 3]; those named first are behind."""
    for number, cast in enumerate(film):
        picture = np.full((height, width, 3), (96, 110, 104), np.uint8)
        for person, (left, top) in cast.items():
            picture[top : top + side, left : left + side] = head(person, number // 3, side)
        yield picture


def write_video(
    path: Path,
    pictures: Iterable[np.ndarray],
    codec: str = "mpeg4",
    times: Sequence[int] | None = None,
    rate: int = 10,
    title: str = "",
) -> Path:
    """Writes a video; `times` are the frames' time stamps in milliseconds."""
    with av.open(str(path), "w") as container:
        if title:
            container.metadata["title"] = title
        stream = container.add_stream(codec, rate=rate)
        stream.pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        if times is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if codec == "mpeg4":
            stream.bit_rate = 4_000_000
        for number, picture in enumerate(pictures):
            if not number:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            for packet in stream.encode(frame.reformat(format=stream.pix_fmt)):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def turned(video: Path, out: Path) -> Path:
    """An MP4 as a phone writes one that was held upright: to be turned clockwise by a quarter.

    The matrix of its track header (ISO/IEC 14496-12, 8.3.2) is replaced.
    """
    data = video.read_bytes()
    plain = b"".join(n.to_bytes(4) for n in (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000))
    quarter = b"".join(
        (n & 0xFFFFFFFF).to_bytes(4) for n in (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    )
    at = data.index(plain, data.index(b"tkhd"))
    out.write_bytes(data[:at] + quarter + data[at + len(plain) :])
    return out


def who(record: dict, film: Sequence[Cast], side: int = SIDE) -> str | None:
    """The person of a film in whose square the middle of a record's box is; the front one."""
    left, top, width, height = record["box"]
    x, y = left + width / 2, top + height / 2
    for person, (x0, y0) in reversed(film[record["frame"] - 1].items()):
        if x0 <= x < x0 + side and y0 <= y < y0 + side:
            return person
    return None


def shrunk(picture: np.ndarray, share: float) -> np.ndarray:
    """A smaller picture."""
    return cv2.resize(picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
