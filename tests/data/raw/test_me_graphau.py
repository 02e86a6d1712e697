"""Trees prepared for ME-GraphAU: labels equal their lists, and contradictions stop."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.data.tree_writers import DISFA_CODED, facts_of, write_images, write_lists
from vlfau_jax.data.raw.bp4d import ME_GRAPHAU, index_bp4d
from vlfau_jax.data.raw.disfa import index_disfa
from vlfau_jax.data.raw.integrity_text import format_report, format_summary
from vlfau_jax.data.raw.me_graphau import index_prepared, is_prepared_tree
from vlfau_jax.errors import UserError
from vlfau_jax.facs import BP4D_AUS, DISFA_AUS

TRAIN, TEST = "BP4D_train_{}_fold1", "BP4D_test_{}_fold1"


def codes(rng: np.random.Generator, units: int) -> str:
    return " ".join(map(str, rng.integers(0, 2, units)))


@pytest.fixture
def bp4d(tmp_path, rng) -> Path:
    """F001 T1 frames 8 to 10 train, M003 T2 frames 1 and 2 test; fold 2 the other way round."""
    root = tmp_path / "graphau"
    write_images(root / "img/F001/T1", [f"{n}.jpg" for n in (7, 8, 9, 10)], rng)
    write_images(root / "img/M003/T2", [f"{n:04d}.jpg" for n in (1, 2)], rng)
    some = [(f"F001/T1/{n}.jpg", codes(rng, 12)) for n in (10, 8, 9)]
    others = [(f"M003/T2/{n:04d}.jpg", codes(rng, 12)) for n in (1, 2)]
    write_lists(root, TRAIN, some)
    write_lists(root, TEST, others)
    write_lists(root, "BP4D_train_{}_fold2", others)
    write_lists(root, "BP4D_test_{}_fold2", [(f"img/{path}", row) for path, row in some])
    (root / "list" / "BP4D_train_weight_fold1.txt").write_text("1 1\n")
    return root


@pytest.fixture
def disfa(tmp_path, rng) -> Path:
    root = tmp_path / "graphau"
    write_images(root / "img/SN001", ["0.png", "1.png", "2.png"], rng)
    write_lists(root, "DISFA_train_{}_fold1", [(f"SN001/{i}.png", codes(rng, 8)) for i in range(3)])
    return root


def listed(root: Path, name: str) -> dict[str, list[int]]:
    """Reads a pair of lists in another way than the reader does."""
    paths, labels = ((root / "list" / f"{name.format(k)}.txt") for k in ("img_path", "label"))
    rows = np.loadtxt(labels, dtype=int, ndmin=2).tolist()
    return dict(zip(paths.read_text().split(), rows, strict=True))


def test_bp4d_labels_equal_the_lists(bp4d):
    assert is_prepared_tree(bp4d)
    tree = index_bp4d(bp4d)
    assert [(s.name, s.frames) for s in tree.sequences] == [
        ("F001_T1", (8, 9, 10)),
        ("M003_T2", (1, 2)),
    ]
    expected = listed(bp4d, TRAIN) | listed(bp4d, TEST)
    for sequence in tree.sequences:
        for i, path in enumerate(sequence.pictures.paths):
            name = Path(path).relative_to(bp4d / "img").as_posix()
            assert sequence.occurrence[i].tolist() == expected.pop(name)
            assert int(Path(path).stem) == sequence.frames[i]
        assert (sequence.intensity == -1).all()
    assert not expected
    assert [s.sex for s in tree.sequences] == ["female", "male"]
    assert tree.aus == tree.benchmark == BP4D_AUS and tree.report.layout == "me_graphau"
    facts = facts_of(tree.report, "F001", 1)
    assert (facts.labelled, facts.images, facts.unlabelled_images) == (3, 4, 1)
    assert not tree.report.remarks["name_ignored"]


def test_disfa_pictures_are_named_from_0_and_four_units_are_unknown(disfa):
    tree = index_disfa(disfa)
    (sequence,) = tree.sequences
    assert tree.aus == DISFA_CODED and tree.benchmark == DISFA_AUS
    assert sequence.frames == (1, 2, 3) and sequence.sex == "" and sequence.task == 1
    assert [Path(p).name for p in sequence.pictures.paths] == ["0.png", "1.png", "2.png"]
    rows = list(listed(disfa, "DISFA_train_{}_fold1").values())
    for i, au in enumerate(DISFA_CODED):
        column = [row[DISFA_AUS.index(au)] if au in DISFA_AUS else -1 for row in rows]
        assert sequence.occurrence[:, i].tolist() == column
    assert (sequence.intensity == -1).all()
    assert facts_of(tree.report, "SN001", 1).unknown_labels == 3 * 4
    assert "12 unknown labels, kept" in format_summary(tree.report)
    assert "unknown in every frame: AU5, AU15, AU17, AU20" in format_report(tree.report)


def test_missing_pictures_and_strangers_are_named(bp4d, disfa):
    assert bp4d == disfa  # both sets' lists in one tree
    (bp4d / "img/F001/T1/8.jpg").unlink()
    (bp4d / "list/notes.txt").touch()
    (bp4d / "img/F001/T1/Thumbs.db").touch()
    shutil.copytree(bp4d / "img/F001/T1", bp4d / "img/F002/T3")
    (bp4d / "img/F002/T3/Thumbs.db").unlink()
    tree = index_bp4d(bp4d)
    rows = listed(bp4d, TRAIN)
    expected = [rows[f"F001/T1/{n}.jpg"] for n in (9, 10)]
    assert tree.sequences[0].occurrence.tolist() == expected
    report = tree.report
    assert report.losses["image_missing"] == ["img/F001/T1/8.jpg"]
    assert report.remarks["sequence_without_labels"] == ["img/F002/T3"]
    facts = facts_of(report, "F002", 3)
    assert (facts.images, facts.labelled, facts.unlabelled_images) == (3, 0, 3)
    assert facts_of(report, "F001", 1).images == 3
    assert report.remarks["name_ignored"] == [
        "list/DISFA_train_img_path_fold1.txt, DISFA_train_label_fold1.txt, notes.txt",
        "img/F001/T1/Thumbs.db",
    ]
    assert report.remarks["gap"] == []
    assert index_disfa(disfa).sequences[0].subject == "SN001"


def test_options_that_choose_pictures_are_refused(bp4d, disfa):
    with pytest.raises(UserError, match="--frame_offset=1 has no place"):
        index_bp4d(bp4d, frame_offset=1)
    with pytest.raises(UserError, match="--camera=right has no place"):
        index_disfa(disfa, camera="right")


ZEROS = " ".join("0" * 12)


@pytest.mark.parametrize(
    ("path", "row", "message"),
    [
        ("F001/T1/8.jpg", ZEROS[:-2], r"label_fold3.txt:1: 11 codes; expected 12"),
        ("F001/T1/8.jpg", ZEROS + " 0", r"label_fold3.txt:1: 13 codes"),
        ("F001/T1/8.jpg", "9" + ZEROS[1:], r"label_fold3.txt:1: AU 1 is '9'; expected 0 or 1"),
        ("F001/T1/8.jpg", "1.0" + ZEROS[1:], r"label_fold3.txt:1: AU 1 is '1.0'"),
        ("../F001/T1/8.jpg", ZEROS, r"img_path_fold3.txt:1: '../F001/T1/8.jpg' is no path"),
        ("/etc/passwd", ZEROS, r"img_path_fold3.txt:1: '/etc/passwd' is no path"),
        ("F001\\T1\\8.jpg", ZEROS, "is no path"),
        ("SN001/0.png", ZEROS, "is no path"),
        ("F001/T1/٨.jpg", ZEROS, "is no path"),
        ("F001/T1/08.jpg", ZEROS, r"F001/T1/08.jpg and F001/T1/8.jpg are the same frame"),
    ],
)
def test_a_line_that_cannot_be_trusted_stops(bp4d, path, row, message):
    write_lists(bp4d, "BP4D_train_{}_fold3", [(path, row)])
    with pytest.raises(UserError, match=message) as error:
        index_prepared(bp4d, ME_GRAPHAU)
    assert "\n" not in str(error.value)


def test_contradictions_name_both_lines(bp4d):
    name, row = next(iter(listed(bp4d, TRAIN).items()))
    row[4] = 1 - row[4]
    write_lists(bp4d, "BP4D_train_{}_fold3", [(name, " ".join(map(str, row)))])
    place = r"label_fold\d.txt:1 and .*label_fold\d.txt:1 label F001/T1/10.jpg differently"
    with pytest.raises(UserError, match=place):
        index_bp4d(bp4d)


@pytest.mark.parametrize(
    ("break_tree", "message"),
    [
        (lambda root: (root / "list/BP4D_train_label_fold1.txt").unlink(), "has no counterpart"),
        (lambda root: (root / "list/BP4D_test_img_path_fold2.txt").unlink(), "no counterpart"),
        (
            lambda root: (root / "list/BP4D_test_label_fold2.txt").write_text(ZEROS),
            "has 3 lines and BP4D_test_label_fold2.txt has 1",
        ),
        (
            lambda root: (root / "list/BP4D_test_label_fold2.txt").write_bytes(b"\xff\n"),
            "another encoding or no text; .* save it as UTF-8",
        ),
        (
            lambda root: (root / "list/BP4D_test_label_fold2.txt").write_text(f"\n\n{ZEROS}"),
            "label_fold2.txt:1: an empty line",
        ),
        (lambda root: [p.unlink() for p in (root / "list").iterdir()], "holds no BP4D_train_img"),
        (
            lambda root: [p.unlink() for p in (root / "img").rglob("*.jpg")],
            "no frame with both.*for the image img/F001/T1/",
        ),
    ],
)
def test_lists_that_cannot_be_trusted_stop(bp4d, break_tree, message):
    break_tree(bp4d)
    with pytest.raises(UserError, match=message) as error:
        index_bp4d(bp4d)
    assert "\n" not in str(error.value)
