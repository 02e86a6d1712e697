"""Other tools' tables: their columns, whose frame a row is of, and what is passed over."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlfau_jax.errors import UserError
from vlfau_jax.studies.tool_columns import read_columns
from vlfau_jax.studies.tool_tables import FramesTested, Reading, find_tables, read_tool

PEOPLE = ("F001", "F004", "F010", "M003")
KEYS = tuple(("F004", 1, frame) for frame in (1, 2, 3, 4))


def of_set(keys=KEYS, people=PEOPLE, offset=0):
    return FramesTested(keys, people, offset)


def read(tmp_path, text, name="F004_T1.csv", keys=KEYS, offset=0, **reading):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return read_tool("tool", [path], of_set(keys, offset=offset), Reading(**reading))


OPENFACE = """frame, face_id, timestamp, confidence, success, AU01_r, AU12_r, AU01_c, AU12_c, AU45_c
1, 0, 0.000, 0.98, 1, 0.2, 2.5, 0.00, 1.00, 0.00
2, 0, 0.033, 0.98, 1, 3.1, 0.0, 1.00, 0.00, 1.00
3, 0, 0.067, 0.00, 0, 0.0, 0.0, 0.00, 0.00, 0.00
5, 0, 0.100, 0.98, 1, 0.0, 0.0, 0.00, 0.00, 0.00
"""


def test_openface_with_spaces_in_its_header(tmp_path):
    found = read(tmp_path, OPENFACE)
    assert set(found.aus) >= {1, 12}
    assert found.columns[1] == "AU01_c (occurrence)"
    assert found.answered.tolist() == [True, True, False, False]
    assert found.active[:2, [found.aus.index(1), found.aus.index(12)]].tolist() == [[0, 1], [1, 0]]
    assert np.isnan(found.scores).all()
    assert found.reasons == {"success is 0": 1, "not in the table": 1}
    assert found.passed_over == {"rows of frames that are not tested": 1}


def test_intensities_alone_are_cut_and_give_a_ranking(tmp_path):
    text = "frame,AU12_r\n1,1.9\n2,2.0\n3,5\n4,\n"
    found = read(tmp_path, text)
    assert found.active[:, 0].tolist() == [False, True, True, False]
    assert found.scores[:3, 0].tolist() == pytest.approx([0.38, 0.4, 1.0])
    assert found.known[:3, 0].all()
    assert found.reasons == {"all units are blank": 1}
    assert read(tmp_path, text, intensity=1.5).active[:, 0].tolist() == [True, True, True, False]


PY_FEAT = """,FaceRectX,FaceRectY,FaceRectWidth,FaceRectHeight,FaceScore,AU01,AU12,input,frame
0,1,1,50,50,0.9,0.7,0.2,/data/F004/T1/0001.jpg,0
1,1,1,60,60,0.9,0.1,0.9,/data/F004/T1/0001.jpg,0
2,1,1,90,90,0.4,0.9,0.9,/data/F004/T1/0001.jpg,0
3,1,1,50,50,0.9,0.5,0.500001,/data/F004/T1/0002.jpg,1
4,1,1,50,50,0.9,0.5,0.5,/data/F010/T1/0002.jpg,2
5,1,1,50,50,0.9,0.5,0.5,/data/nobody/0002.jpg,3
6,1,1,50,50,0.9,0.5,0.5,/data/F004/T1/poster.jpg,3
"""


def test_py_feat_by_path_with_several_faces_in_a_picture(tmp_path):
    found = read(tmp_path, PY_FEAT, "fex.csv")
    assert found.aus == (1, 12)
    assert found.active[:2].tolist() == [[False, True], [False, True]]
    assert found.scores[:2].tolist() == [[0.1, 0.9], [0.5, 0.500001]]
    assert found.passed_over == {
        "rows of other faces in a frame": 2,
        "rows of people who are not tested": 1,
        "rows whose path names nobody of the set": 1,
        "rows of pictures without a number": 1,
    }


def test_a_pictures_number_follows_the_sets_frame_offset(tmp_path):
    text = "image,AU1\nF004/T1/0.png,1\nF004/T1/2.png,0\n"
    found = read(tmp_path, text, "x.csv", offset=-1)
    assert found.answered.tolist() == [True, False, True, False]


LIBREFACE = """,frame_idx,frame_time_in_ms,au_1,au_12,au_1_intensity,au_12_intensity
0,0,0.0,1,0,1.2,0.1
1,1,33.3,0,1,0.4,3.0
"""


def test_libreface_counts_from_zero(tmp_path):
    found = read(tmp_path, LIBREFACE, "videos/LeftVideoF004_comp.csv")
    assert found.columns == {1: "au_1 (probability)", 12: "au_12 (probability)"}
    assert found.answered.tolist() == [True, True, False, False]
    assert found.active[:2].tolist() == [[True, False], [False, True]]
    assert np.isnan(found.scores).all(), "0 and 1 alone are no ranking"
    assert "counted from 0, as its lowest number says" in found.numbering


def test_a_tool_counts_its_frames_one_way(tmp_path):
    keys = tuple((person, 1, frame) for person in ("F004", "M003") for frame in (1, 2))
    (tmp_path / "F004.csv").write_text("frame,AU1\n0,1\n1,0\n")
    (tmp_path / "M003.csv").write_text("frame,AU1\n1,1\n")  # no face in its frame 0
    found = read_tool("x", find_tables(str(tmp_path))[1], of_set(keys), Reading())
    assert found.answered.tolist() == [True, True, False, True]
    assert found.numbering.startswith("frames are counted from 0")


@pytest.mark.parametrize(
    ("people", "path", "whose"),
    [
        (("anna", "d"), "/data/hanna/video/3.jpg", None),
        (("anna", "d"), "/data/anna/video/3.jpg", "anna"),
        (("1", "2"), "/out/frame_1.jpg", None),
        (("1", "2"), "/out/0002.jpg", None),
        (("1", "2"), "/out/person12/0002.jpg", None),
        (("1", "2"), "/out/2/0001.jpg", "2"),
        (("SN001", "SN010"), "C:\\disfa\\LeftVideoSN010_comp\\1.jpg", "SN010"),
        (("F001", "F004"), "/flat/F004_T1_3.jpg", "F004"),
    ],
)
def test_a_path_names_a_person_by_a_whole_word_or_a_code(tmp_path, people, path, whose):
    table = tmp_path / "table.csv"
    table.write_text(f"image,AU1\n{path},1\n")
    keys = tuple((person, 1, frame) for person in people for frame in (1, 2, 3))
    try:
        found = read_tool("x", [table], of_set(keys, people), Reading())
    except UserError as error:
        assert whose is None and "1 rows whose path names nobody of the set" in str(error)
    else:
        (row,) = np.flatnonzero(found.answered)
        assert keys[row][0] == whose


def test_frames_from_says_otherwise(tmp_path):
    assert read(tmp_path, LIBREFACE, "F004.csv", frames_from=1).answered.tolist() == [1, 0, 0, 0]
    text = "frame,AU1\n1,1\n2,1\n"
    assert read(tmp_path, text).answered.tolist() == [1, 1, 0, 0]
    assert read(tmp_path, text, frames_from=0).answered.tolist() == [0, 1, 1, 0]


def test_labels_that_have_a_frame_0_need_no_shift(tmp_path):
    keys = tuple(("F004", 1, frame) for frame in (0, 1))
    found = read(tmp_path, "frame,AU1\n0,1\n1,0\n", keys=keys)
    assert found.answered.all() and found.active[:, 0].tolist() == [True, False]
    assert found.numbering == "frames have the labels' numbers"


def test_a_folder_is_one_tool_and_tasks_are_told_apart(tmp_path):
    keys = (("F004", 1, 1), ("F004", 2, 1), ("M003", 1, 1))
    for name, state in (("F004_T1", 1), ("F004_T2", 0), ("M003_T1", 1)):
        (tmp_path / f"{name}.csv").write_text(f"frame,AU12_c\n1,{state}\n")
    name, tables = find_tables(f"mine={tmp_path}")
    found = read_tool(name, tables, of_set(keys), Reading())
    assert (name, found.active[:, 0].tolist()) == ("mine", [True, False, True])
    (tmp_path / "F004_T1.csv").rename(tmp_path / "F004.csv")
    found = read_tool(name, find_tables(f"mine={tmp_path}")[1], of_set(keys), Reading())
    assert found.passed_over == {"rows that name no task, of people with several": 1}


def test_columns_subject_task_and_frame(tmp_path):
    text = "subject,task,frame,AU12\nF004,T1,1.0,1\nF004,1,2,0\nX,1,2,0\n"
    found = read(tmp_path, text, "all.csv")
    assert found.answered.tolist() == [True, True, False, False]
    assert found.passed_over == {"rows of people who are not of the set": 1}


def test_a_table_for_each_picture_is_named_after_it(tmp_path):
    for number, state in (("0002", 1), ("3", 0)):
        path = tmp_path / "F004" / "T1" / f"{number}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"face, confidence, AU12_c\n0, 0.5, {1 - state}\n1, 0.9, {state}\n")
    found = read_tool("openface", find_tables(f"x={tmp_path}")[1], of_set(), Reading())
    assert found.answered.tolist() == [False, True, True, False]
    assert found.active[1:3, 0].tolist() == [True, False]


def test_rows_below_a_confidence_are_no_answer(tmp_path):
    found = read(
        tmp_path, OPENFACE.replace("2, 0, 0.033, 0.98", "2, 0, 0.033, 0.6"), min_confidence=0.7
    )
    assert found.reasons["confidence below 0.7"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frame,smile\n1,1\n", ":1: no action unit"),
        ("AU01_c\n1\n", ":1: nothing says which frame"),
        ("frame,AU1,AU01\n1,1,1\n", ":1: AU1 and AU01 both state AU1"),
        ("frame,frame,AU1\n1,1,1\n", ":1: column frame comes twice"),
        ("frame,AU1\n1,yes\n", ":2: AU1 is 'yes'; expected a number"),
        ("frame,AU1\n1,3.2\n", ":2: AU1 is 3.2; expected a probability, 0 to 1 (an intensity is"),
        ("frame,AU1_c\n1,0.5\n", ":2: AU1_c is 0.5; expected 0 or 1"),
        ("frame,AU1_r\n1,7\n", ":2: AU1_r is 7; expected an intensity, 0 to 5"),
        ("frame,AU1\nx,1\n", ":2: frame is 'x'; expected a number"),
        ("frame,AU1\n1\n", ":2: 1 cells; the header has 2"),
        ("frame,AU1\n9,1\n", "no row is of a tested frame (1 rows of frames that are not tested)"),
        ("frame,AU1\n", "no row is of a tested frame (no rows)"),
        ("", ":1: no action unit"),
    ],
)
def test_a_table_that_cannot_be_compared_is_one_line(tmp_path, text, message):
    with pytest.raises(UserError) as error:
        read(tmp_path, text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_places_without_a_table_are_one_line(tmp_path):
    for argument, message in (
        ("nowhere.csv", "no such table"),
        (f"x={tmp_path}", "a folder without a .csv"),
    ):
        with pytest.raises(UserError, match=message):
            find_tables(argument)
    (tmp_path / "a.csv").write_text("frame,AU1\n1,1\n")
    (tmp_path / "b.csv").write_text("frame,AU2\n1,1\n")
    with pytest.raises(UserError, match="has other units than the tables before"):
        read_tool("x", find_tables(str(tmp_path))[1], of_set(), Reading())


@given(st.lists(st.text(max_size=12), min_size=1, max_size=6))
def test_any_header_is_read_or_refused_in_one_line(header):
    try:
        columns = read_columns("table.csv", header)
    except UserError as error:
        assert str(error).startswith("table.csv:1: ")
    else:
        assert columns.units
