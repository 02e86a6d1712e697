"""Tables that count frames from another number than the pictures: read right, refused or said."""

from pathlib import Path

import numpy as np
import pytest

from tests.data.tree_writers import DISFA_CODED, write_images, write_levels, write_video
from vlfau_jax.data.crop.landmarks import eyes_in_table
from vlfau_jax.data.crop.registry import crop_rule
from vlfau_jax.data.prepare.prepare import prepare
from vlfau_jax.data.raw.frame_numbers import shift
from vlfau_jax.data.raw.frames import Place
from vlfau_jax.errors import UserError

EYES = "frame,success,left_eye_x,left_eye_y,right_eye_x,right_eye_y\n"
LANDMARKS = crop_rule("landmarks", 32)
LENGTH = 6


def row(frame: int) -> str:
    return f"{frame},1,{10 + frame},20,{40 + frame},20\n"


def table(*frames: int) -> str:
    return EYES + "".join(map(row, frames))


@pytest.fixture
def film(tmp_path, rng) -> Path:
    write_video(tmp_path / "film.avi", LENGTH, rng)
    return tmp_path / "film.avi"


def places(film: Path) -> list[Place]:
    return [Place(str(film), position) for position in range(LENGTH)]


@pytest.mark.parametrize("begin", [0, 1])
def test_a_video_s_table_counts_from_0_or_1(film, begin):
    film.with_suffix(".csv").write_text(table(*range(begin, begin + LENGTH)))
    for place in places(film):
        assert eyes_in_table(place)[0, 0] == 10 + place.position + begin
    expected = [
        "film.csv (begins at frame 0, counted from 0): 0 rows without a frame, 0 without a row"
    ]
    assert LANDMARKS.check_table(places(film), str(film.parent)) == ([] if begin else expected)


@pytest.mark.parametrize(
    ("frames", "remark"),
    [
        ((1, 2, 3), ": 0 rows without a frame, 3 without a row"),
        (range(1, 11), ": 4 rows without a frame, 0 without a row"),
        (range(7), " (begins at frame 0, counted from 0): 1 rows without a frame, 0 without a row"),
        ((3, 4), " (begins at frame 3, counted from 1): 0 rows without a frame, 4 without a row"),
        ((), ": 0 rows without a frame, 6 without a row"),
    ],
)
def test_rows_and_frames_without_a_counterpart_are_counted(film, frames, remark):
    film.with_suffix(".csv").write_text(table(*frames))
    assert LANDMARKS.check_table(places(film), str(film.parent)) == [f"film.csv{remark}"]


@pytest.mark.parametrize(("pictures", "rows"), [((1, 2, 3), (0, 1, 2)), ((0, 1, 2), (1, 2, 3))])
def test_a_table_that_is_one_off_its_pictures_is_refused(tmp_path, rng, pictures, rows):
    """OpenFace counts the pictures of a folder from 1, whatever their names."""
    write_images(tmp_path, [f"{n:03}.jpg" for n in pictures], rng)
    of = [Place(str(tmp_path / f"{n:03}.jpg")) for n in pictures]
    (tmp_path / "landmarks.csv").write_text(table(*rows))
    with pytest.raises(UserError, match=r"landmarks\.csv: counts frames from . to ., but the pict"):
        LANDMARKS.check_table(of[:2], str(tmp_path))
    (tmp_path / "landmarks.csv").write_text(table(*pictures))
    assert LANDMARKS.check_table(of, str(tmp_path)) == []
    (tmp_path / "landmarks.csv").write_text(table(*pictures[1:], 99))
    assert LANDMARKS.check_table(of, str(tmp_path)) == [
        "landmarks.csv: 1 rows without a picture, 1 without a row"
    ]


def test_boxes_in_a_video_count_from_0(film, tmp_path):
    boxes = tmp_path / "boxes.csv"

    def check(*positions: int) -> list[str]:
        rows = [f"film.avi#{k},1,1,9,9" for k in positions]
        boxes.write_text("\n".join(["source,left,top,width,height", *rows]))
        return crop_rule("box", 32, str(boxes)).check_table(places(film), str(tmp_path))

    assert check(*range(LENGTH)) == check(2, 3) == []
    assert check(0, 6, 7) == ["boxes.csv: 2 rows beyond the 6 frames of film.avi"]
    with pytest.raises(UserError, match=r"rows of film\.avi are #1 to #6, of 6 frames; expected"):
        check(*range(1, LENGTH + 1))


def test_the_report_has_the_remarks(tmp_path, rng):
    (tmp_path / "raw/Videos_LeftCamera").mkdir(parents=True)
    video = tmp_path / "raw/Videos_LeftCamera/LeftVideoSN001_comp.avi"
    write_video(video, LENGTH, rng)
    for au in DISFA_CODED:
        path = tmp_path / f"raw/ActionUnit_Labels/SN001/SN001_au{au}.txt"
        write_levels(path, [0] * LENGTH)
    video.with_suffix(".csv").write_text(table(*range(8)))
    report = prepare("disfa", tmp_path / "raw", tmp_path / "set", crop="landmarks", workers=0)
    assert report.remarks["crop_table"] == [
        "Videos_LeftCamera/LeftVideoSN001_comp.csv (begins at frame 0, counted from 0): "
        "2 rows without a frame, 0 without a row"
    ]


def test_only_both_ends_show_a_shift():
    assert shift(range(5), range(1, 6)) == -1 and shift({2, 5}, (1, 2, 4)) == 1
    assert not any([shift(range(5), range(5)), shift((0, 4), range(5)), shift((), (1,))])
    assert shift(np.arange(4).tolist(), (3, 4, 5)) == 0
