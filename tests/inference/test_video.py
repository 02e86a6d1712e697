"""Videos are read upright, by their own time stamps, and a fault in one is one line."""

import errno
import io

import numpy as np
import pytest

from tests.inference.films import FILM, frames, turned, write_video
from vlfau_jax.data.raw.unreadable import Unreadable
from vlfau_jax.errors import UserError
from vlfau_jax.inference import video
from vlfau_jax.inference.video import camera_frames, promised_frames, read_video


def read(path, **how):
    """The frames, and the remarks."""
    reader, found = read_video(path, **how), []
    while True:
        try:
            found.append(next(reader))
        except StopIteration as end:
            return found, end.value


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("clip") / "a.mp4", frames(FILM[:9]))


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        ("mp4", "mpeg4"),
        ("mov", "mpeg4"),
        ("avi", "mjpeg"),
        ("webm", "libvpx"),
        ("mkv", "mpeg4"),
        ("gif", "gif"),
    ],
)
def test_every_container_gives_the_frames_and_their_times(suffix, codec, tmp_path):
    made = list(frames(FILM[:4]))
    path = write_video(tmp_path / f"a.{suffix}", made, codec)
    found, remarks = read(path)
    assert [frame.number for frame in found] == [1, 2, 3, 4] and remarks == []
    assert [frame.timestamp for frame in found] == [0.0, 0.1, 0.2, 0.3]
    for frame, picture in zip(found, made, strict=True):
        assert frame.image.shape == picture.shape and frame.image.dtype == np.uint8
        assert np.abs(frame.image.astype(int) - picture).mean() < (25 if suffix == "gif" else 6)
    assert promised_frames(path) in (0, 4)


def test_times_are_the_frames_own(tmp_path):
    times = [40, 80, 400, 1000]  # a phone's rate varies, and a cut video need not begin at 0
    found, _ = read(write_video(tmp_path / "a.mkv", frames(FILM[:4]), times=times))
    assert [frame.timestamp for frame in found] == [0.0, 0.04, 0.36, 0.96]


def test_a_title_that_is_no_utf8_is_no_fault(tmp_path):
    path = write_video(tmp_path / "a.avi", frames(FILM[:4]), "mjpeg", title="caf___")
    data = path.read_bytes()
    assert data.count(b"caf___") == 1
    path.write_bytes(data.replace(b"caf___", b"caf\xe9\xff\xe9"))
    assert promised_frames(path) == len(read(path)[0]) == 4


def test_rotation_is_obeyed(clip, tmp_path):
    (plain, *_), _ = read(clip)
    (upright, *_), _ = read(turned(clip, tmp_path / "t.mp4"))
    np.testing.assert_array_equal(upright.image, np.rot90(plain.image, -1))


def test_every_nth_frame_and_those_from_a_number_on(clip):
    whole, _ = read(clip)
    for every, first in ((1, 4), (2, 1), (4, 4), (4, 5), (4, 6), (20, 2)):
        some, _ = read(clip, every=every, first=first)
        wanted = [f.number for f in whole if f.number >= first and (f.number - 1) % every == 0]
        assert [frame.number for frame in some] == wanted
        for frame in some:
            np.testing.assert_array_equal(frame.image, whole[frame.number - 1].image)


def test_a_video_that_is_cut_short_gives_what_is_there_and_says_so(tmp_path):
    film = [cast for cast in FILM for _ in range(2)]
    whole = write_video(tmp_path / "a.avi", frames(film), "mjpeg")
    (tmp_path / "cut.avi").write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 5])
    found, remarks = read(tmp_path / "cut.avi")
    assert 10 <= len(found) < len(film)
    assert any("ends after" in remark for remark in remarks), remarks


def test_a_disk_that_fails_is_no_damaged_video(tmp_path, monkeypatch):
    """The run ends, and the next one may find what follows."""

    class Failing(io.FileIO):
        given = 0

        def read(self, size=-1):
            if self.given > 150_000:  # more than is read of the headers
                raise OSError(errno.EIO, "Input/output error")
            data = super().read(size)
            self.given += len(data)
            return data

    path = write_video(tmp_path / "a.avi", frames(FILM * 4), "mjpeg")
    monkeypatch.setattr(video, "open_regular", lambda path, limit: Failing(path))
    found = []
    with pytest.raises(OSError, match="Input/output error"):
        for frame in read_video(path):
            found.append(frame.number)
    assert 5 < len(found) < 4 * len(FILM)


def test_what_cannot_be_taken_apart_is_said_after_what_could(clip):
    av = video.pyav()
    remarks = []
    with av.open(str(clip)) as container:

        def packets():
            for number, packet in enumerate(container.demux(video=0)):
                if number == 6:
                    raise av.error.InvalidDataError(1, "Invalid data")
                yield packet

        found = list(video._decoded(av, packets(), remarks))
    assert 0 < len(found) <= 6
    assert remarks == ["what follows cannot be read (Invalid data)"]


def test_a_frame_that_grows_beyond_what_is_read_ends_the_video(clip, monkeypatch):
    reader = read_video(clip)
    next(reader)
    monkeypatch.setattr(video, "MOST_PIXELS", 100)
    with pytest.raises(StopIteration) as end:
        next(reader)
    assert end.value.value[0] == "what follows has 320 by 192 pixels"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"words, not a video", "no MP4, MOV"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isom", "no video that can be decoded"),
        (b"#EXTM3U\nfile:///etc/passwd\n", "no MP4, MOV"),
        ("half", "no video that can be decoded"),
    ],
    ids=["empty", "text", "stub", "playlist", "half"],
)
def test_what_is_no_video_is_one_line(content, reason, clip, tmp_path):
    if content == "half":
        content = clip.read_bytes()[: clip.stat().st_size // 2]  # its index is at the end
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(Unreadable) as error:
        list(read_video(tmp_path / "a.mp4"))
    assert error.value.detail.startswith(reason) and "\n" not in error.value.detail
    assert promised_frames(tmp_path / "a.mp4") == 0
    with pytest.raises(Unreadable):
        list(read_video(tmp_path / "gone.mp4"))


def test_without_pyav_a_line_names_the_command(clip, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(UserError, match='`pip install "av>=18"`'):
        list(read_video(clip))


def test_a_camera_gives_frames_until_it_ends(monkeypatch):
    class Camera:
        def __init__(self, number):
            self.left, self.released = (5 if number == 0 else 0), False

        def isOpened(self):
            return self.left > 0

        def read(self):
            self.left -= 1
            picture = np.zeros((4, 6, 3), np.uint8)
            picture[..., 0] = 200  # blue, to OpenCV
            return self.left >= 0, picture

        def release(self):
            self.released = True

    monkeypatch.setattr(video.cv2, "VideoCapture", Camera)
    found = list(camera_frames(0, every=2))
    assert [frame.number for frame in found] == [1, 3, 5]
    assert found[0].timestamp <= found[1].timestamp and found[0].image[0, 0].tolist() == [0, 0, 200]
    with pytest.raises(UserError, match="--camera=7: no camera"):
        list(camera_frames(7))
