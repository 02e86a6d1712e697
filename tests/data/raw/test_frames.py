import errno
import io
import math
import os
import re
import struct
import warnings
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image

from vlfau_jax.data.raw.frames import (
    MOST_PIXELS,
    decode_image,
    encode_jpeg,
    read_frames,
    read_image,
    source_of,
    video_length,
)
from vlfau_jax.data.raw.integrity import DROP_REASONS
from vlfau_jax.data.raw.tree import ImageFiles, Video
from vlfau_jax.errors import UserError

FRAMES = 12


@pytest.fixture
def picture(rng) -> np.ndarray:
    return cv2.GaussianBlur(rng.integers(0, 256, (90, 120, 3), np.uint8), (9, 9), 3)


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> bytes:
    """An AVI whose frame k is a grey of 20 k."""
    path = tmp_path_factory.mktemp("film") / "film.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (32, 24))
    for k in range(FRAMES):
        video.write(np.full((24, 32, 3), 20 * k, np.uint8))
    video.release()
    return path.read_bytes()


def written(folder, data: bytes, name: str = "film.avi") -> str:
    (folder / name).write_bytes(data)
    return str(folder / name)


def chunks(film: bytes) -> list[int]:
    """Where each frame begins."""
    return [found.start() for found in re.finditer(b"00dc", film)]


def greys(path: str, *positions: int) -> list[int | None]:
    frames = read_frames(Video(path, positions))
    return [None if isinstance(frame, str) else round(frame.mean() / 20) for frame in frames]


def test_truncated_and_foreign_bytes_are_not_pictures(picture, capfd):
    data = encode_jpeg(picture)
    assert decode_image(data).shape == picture.shape
    assert decode_image(data + b"\0\0").shape == picture.shape  # some writers pad their files
    for broken in (data[:-2], data[: len(data) // 2], data[:20], b"", b"no picture"):
        assert decode_image(broken) is None
    assert capfd.readouterr().err == ""  # they are counted, not complained about


def encoded(image: np.ndarray | Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(
        buffer, kind, **options
    )
    return buffer.getvalue()


def test_every_kind_of_picture_comes_as_rgb_of_eight_bits(picture):
    assert np.array_equal(decode_image(encoded(picture, "png")), picture)
    gray = picture[..., 0]
    three = np.repeat(gray[..., None], 3, 2)
    assert np.array_equal(decode_image(encoded(gray, "png")), three)
    deep = gray.astype(np.uint16) * 256 + 77
    assert np.array_equal(decode_image(encoded(deep, "png")), three)
    seen_through = np.dstack([picture, np.full(gray.shape, 3, np.uint8)])
    assert np.array_equal(decode_image(encoded(seen_through, "png")), picture)
    cmyk = decode_image(encoded(Image.fromarray(picture).convert("CMYK"), "jpeg", quality=95))
    assert cmyk.shape == picture.shape and np.abs(cmyk.astype(int) - picture).mean() < 4
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    assert decode_image(encode_jpeg(red))[16, 16].tolist()[0] > 240


@pytest.mark.parametrize("kind", ["jpeg2000", "tga", "pcx", "sgi", "dds", "ico"])
def test_other_formats_are_not_pictures(kind, picture):
    assert decode_image(encoded(picture, kind)) is None


def test_no_program_is_run_on_a_picture(monkeypatch):
    """Pillow gives PostScript to Ghostscript, whatever the file is called."""
    runs = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given: runs.append(given))
    assert decode_image(encoded(np.zeros((8, 8, 3), np.uint8), "eps")) is None
    assert not runs


@pytest.mark.parametrize("error", [struct.error, zlib.error, MemoryError, KeyError, IndexError])
def test_whatever_a_decoder_stumbles_over_is_a_picture_that_cannot_be_read(
    error, picture, monkeypatch
):
    def load(_):
        raise error

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    assert decode_image(encoded(picture, "png")) is None


def claiming(width: int, height: int, kind: str) -> bytes:
    """A small file of black pixels whose header claims other numbers of them."""
    data = bytearray(encoded(np.zeros((32, 32, 3), np.uint8), kind))
    if kind == "jpeg":
        at = data.find(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", height, width)
    else:
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


@pytest.mark.parametrize("kind", ["jpeg", "png"])
@pytest.mark.parametrize("size", [(32000, 32000), (9500, 9500), (8001, 8000), (1, 65535)])
def test_a_header_that_claims_too_many_pixels_is_all_that_is_read(size, kind, monkeypatch):
    data, decoded = claiming(*size, kind), []

    def decode(*_):
        decoded.append(size)
        raise OSError

    monkeypatch.setattr(cv2, "imdecode", decode)
    for cls in ("JpegImagePlugin.JpegImageFile", "PngImagePlugin.PngImageFile"):
        monkeypatch.setattr(f"PIL.{cls}.load", decode)
    assert decode_image(data) is None
    assert bool(decoded) == (math.prod(size) <= MOST_PIXELS)


def test_a_jpeg_with_bytes_between_its_segments_is_read_by_the_longer_way(picture, monkeypatch):
    data = encode_jpeg(picture)
    filled = data[:2] + b"\xff" + data[2:]  # fill bytes are allowed before a marker
    assert np.array_equal(decode_image(filled), decode_image(data))
    huge = claiming(32000, 32000, "jpeg")
    monkeypatch.setattr(cv2, "imdecode", None)
    assert decode_image(huge[:2] + b"\xff" + huge[2:]) is None
    # A marker without a length: who reads one finds another frame header, of 32 by 32 pixels.
    without = huge[:2] + b"\xff\x01" + huge[2:-2]
    small = b"\xff\xc0\0\x11\x08\0\x20\0\x20"
    assert decode_image(without.ljust(4 + 0xFFE0, b"\0") + small + b"\xff\xd9") is None


def test_nothing_is_remarked_on_a_large_picture():
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        assert decode_image(claiming(9500, 9500, "png")) is None
    assert not remarks


def test_a_camera_held_on_its_side_is_turned_upright(picture):
    exif = Image.Exif()
    exif[0x0112] = 6  # the picture's top is at its right
    turned = decode_image(encoded(np.rot90(picture).copy(), "jpeg", quality=98, exif=exif))
    assert turned.shape == picture.shape
    assert np.abs(turned.astype(int) - picture).mean() < 3


def test_files_that_cannot_be_read_are_none_and_keep_their_place(picture, tmp_path):
    good = written(tmp_path, encode_jpeg(picture), "1.jpg")
    (tmp_path / "2.jpg").mkdir()
    os.symlink(tmp_path / "gone", tmp_path / "3.jpg")
    paths = (good, *(str(tmp_path / f"{k}.jpg") for k in (2, 3, 4)), good)
    found = [isinstance(frame, str) for frame in read_frames(ImageFiles(paths))]
    assert found == [False, True, True, True, False]
    with pytest.raises(OSError, match=r"4\.jpg"):
        read_image(paths[3])


def test_every_lost_picture_has_its_own_reason(picture, tmp_path, monkeypatch):
    data = encode_jpeg(picture)
    os.mkfifo(tmp_path / "pipe.jpg")
    with (tmp_path / "sparse.jpg").open("wb") as file:
        file.truncate(10 << 30)
    paths = (
        written(tmp_path, data, "whole.jpg"),
        written(tmp_path, data[:-2], "short.jpg"),
        written(tmp_path, data[: len(data) // 2] + data[-2:], "hollow.jpg"),
        written(tmp_path, claiming(9500, 9500, "png"), "large.png"),
        *(str(tmp_path / name) for name in ("pipe.jpg", "sparse.jpg")),
    )
    first, *losses = read_frames(ImageFiles(paths))
    assert first.shape == picture.shape
    assert losses == [
        "image_unreadable",
        "image_incomplete",
        "image_too_large",
        "image_unreadable",
        "image_too_large",
    ]
    assert set(losses) <= DROP_REASONS.keys()


def test_a_pipe_or_a_device_is_no_video(tmp_path):
    os.mkfifo(tmp_path / "pipe.avi")
    for path in (tmp_path / "pipe.avi", "/dev/zero", tmp_path):
        with pytest.raises(UserError, match="expected a video"):
            video_length(path)


def test_a_video_of_too_large_frames_is_refused(film, tmp_path, monkeypatch):
    monkeypatch.setattr("vlfau_jax.data.raw.frames.MOST_PIXELS", 32 * 24 - 1)
    with pytest.raises(UserError, match="not a video that can be read"):
        video_length(written(tmp_path, film))


def test_a_video_gives_the_frames_asked_for_and_none_after_its_end(film, tmp_path):
    path = written(tmp_path, film)
    assert video_length(path) == FRAMES
    assert greys(path, *range(FRAMES)) == list(range(FRAMES))
    assert greys(path, 0, 3, 4, 9) == [0, 3, 4, 9]
    assert greys(path, 11, 12, 40) == [11, None, None]


def test_a_videos_frames_are_rgb(tmp_path):
    path = str(tmp_path / "red.avi")
    video = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 20, (32, 24))
    video.write(np.full((24, 32, 3), (0, 0, 255), np.uint8))  # OpenCV writes BGR
    video.release()
    (frame,) = read_frames(Video(path, (0,)))
    assert frame.dtype == np.uint8 and frame[12, 16, 0] > 240 and frame[12, 16, 2] < 20


def test_a_video_that_has_lost_a_frame_in_between_is_refused(film, tmp_path):
    """FFmpeg skips a chunk it does not know: every later frame would take another one's label."""
    chunk = chunks(film)[2]
    path = written(tmp_path, film[:chunk] + b"zzzz" + film[chunk + 4 :])
    with pytest.raises(UserError, match=r"11 frames that decode, its header promises 12") as error:
        greys(path, *range(FRAMES))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("positions", [(0,), (0, 1), range(5), range(3, 11), ()], ids=str)
def test_a_lost_frame_is_noticed_wherever_the_labels_stop(positions, film, tmp_path):
    chunk = chunks(film)[7]
    path = written(tmp_path, film[:chunk] + b"JUNK" + film[chunk + 4 :])
    frames = read_frames(Video(path, tuple(positions)))
    for _ in positions:
        assert not isinstance(next(frames), str)
    with pytest.raises(UserError, match="11 frames that decode, its header promises 12"):
        next(frames)
    whole = written(tmp_path, film, "whole.avi")
    assert len(greys(whole, *positions)) == len(positions)


def test_a_video_that_ends_early_loses_its_end_only(film, tmp_path):
    path = written(tmp_path, film[: chunks(film)[8]])
    found = greys(path, *range(FRAMES))
    kept = found.index(None)
    assert kept in (7, 8) and found == [*range(kept), *[None] * (FRAMES - kept)]


@pytest.mark.parametrize(
    "data", [b"", b"RIFF", b"text", b"#EXTM3U\n/etc/passwd\n", b"\xff\xd8\xff"], ids=repr
)
def test_what_is_no_video_is_reported_in_one_line(data, tmp_path, capfd):
    path = written(tmp_path, data, "5.avi")
    for read in (video_length, lambda path: greys(path, 0)):
        with pytest.raises(UserError, match=r"5\.avi: .*expected") as error:
            read(path)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="No such file"):
        video_length(tmp_path / "gone.avi")
    assert capfd.readouterr().err == ""


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    cut=st.integers(0, 1 << 30),
    at=st.integers(0, 1 << 30),
    patch=st.binary(max_size=40),
    kind=st.sampled_from(["jpeg", "png", "bmp", "tiff", "webp", "film"]),
)
def test_damaged_bytes_give_frames_or_one_line(cut, at, patch, kind, film, tmp_path_factory):
    ramp = np.add.outer(np.arange(20), np.arange(24)).astype(np.uint8)
    data = film if kind == "film" else encoded(np.dstack([ramp] * 3), kind)
    at %= len(data)
    data = (data[:at] + patch + data[at + len(patch) :])[: cut % (2 * len(data)) or 1]
    if kind != "film":
        image = decode_image(data)
        assert image is None or (image.dtype == np.uint8 and image.shape[2:] == (3,))
        return
    path = written(tmp_path_factory.getbasetemp(), data, "damaged.avi")
    try:
        frames = list(read_frames(Video(path, tuple(range(FRAMES)))))
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert len(frames) == FRAMES


def test_sources_are_named_below_the_root():
    pictures = ImageFiles(("/raw/F001/T1/2.jpg", "/raw/F001/T1/10.jpg"))
    assert source_of("/raw", pictures, 1) == "F001/T1/10.jpg"
    assert source_of("/raw", Video("/raw/v/a.avi", (0, 7)), 1) == "v/a.avi#7"
    with pytest.raises(ValueError, match="subpath"):
        source_of("/other", pictures, 0)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_what_the_process_has_no_more_of_is_no_fault_of_a_picture(tmp_path, monkeypatch, code):
    path = tmp_path / "1.jpg"
    path.write_bytes(encode_jpeg(np.zeros((8, 8, 3), np.uint8)))

    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match=os.strerror(code)):
        read_image(path)
    with pytest.raises(OSError, match=os.strerror(code)):
        list(read_frames(ImageFiles((str(path),))))
