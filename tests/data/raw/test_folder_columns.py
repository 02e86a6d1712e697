"""labels.csv as other programs write it, and with other codes for unknown."""

import re
from pathlib import Path

import pytest

from vlfau_jax.data.raw.folder import index_folder
from vlfau_jax.data.raw.label_options import LabelOptions
from vlfau_jax.data.raw.tree import RawTree
from vlfau_jax.errors import UserError


def write(root: Path, text: str) -> Path:
    """A table, and the pictures a/1.jpg to a/3.jpg and b/4.jpg."""
    (root / "a").mkdir(parents=True)
    (root / "b").mkdir()
    for name in ("a/1.jpg", "a/2.jpg", "a/3.jpg", "b/4.jpg"):
        (root / name).touch()
    (root / "labels.csv").write_text(text)
    return root


def codes(tree: RawTree, au: int) -> tuple[list[int], list[int]]:
    """Occurrences and levels of a unit, in the order of subjects and frames."""
    i = tree.aus.index(au)
    both = (
        [int(code) for s in tree.sequences for code in getattr(s, kind)[:, i]]
        for kind in ("occurrence", "intensity")
    )
    return tuple(both)


OPENFACE = """image, subject, frame, face_id, timestamp, confidence, success, gaze_0_x, \
pose_Tx, x_0, AU12_r, AU45_r, AU01_c, AU12_c, AU28_c
a/1.jpg, a, 1, 0, 0.00, 0.98, 1, 0.1, 2.5, 3.0, 1.99, 0.3, 0.00, 1.00, 0.00
a/2.jpg, a, 2, 0, 0.04, 0.98, 1, 0.1, 2.5, 3.0, 2.00, 0.3, 1.00, 0.00, 0.00
a/3.jpg, a, 3, 0, 0.08, 0.00, 0, 0.0, 0.0, 0.0, 0.00, 0.0, 0.00, 0.00, 0.00
"""


def test_openface(tmp_path):
    """_c is the occurrence, the whole part of _r the level, and nothing is known without a face."""
    tree = index_folder(write(tmp_path / "raw", OPENFACE))
    assert tree.aus == (1, 12, 28, 45)
    assert codes(tree, 1) == ([0, 1, -1], [-1, -1, -1])
    assert codes(tree, 12) == ([1, 0, -1], [1, 2, -1])
    assert codes(tree, 28) == ([0, 0, -1], [-1] * 3) and codes(tree, 45) == ([-1] * 3, [0, 0, -1])
    unread = [remark.partition(": ")[2] for remark in tree.report.remarks["columns_unread"]]
    assert sorted(unread) == sorted(
        ["face_id", "timestamp", "confidence", "gaze_0_x", "pose_Tx", "x_0"]
    )
    assert tree.report.label_columns == {
        "AU1": "AU01_c",
        "AU12": "AU12_c",
        "AU12_intensity": "AU12_r",
        "AU28": "AU28_c",
        "AU45_intensity": "AU45_r",
    }
    assert tree.sequences[0].recording


PREDICTIONS = """frame,face_id,timestamp,confidence,success,AU01_c,AU12_c,AU01_p,AU12_p,source
1,0,0.0,1.0,1,0,1,0.200000,0.700000,{0}/a/1.jpg
2,0,0.0,0.0,0,,,,,{0}/a/2.jpg
3,0,0.0,1.0,1,1,0,0.600000,0.480000,./b/4.jpg
"""


def test_our_own_predictions(tmp_path):
    root = tmp_path / "raw"
    write(root, PREDICTIONS.format(root))
    with pytest.raises(UserError, match=r"labels\.csv:1: no column subject; .*--subjects_from_fol"):
        index_folder(root)
    tree = index_folder(root, options=LabelOptions(subjects_from_folders=True))
    assert [(s.subject, s.frames, s.recording) for s in tree.sequences] == [
        ("a", (1, 2), False),
        ("b", (1,), False),
    ]
    assert codes(tree, 1) == ([0, -1, 1], [-1] * 3) and codes(tree, 12)[0] == [1, -1, 0]
    assert tree.report.label_columns == {"AU1": "AU01_c", "AU12": "AU12_c"}


def test_predictions_of_another_place_are_refused(tmp_path):
    root = write(tmp_path / "raw", PREDICTIONS.format("/elsewhere"))
    with pytest.raises(UserError, match=r":2: source '/elsewhere/a/1\.jpg'; expected a path below"):
        index_folder(root, options=LabelOptions(subjects_from_folders=True))


PYFEAT = """FaceRectX,FaceRectY,FaceScore,AU01,AU12,AU43,anger,input,frame,subject
1,2,0.99,0.49,0.5,0.1,0.2,a/1.jpg,0,x
1,2,0.99,,1.0,0.1,0.2,a/2.jpg,1,x
1,2,0.99,9.5e-05,0.0,0.1,0.2,b/4.jpg,2,y
"""


def test_py_feat(tmp_path):
    """Plain columns with a share are ambiguous: an option states what they hold."""
    root = write(tmp_path / "raw", PYFEAT)
    with pytest.raises(UserError, match=r":2: AU01 is '0\.49'; .* --au_columns states what"):
        index_folder(root)
    tree = index_folder(root, options=LabelOptions(au_columns="probability"))
    assert codes(tree, 1)[0] == [0, -1, 0] and codes(tree, 12)[0] == [1, 1, 0]
    (root / "labels.csv").write_text(PYFEAT.replace("0.49", "2.49").replace("9.5e-05", "-1"))
    with pytest.raises(UserError, match=r":2: AU01 is '2\.49'; expected a number from 0 to 1"):
        index_folder(root, options=LabelOptions(au_columns="probability"))
    options = LabelOptions(au_columns="intensity", unknown_codes=("-1",))
    assert codes(index_folder(root, options=options), 1) == ([-1] * 3, [2, -1, -1])


@pytest.mark.parametrize("unknown", ["-1", "9", "-1.0", "9.0"])
def test_codes_that_an_option_calls_unknown(tmp_path, unknown):
    text = f"image,subject,AU1,AU12_intensity\na/1.jpg,a,{unknown},3\na/2.jpg,a,1,{unknown}\n"
    root = write(tmp_path / "raw", text)
    code = unknown.removesuffix(".0")
    with pytest.raises(UserError, match=rf":2: AU1 is .*; if .* give --unknown_codes={code}$"):
        index_folder(root)
    tree = index_folder(root, options=LabelOptions(unknown_codes=("-1", "9")))
    assert codes(tree, 1)[0] == [-1, 1] and codes(tree, 12)[1] == [3, -1]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("image,subject,AU12,AU12_c", "AU12 and AU12_c both state the occurrence of AU12"),
        ("image,subject,AU12,AU12_p", "AU12 and AU12_p both state the occurrence of AU12"),
        (
            "image,subject,AU12_r,AU12_intensity",
            "AU12_r and AU12_intensity both state the intensity of AU12",
        ),
        ("image,subject,AU12_c,AU12_c", "column AU12_c comes twice"),
        ("image,subject,AU12_x,AU01_c", "unknown column 'AU12_x'; did you mean"),
        ("image,subject,AU19_c", "no action unit"),
        ("image,subject,AU1,confidance", "unknown column 'confidance'"),
        ("subject,AU01_c", "no column image"),
    ],
)
def test_headers_that_leave_something_open(tmp_path, header, message):
    root = write(tmp_path / "raw", f"{header}\na/1.jpg,a,1,1\n")
    with pytest.raises(UserError, match=rf"labels\.csv:1: {re.escape(message)}"):
        index_folder(root)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"au_columns": "codes"}, "--au_columns='codes' is unknown; expected one of occurrence"),
        ({"unknown_codes": ("1",)}, "--unknown_codes='1': expected a whole number that is no code"),
        ({"unknown_codes": ("x" * 90,)}, "--unknown_codes='xxx"),
    ],
)
def test_options_without_a_meaning(options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        LabelOptions(**options)


@pytest.mark.parametrize("subject", ["_", "___", "", ".", "..", "\x07", "a\x00b", "nan!", "a" * 41])
def test_subjects_that_no_set_can_hold(tmp_path, subject):
    root = write(tmp_path / "raw", f'image,subject,AU1\na/1.jpg,"{subject}",1\n')
    with pytest.raises(UserError, match=r"labels\.csv:2: subject .*; expected up to 40") as error:
        index_folder(root)
    assert str(error.value).isprintable()


def test_subjects_from_folders_need_a_folder(tmp_path):
    root = write(tmp_path / "raw", "image,AU1\na/1.jpg,1\n5.jpg,1\n")
    with pytest.raises(UserError, match=r":3: image '5\.jpg' is in no folder"):
        index_folder(root, options=LabelOptions(subjects_from_folders=True))
