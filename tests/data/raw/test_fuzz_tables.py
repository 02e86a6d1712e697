"""Broken tables of other programs, of folds, of landmarks and boxes: see test_fuzz.py."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.data.raw.test_fuzz import broken, fuzz, read, rows_of, tree
from vlfau_jax.data.crop.registry import crop_rule
from vlfau_jax.data.crop.tables import NotInTable
from vlfau_jax.data.raw.folder import index_folder
from vlfau_jax.data.raw.frames import Place
from vlfau_jax.data.raw.label_options import AU_COLUMNS, LabelOptions
from vlfau_jax.data.raw.subject_names import similar_names
from vlfau_jax.data.read.folds import read_folds
from vlfau_jax.errors import UserError

OTHER_TABLES = (
    """image, subject, success, confidence, AU12_r, AU01_c, AU12_c, AU28_c
a/1.jpg, F01, 1, 0.98, 1.99, 0.00, 1.00, 0.00
a/2.jpg, F02, 1, 0.98, 2.00, 1.00, 0.00, 0.00
a/3.jpg, F02, 0, 0.00, 0.00, 0.00, 0.00, 0.00
""",
    """frame,face_id,success,AU01_c,AU01_p,AU12_p,source
1,0,1,0,0.200000,0.700000,a/1.jpg
2,0,0,,,,./a/2.jpg
3,0,1,1,0.600000,0.480000,4.jpg
""",
    """FaceRectX,AU01,AU12,anger,input,subject
1,0.49,0.5,0.2,a/1.jpg,x
1,,1.0,0.2,a/2.jpg,y
1,9.5e-05,-1,0.2,4.jpg,X
""",
)


@fuzz(200)
@given(
    content=st.sampled_from(OTHER_TABLES).flatmap(lambda text: broken(text, ",")),
    options=st.builds(
        LabelOptions,
        accept_similar_subjects=st.booleans(),
        au_columns=st.sampled_from(sorted(AU_COLUMNS)),
        unknown_codes=st.sampled_from([(), ("-1", "9")]),
        subjects_from_folders=st.booleans(),
    ),
)
def test_tables_of_other_programs(content, options):
    with tree() as root:
        (root / "a").mkdir(parents=True)
        for name in ("a/1.jpg", "a/2.jpg", "a/3.jpg", "4.jpg"):
            (root / name).touch()
        (root / "labels.csv").write_bytes(content)
        found = read(index_folder, root, options=options)
        if found is None:
            return
        labelled = sum(s.labelled for s in found.report.sequences)
        assert labelled == sum(len(s.frames) for s in found.sequences) + found.report.lost
        names = [s.subject for s in found.sequences]
        assert options.accept_similar_subjects or not similar_names(set(names))


@fuzz(120)
@given(content=broken("subject,fold\nF001,1\nF002,2\nF003,3\n", ","))
def test_tables_of_folds(content):
    people = ("F001", "F002", "F003")
    with tree() as root:
        root.mkdir()
        (root / "folds.csv").write_bytes(content)
        try:
            tests = read_folds(root / "folds.csv", people)
        except UserError as error:
            assert len(str(error).splitlines()) == 1
            return
        header, *rows = rows_of(content)
        cells = [dict(zip(header, row, strict=True)) for row in rows]
        assert tests == {row["subject"]: int(row["fold"]) for row in cells}
        assert set(tests) == set(people)
        assert set(tests.values()) == set(range(1, max(tests.values()) + 1))


@fuzz(120)
@given(
    content=st.sampled_from(
        [
            "frame,success,left_eye_x,left_eye_y,right_eye_x,right_eye_y\n1,1,2,3,9,3\n2,0,0,0,0,0\n",
            "source,left,top,width,height\n1.jpg,1,2,30,40\n2.jpg,1,2,30,40\n",
        ]
    ).flatmap(lambda text: broken(text, ","))
)
def test_tables_of_faces(content):
    with tree() as root:
        root.mkdir()
        (root / "1.jpg").touch()
        (root / "2.jpg").touch()
        (root / "landmarks.csv").write_bytes(content)
        places = [Place(str(root / f"{k}.jpg")) for k in (1, 2)]
        for rule in ("landmarks", "box"):
            file = str(root / "landmarks.csv") if rule == "box" else ""
            try:
                made = crop_rule(rule, 32, file)
                remarks = made.check_table(places, str(root))
                made.find(np.zeros((64, 64, 3), np.uint8), places[0], str(root))
            except NotInTable:
                continue
            except UserError as error:
                assert len(str(error).splitlines()) == 1
            else:
                assert all(len(remark.splitlines()) == 1 for remark in remarks)
