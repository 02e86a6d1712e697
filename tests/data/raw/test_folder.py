"""A data set of one's own: labels equal the table, and a doubtful cell stops with its line."""

import csv
import unicodedata
from pathlib import Path

import pytest

from tests.data.tree_writers import facts_of, write_table
from vlfau_jax.data.raw.folder import index_folder
from vlfau_jax.data.raw.integrity_text import format_report
from vlfau_jax.errors import UserError

ROWS = [
    "image,subject,task,frame,sex,fold,AU12,AU01,AU12_intensity,AU26_intensity",
    "anna/b.jpg,anna,1,30,F,1,1,0,4,",
    "anna/a.png,anna,1,20,F,1,,1,,5",
    "anna/c.jpg,anna,2,1,F,1,0,,0,0",
    "bob 1.jpg,bob,1,7,male,3,1,1,,",
]


def codes(raw: Path, image: str) -> list[list[int]]:
    """Reads the table in another way: occurrence, intensity of 1, 12 and 26."""
    with (raw / "labels.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row["image"] == image)
    names = [["AU01", "AU12", "AU26"], ["AU01_intensity", "AU12_intensity", "AU26_intensity"]]
    return [[int(row.get(name) or -1) for name in group] for group in names]


def test_labels_equal_the_table_cell_by_cell(tmp_path):
    raw = write_table(tmp_path / "mine", ROWS)
    tree = index_folder(raw)
    assert tree.aus == tree.benchmark == (1, 12, 26)
    assert [(s.name, s.frames, s.sex) for s in tree.sequences] == [
        ("anna_T1", (20, 30), "female"),
        ("anna_T2", (1,), "female"),
        ("bob_T1", (7,), "male"),
    ]
    assert tree.folds == {"anna": 1, "bob": 3}
    for sequence in tree.sequences:
        for i, path in enumerate(sequence.pictures.paths):
            image = Path(path).relative_to(raw).as_posix()
            found = [sequence.occurrence[i].tolist(), sequence.intensity[i].tolist()]
            assert found == codes(raw, image)
    report = tree.report
    assert report.layout == report.dataset == "folder" and not report.comparisons
    assert facts_of(report, "anna", 1).unknown_labels == 2 and report.lost == 0
    assert not any(report.remarks.values())
    assert all(sequence.recording for sequence in tree.sequences)


def test_only_image_subject_and_a_unit_are_needed(tmp_path):
    raw = write_table(
        tmp_path, ["image,subject,AU4", "b.jpg,x,1", "a.jpg,x,0", "c.jpg,y,", "d.jpg,x,1"]
    )
    tree = index_folder(raw)
    assert [(s.name, s.frames, s.sex) for s in tree.sequences] == [
        ("x_T1", (1, 2, 3), ""),
        ("y_T1", (1,), ""),
    ]
    assert [Path(p).name for p in tree.sequences[0].pictures.paths] == ["b.jpg", "a.jpg", "d.jpg"]
    assert tree.sequences[0].occurrence.tolist() == [[1], [0], [1]]
    assert tree.sequences[1].occurrence.tolist() == [[-1]] and tree.folds == {}
    assert not any(sequence.recording for sequence in tree.sequences)  # stills: no `frame`


def test_absent_pictures_are_lost_by_name(tmp_path):
    raw = write_table(tmp_path, ROWS)
    (raw / "anna/a.png").unlink()
    (raw / "bob 1.jpg").unlink()
    tree = index_folder(raw)
    assert tree.report.losses["image_missing"] == ["anna/a.png", "bob 1.jpg"]
    assert tree.report.remarks["subject_unusable"] == ["bob"]
    assert [s.frames for s in tree.sequences] == [(30,), (1,)]
    assert tree.sequences[0].occurrence.tolist() == [[0, 1, -1]]  # of b.jpg, the one that is left
    assert tree.sequences[0].intensity.tolist() == [[-1, 4, -1]]


def test_contradictions_of_one_row_are_counted(tmp_path):
    rows = ["image,subject,AU4,AU4_intensity", "a.jpg,x,0,1", "b.jpg,x,1,0", "c.jpg,x,1,4"]
    tree = index_folder(write_table(tmp_path, rows))
    assert tree.report.remarks["contradiction"] == [
        "2 of 3 frames of AU4 of x_T1: 1 absent at level 1, 0 above, 1 present at level 0"
    ]


HEAD = "image,subject,AU1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: empty; expected a header"),
        ("image,AU1\n", ":1: no column subject"),
        ("subject,AU1\n", ":1: no column image"),
        ("image,subject\n", ":1: no action unit"),
        ("image,subject,AU1,AU01\n", ":1: column AU01 comes twice"),
        ("image,subject,AU1,image\n", ":1: column image comes twice"),
        ("image,subject,AU3\n", ":1: AU3 is no unit that has a description; expected .* 1, 2, 4"),
        ("image,subject,AU1,AU_2\n", ":1: unknown column 'AU_2'; did you mean AU2"),
        ("image,subject,AU12,AU12_intensty\n", "did you mean AU12_intensity"),
        ("image,subject,AU1,gender\n", ":1: unknown column 'gender'; expected image, subject, ta"),
        ("image,subject,AU1,imgae\n", "did you mean image"),
        (",image,subject,AU1\n", ":1: unknown column ''; .*pandas .*index=False"),
        (f"{HEAD}\na.jpg,x\n", ":2: 2 cells; the header has 3"),
        (f"{HEAD}\na.jpg,x,2\n", ":2: AU1 is '2'; expected one of 0, 1, an empty cell"),
        (f"{HEAD}\na.jpg,x,1\nb.jpg,x,0.5\n", ":3: AU1 is '0.5'; expected one of 0, 1, an empty"),
        (f"{HEAD}\na.jpg,x,2.0\n", ":2: AU1 is '2'"),
        (f"{HEAD}\na.jpg,x,unknown\n", ":2: AU1 is 'unknown'"),
        ("image;subject;AU1\na.jpg;x\n", ":2: 2 cells; the header has 3"),
        ("image;subject;AU1\na.jpg;x;0,5\n", ":2: AU1 is '0,5'"),
        ("image|subject|AU1\n", r":1: unknown column 'image\|subject\|AU1'; expected image"),
        ("image,subject,AU1_intensity\na.jpg,x,6\n", ":2: AU1_intensity is '6'"),
        (f"{HEAD}\na.jpg,x,1\na.jpg,x,1\n", ":3: image 'a.jpg' is in line 2 too"),
        (f"{HEAD}\n../a.jpg,x,1\n", ":2: image '../a.jpg'; expected a path below the folder"),
        (f"{HEAD}\n/a.jpg,x,1\n", "expected a path below"),
        (f"{HEAD}\nb/../../a.jpg,x,1\n", "expected a path below"),
        (f"{HEAD}\nb//a.jpg,x,1\n", "expected a path below"),
        (f"{HEAD}\n./a.jpg,x,1\n", "expected a path below"),
        (f"{HEAD}\nb\\a.jpg,x,1\n", ":2: image .* has a backslash; write / between"),
        (f"{HEAD}\n,x,1\n", "expected a path below"),
        (f'{HEAD}\n"a\nb.jpg",x,1\n', "expected a path below"),
        (f"{HEAD}\na.jpg,x y,1\n", ":2: subject 'x y'; expected .* letters"),
        (f"{HEAD}\na.jpg,Jörg,1\n", ":2: subject 'Jörg'; expected .* letters A-Z and a-z, digits"),
        (f"{HEAD}\na.jpg,all,1\n", ":2: subject 'all'"),
        (f"{HEAD}\na.jpg,,1\n", ":2: subject ''"),
        ("image,subject,task,AU1\na.jpg,x,T1,1\n", ":2: task 'T1' is not a number"),
        ("image,subject,frame,AU1\na.jpg,x,,1\n", ":2: frame '' is not a number"),
        (
            "image,subject,frame,AU1\na.jpg,x,3,1\nb.jpg,y,3,1\nc.jpg,x,3,1\n",
            ":4: frame 3 comes twice",
        ),
        ("image,subject,frame,AU1\na.jpg,x,1.000,1\n", ":2: frame '1.000' is not a number"),
        ("image,subject,sex,AU1\na.jpg,x,w,1\n", ":2: sex is 'w'; expected one of female, male, f"),
        (
            "image,subject,sex,AU1\na.jpg,x,F,1\nb.jpg,x,,1\n",
            ":3: sex of x is '' and was 'female'",
        ),
        ("image,subject,fold,AU1\na.jpg,x,4,1\n", ":2: fold is '4'; expected one of 1, 2, 3"),
        ("image,subject,fold,AU1\na.jpg,x,,1\n", ":2: fold is ''"),
        ("image,subject,fold,AU1\na.jpg,x,nan,1\n", ":2: fold is 'nan'"),
        ("image,subject,fold,AU1\na.jpg,x,1,1\nb.jpg,x,2,1\n", ":3: fold of x is 2 and was 1"),
        (f"{HEAD}\n", ":2: no row; expected one for each picture"),
        (
            f"{HEAD}\nb.jpg,x,1\n",
            "both an image and a label; .* image b.jpg and the labels labels.csv$",
        ),
    ],
)
def test_a_doubtful_table_stops(tmp_path, text, message):
    write_table(tmp_path, [HEAD, "a.jpg,x,1"])
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        index_folder(tmp_path)
    assert "\n" not in str(error.value)


def test_what_pandas_makes_of_whole_numbers_and_blanks_is_understood(tmp_path):
    raw = write_table(
        tmp_path,
        [
            "image,subject,task,frame,sex,fold,AU4,AU4_intensity",
            "a.jpg,x,2.0,7.0,m,3.0,1.0,nan",
            "b.jpg,x,2.0,8.0,Male,3,0.0,0.0",
            "c.jpg,x,2.0,9.0,M,3,NaN,5.0",
            "d.jpg,y,1.0,1.0,f,1.0,NA,3",
            "e.jpg,z,1.0,1.0,nan,1.0,nan,",
        ],
    )
    tree = index_folder(raw)
    assert [(s.name, s.frames, s.sex) for s in tree.sequences] == [
        ("x_T2", (7, 8, 9), "male"),
        ("y_T1", (1,), "female"),
        ("z_T1", (1,), ""),
    ]
    assert tree.folds == {"x": 3, "y": 1, "z": 1}
    assert [s.occurrence.ravel().tolist() for s in tree.sequences] == [[1, 0, -1], [-1], [-1]]
    assert [s.intensity.ravel().tolist() for s in tree.sequences] == [[-1, 0, 5], [3], [-1]]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_the_header_decides_the_separator(tmp_path, separator):
    raw = write_table(tmp_path, ROWS)
    expected = index_folder(raw)
    table = raw / "labels.csv"
    table.write_text(table.read_text().replace(",", separator))
    found = index_folder(raw)
    for one, other in zip(found.sequences, expected.sequences, strict=True):
        assert one.pictures == other.pictures
        assert one.occurrence.tolist() == other.occurrence.tolist()
        assert one.intensity.tolist() == other.intensity.tolist()


@pytest.mark.parametrize(
    ("encoding", "found"), [("utf-16", "UTF-16"), ("latin-1", "another encoding")]
)
def test_another_encoding_is_named(tmp_path, encoding, found):
    write_table(tmp_path, ROWS)
    text = "\n".join(ROWS).replace("bob 1", "jörg")
    (tmp_path / "labels.csv").write_bytes(text.encode(encoding))
    with pytest.raises(UserError, match=rf"labels\.csv:?5?: {found}.*save it as UTF-8"):
        index_folder(tmp_path)


def test_a_picture_under_another_spelling_is_lost_and_explained(tmp_path):
    names = ["jörg/1.jpg", "Anna/2.JPG", "gone.jpg", "there.jpg"]
    rows = ["image,subject,AU4", *(f"{name},x,1" for name in names)]
    raw = write_table(tmp_path, rows)
    (raw / "gone.jpg").unlink()
    (raw / "jörg").rename(raw / unicodedata.normalize("NFD", "jörg"))
    (raw / "Anna").rename(raw / "anna")
    report = index_folder(raw).report
    assert report.losses["image_missing"] == names[:3]
    assert report.remarks["name_differs"] == [
        "jörg/1.jpg: its file has the same letters in another Unicode form (NFC, NFD)",
        "Anna/2.JPG: its file is anna/2.JPG",
    ]
    assert "    Anna/2.JPG: its file is anna/2.JPG\n" in format_report(report)
    (raw / "there.jpg").unlink()
    with pytest.raises(UserError, match=r"image jörg/1\.jpg and .*in another Unicode form"):
        index_folder(raw)


def test_a_folder_without_a_table_is_named(tmp_path):
    with pytest.raises(UserError, match=r"holds no labels\.csv"):
        index_folder(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        index_folder(tmp_path / "nothing")
