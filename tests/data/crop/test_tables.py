"""Landmarks and boxes that another program or a person has found, read from CSV files."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlfau_jax.data.crop.box import box_in_table
from vlfau_jax.data.crop.landmarks import eyes_in_table
from vlfau_jax.data.crop.registry import crop_rule
from vlfau_jax.data.crop.tables import NotInTable
from vlfau_jax.data.raw.frames import Place
from vlfau_jax.errors import UserError

EYES = "frame,left_eye_x,left_eye_y,right_eye_x,right_eye_y\n"
OPENFACE = ["frame", " success", *(f" {axis}_{k}" for axis in "xy" for k in range(68))]


def test_landmarks_of_pictures_and_videos(tmp_path):
    (tmp_path / "landmarks.csv").write_text(EYES + "7,10,20,30,21\n12,1,2,3.5,2e0\n\n")
    found = eyes_in_table(Place(str(tmp_path / "F001_take2_007.jpg")))
    assert found.tolist() == [[10, 20], [30, 21]]
    assert eyes_in_table(Place(str(tmp_path / "12.png")))[1].tolist() == [3.5, 2]
    with pytest.raises(NotInTable):
        eyes_in_table(Place(str(tmp_path / "8.jpg")))
    # As OpenFace writes them: 1-based, spaces in the header, zeros where it failed.
    place = [*(float(k) for k in range(68)), *(float(2 * k) for k in range(68))]
    rows = [[1, 1, *place], [2, 0, *[0.0] * 136]]
    table = [OPENFACE, *rows]
    text = "\n".join(", ".join(map(str, row)) for row in table)
    (tmp_path / "film.csv").write_text("\ufeff" + text + "\n", encoding="utf-8")
    film = str(tmp_path / "film.avi")
    assert eyes_in_table(Place(film, 0)).tolist() == [[38.5, 77], [44.5, 89]]
    assert eyes_in_table(Place(film, 1)) is None
    with pytest.raises(NotInTable):
        eyes_in_table(Place(film, 2))


def test_the_eye_further_left_is_the_left_one(tmp_path):
    """A person's left eye is at the picture's right: both ways of naming them are in use."""
    (tmp_path / "landmarks.csv").write_text(EYES + "1,10,20,30,21\n2,30,21,10,20\n")
    one, other = (eyes_in_table(Place(str(tmp_path / f"{k}.jpg"))) for k in (1, 2))
    assert one.tolist() == other.tolist() == [[10, 20], [30, 21]]


def test_a_table_that_changes_is_read_again(tmp_path):
    place = Place(str(tmp_path / "7.jpg"))
    for x in (10, 11, 12):
        (tmp_path / "landmarks.csv").write_text(EYES + f"7,{x},20,30,21\n")
        os.utime(tmp_path / "landmarks.csv", ns=(x, x))
        assert eyes_in_table(place)[0, 0] == x


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"landmarks.csv:1: expected a header"),
        ("frame,x_36\n1,2\n", r":1: expected a header"),
        ("frame,frame," + EYES[6:] + "1,1,2,3,4,5\n", r":1: expected a header"),
        (EYES + "1,2,3,4\n", r":2: 4 cells"),
        (EYES + "1,2,3,9,5\n1.5,2,3,9,5\n", r":3: frame is '1.5'"),
        (EYES + "1,2,3,9,5\n1,2,3,9,5\n", r":3: frame 1 is listed twice"),
        (EYES + "1,2,three,9,5\n", r":2: left_eye_y is 'three'"),
        (EYES + "1,2,nan,9,5\n", r":2: left_eye_y is 'nan'"),
        (EYES + "1,2,1_0,9,5\n", r":2: left_eye_y is '1_0'"),
        (EYES + "1,2,1e9,9,5\n", r":2: left_eye_y is '1e9'"),
        (EYES + "1,2,3,2,3\n", r":2: both eyes at one position"),
        ("success," + EYES + "yes,1,2,3,9,5\n", r":2: success is 'yes'"),
        (EYES + '1,"2,3,9,5\n', r"landmarks.csv:2: not a readable table"),
    ],
)
def test_malformed_landmarks_are_reported_with_their_line(text, message, tmp_path):
    (tmp_path / "landmarks.csv").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        eyes_in_table(Place(str(tmp_path / "1.jpg")))
    assert "\n" not in str(error.value)


def test_pictures_that_have_no_table_or_no_number(tmp_path):
    with pytest.raises(UserError, match=r"landmarks\.csv: no such file"):
        eyes_in_table(Place(str(tmp_path / "1.jpg")))
    with pytest.raises(UserError, match=r"portrait\.jpg: no number"):
        eyes_in_table(Place(str(tmp_path / "portrait.jpg")))
    with pytest.raises(UserError, match=r"film\.csv: no such file"):
        eyes_in_table(Place(str(tmp_path / "film.mp4"), 0))


def test_boxes_are_named_by_source(tmp_path):
    (tmp_path / "raw").mkdir()
    table = tmp_path / "boxes.csv"
    table.write_text(
        "source,left,top,width,height,note\nF001/T1/2.jpg,1,2,30,40,a\nraw/v.avi#4,5,6,70,80,b\n"
        f"{tmp_path}/alone.jpg,7,8,9,10,\n"
    )
    root = str(tmp_path / "raw")
    found = box_in_table(Place(f"{root}/F001/T1/2.jpg"), str(table), root)
    assert found == (1, 2, 30, 40)
    with pytest.raises(NotInTable):
        box_in_table(Place(f"{root}/F001/T1/2.jpg"), str(table), "")  # not without the root
    assert box_in_table(Place(f"{root}/v.avi", 4), str(table), "") == (5, 6, 70, 80)
    with pytest.raises(NotInTable):
        box_in_table(Place(f"{root}/v.avi", 5), str(table), "")
    assert box_in_table(Place(f"{tmp_path}/alone.jpg"), str(table), root) == (7, 8, 9, 10)


def test_of_several_rows_the_one_below_the_root_counts(tmp_path):
    table, picture = tmp_path / "boxes.csv", Place(f"{tmp_path}/raw/2.jpg")
    rows = ["2.jpg,1,0,9,9", "raw/2.jpg,2,0,9,9", f"{tmp_path}/raw/2.jpg,3,0,9,9"]
    for k in range(3):
        text = "\n".join(["source,left,top,width,height", *reversed(rows[k:])])
        table.write_text(text)
        assert box_in_table(picture, str(table), f"{tmp_path}/raw")[0] == k + 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source,left,top,width\n", r"boxes.csv:1: expected a header"),
        ("source,left,top,width,height\n,1,2,3,4\n", r":2: source '' is empty"),
        ("source,left,top,width,height\na,1,2,3,4\na,1,2,3,4\n", r":3: source 'a' is listed twice"),
        ("source,left,top,width,height\na,1,2,0,4\n", r":2: a box of 0 by 4 pixels"),
        ("source,left,top,width,height\na,1,2,-,4\n", r":2: width is '-'"),
    ],
)
def test_malformed_boxes_are_reported_with_their_line(text, message, tmp_path):
    (tmp_path / "boxes.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        box_in_table(Place("a"), str(tmp_path / "boxes.csv"), "")


def test_a_table_of_other_pictures_is_refused(tmp_path):
    places = [Place(str(tmp_path / "raw" / name)) for name in ("1.jpg", "2.jpg")]
    root = str(tmp_path / "raw")
    for source, fits in (("raw/2.jpg", True), ("2.jpg", True), ("3.jpg", False), (None, False)):
        row = "" if source is None else f"{source},30,20,40,50\n"
        (tmp_path / "boxes.csv").write_text("source,left,top,width,height\n" + row)
        rule = crop_rule("box", 55, str(tmp_path / "boxes.csv"))
        if fits:
            rule.check_table(places, root)
            continue
        with pytest.raises(UserError, match=r"boxes\.csv: no row .* below .*raw .*; expected"):
            rule.check_table(places, root)
    crop_rule("cascade", 64).check_table(places, root)


def test_the_tables_that_crops_depend_on(tmp_path):
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("source,left,top,width,height\n")
    places = [Place("b/2.jpg"), Place("a/1.jpg"), Place("a/2.jpg"), Place("film.avi", 7)]
    beside = ["a/landmarks.csv", "b/landmarks.csv", "film.csv"]
    assert crop_rule("landmarks", 64).tables(iter(places)) == beside
    assert crop_rule("box", 64, str(boxes)).tables(iter(places)) == [str(boxes)]
    assert crop_rule("cascade", 64).tables(iter(places)) == []


CELL = st.sampled_from(
    ["frame", "success", "source", *EYES.strip().split(",")[1:], "left", "top", "width", "height"]
) | st.sampled_from(["0", "1", "2", "-3", "1e400", "nan", '"', "", "\x00", "é", "1.5", " 7 "])


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    head=st.sampled_from([EYES, "source,left,top,width,height\n", ""]),
    rows=st.lists(st.lists(CELL, max_size=6), max_size=4),
    tail=st.binary(max_size=8),
)
def test_any_table_is_read_or_reported_in_one_line(head, rows, tail, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    data = (head + "\n".join(",".join(row) for row in rows)).encode() + tail
    (folder / "landmarks.csv").write_bytes(data)
    for read in (
        lambda: eyes_in_table(Place(str(folder / "1.jpg"))),
        lambda: box_in_table(Place(str(folder / "1")), str(folder / "landmarks.csv"), ""),
    ):
        try:
            found = read()
        except NotInTable:
            continue
        except UserError as error:
            assert "\n" not in str(error)
        else:
            assert found is None or np.isfinite(found).all()
