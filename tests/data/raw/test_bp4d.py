"""Raw BP4D trees with every trap: what the reader says about them, and what stops it."""

import csv
import shutil
from pathlib import Path

import pytest

from tests.data.tree_writers import HEADER, facts_of, write_images, write_labels
from vlfau_jax.data.raw.bp4d import index_bp4d
from vlfau_jax.data.raw.integrity_text import format_report, format_summary
from vlfau_jax.data.raw.tree import ImageFiles
from vlfau_jax.errors import UserError
from vlfau_jax.facs import BP4D_AUS

IMAGES = "Sequences(2D+3D)"
LABELS = "AUCoding/AU_OCC"
NOTHING_SHOWN = "no frame with both .* image Sequences.*/F001/T1/8.jpg and the labels AUC.*F001_T1"
NOTHING_LABELLED = "image Sequences.*/F001/T1/1.jpg and the labels AUCoding/AU_OCC/F001_T1.csv"
OLD, NEW = "AU Intensity Codes3.0", "AUCoding/AU_INT"


def edit_labels(path: Path, line: int, column: str, cell: str) -> None:
    rows = list(csv.reader(path.read_text().splitlines()))
    rows[line][rows[0].index(column)] = cell
    path.write_text("\n".join(",".join(row) for row in rows) + "\n")


def write_intensity(raw: Path, place: str, sequence: str, au: int, text: str) -> None:
    path = raw / place / f"AU{au:02d}" / f"{sequence}_AU{au:02d}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def cells(raw: Path, sequence: str) -> dict[int, list[int]]:
    """Reads a label file in another way than the reader does: frame -> codes."""
    with (raw / LABELS / f"{sequence}.csv").open() as file:
        return {
            int(row["0"]): [{"0": 0, "1": 1, "9": -1}[row[str(au)]] for au in BP4D_AUS]
            for row in csv.DictReader(file)
        }


def test_labels_equal_the_files_cell_by_cell_and_pictures_are_the_frames(write_tree):
    raw = write_tree()
    edit_labels(raw / LABELS / "M003_T1.csv", 2, "14", "9")
    tree = index_bp4d(raw)
    assert [s.name for s in tree.sequences] == ["F001_T1", "F001_T2", "M003_T1", "M003_T2"]
    assert [s.sex for s in tree.sequences] == ["female", "female", "male", "male"]
    assert tree.aus == tree.benchmark == BP4D_AUS and tree.root == raw
    for sequence in tree.sequences:
        expected = cells(raw, sequence.name)
        assert sequence.frames == tuple(expected) == (8, 9, 10, 11, 12)
        assert sequence.occurrence.tolist() == list(expected.values())
        assert (sequence.intensity == -1).all()
        assert isinstance(sequence.pictures, ImageFiles)
        for frame, path in zip(sequence.frames, sequence.pictures.paths, strict=True):
            assert int(Path(path).stem) == frame and Path(path).is_file()
    assert tree.sequences[2].occurrence[1].tolist().count(-1) == 1
    assert facts_of(tree.report, "M003", 1).unknown_labels == 1
    message = tree.report.remarks["label_unknown"]
    assert message == [f"{LABELS}/M003_T1.csv: AU14 in 1 frame"]
    assert "padding of picture numbers: 4 in 2 sequences, none in 2" in format_report(tree.report)


def test_columns_are_found_by_name_in_any_order(write_tree):
    raw = write_tree(("F001",))
    path = raw / LABELS / "F001_T1.csv"
    before = cells(raw, "F001_T1")
    rows = list(csv.reader(path.read_text().splitlines()))
    path.write_text("\n".join(",".join([row[0], *row[:0:-1]]) for row in rows))
    assert index_bp4d(raw).sequences[0].occurrence.tolist() == list(before.values())


def test_a_frame_offset_pairs_labels_with_other_pictures(write_tree):
    raw = write_tree(("F001",))
    tree = index_bp4d(raw, frame_offset=2)
    sequence = tree.sequences[1]
    assert sequence.frames == (8, 9, 10)
    assert [Path(p).name for p in sequence.pictures.paths] == ["0010.jpg", "0011.jpg", "0012.jpg"]
    assert sequence.occurrence.tolist() == list(cells(raw, "F001_T2").values())[:3]
    lost = tree.report.losses["image_missing"]
    assert lost == [f"{IMAGES}/F001/{task}/{n}.jpg" for task in ("T1", "T2") for n in (13, 14)]
    facts = facts_of(tree.report, "F001", 2)
    assert (facts.labelled, facts.images, facts.unlabelled_images) == (5, 5, 2)


def test_traps_are_named_by_place(write_tree):
    raw = write_tree(("F001", "M003", "F024"))
    (raw / IMAGES / "M003/T2/0011.jpg").unlink()
    shutil.copy(raw / IMAGES / "F001/T1/8.jpg", raw / IMAGES / "F001/T1/99.jpg")
    shutil.copytree(raw / IMAGES / "F001/T1", raw / IMAGES / "F001/T7")
    shutil.copy(raw / LABELS / "F001_T1.csv", raw / LABELS / "F001_T8.csv")
    (raw / IMAGES / "F001/T1/Thumbs.db").touch()
    (raw / IMAGES / "read\nme").touch()
    (raw / IMAGES / "F00\N{ARABIC-INDIC DIGIT ONE}").mkdir()
    (raw / IMAGES / "F001/T\N{ARABIC-INDIC DIGIT ONE}").mkdir()
    (raw / IMAGES / "M003/T1/8.jpg").rename(raw / IMAGES / "M003/T1/008.jpg")
    gap = raw / LABELS / "F024_T1.csv"
    lines = gap.read_text().splitlines(keepends=True)
    gap.write_text("".join(lines[:3] + lines[4:]))
    report = index_bp4d(raw).report
    remarks = report.remarks
    assert report.losses["image_missing"] == [
        *(f"{IMAGES}/F001/T8/{n}.jpg" for n in range(8, 13)),
        f"{IMAGES}/M003/T2/11.jpg",
    ]
    assert remarks["sequence_without_labels"] == [f"{IMAGES}/F001/T7"]
    assert remarks["labels_without_sequence"] == [f"{LABELS}/F001_T8.csv"]
    assert remarks["subject_unexpected"] == ["F024"] and len(remarks["subject_missing"]) == 39
    assert remarks["gap"] == [f"{LABELS}/F024_T1.csv: 10 to 10"]
    assert remarks["name_ignored"] == [
        f"{IMAGES}/F001/T\N{ARABIC-INDIC DIGIT ONE}",
        f"{IMAGES}/F00\N{ARABIC-INDIC DIGIT ONE}, read\\nme",
        f"{IMAGES}/F001/T1/Thumbs.db",
    ]
    facts = {(s.subject, s.task): s for s in report.sequences}
    assert facts["F001", 1].padding == "none" and facts["F001", 2].padding == "4"
    assert facts["M003", 1].padding == "mixed"
    assert facts["F001", 1].unlabelled_images == 1
    assert (facts["F024", 1].labelled, facts["F024", 1].run) == (4, "8-12")


def test_headers_are_counted_and_unpublished_ones_remarked_on(write_tree):
    raw = write_tree()
    for name in ("F001_T2", "M003_T1"):
        path = raw / LABELS / f"{name}.csv"
        rows = path.read_text().splitlines()
        path.write_text("\n".join(",".join([*row.split(",")[:25], "9"]) for row in rows))
        text = path.read_text().splitlines()
        text[0] = ",".join([*HEADER[:25], "41"])
        path.write_text("\n".join(text))
    report = index_bp4d(raw).report
    assert report.columns == {"0-39": 2, "0-24,41": 2}
    where = f"{LABELS}/F001_T2.csv and others like it: columns 0-24,41"
    assert report.remarks["columns_unexpected"] == [where]
    found = {row.what: row for row in report.comparisons}
    assert found["columns of 2 label files"].published == "0-39"


@pytest.mark.parametrize("place", [OLD, NEW])
def test_intensities_are_read_at_either_place(write_tree, place):
    raw = write_tree(("F001",))
    write_intensity(raw, place, "F001_T1", 12, "8,3\n9,9\n10,0\n77,2\n")
    tree = index_bp4d(raw)
    assert tree.sequences[0].intensity[:, BP4D_AUS.index(12)].tolist() == [3, -1, 0, -1, -1]
    others = [i for i, au in enumerate(BP4D_AUS) if au != 12]
    assert (tree.sequences[0].intensity[:, others] == -1).all()
    assert (tree.sequences[1].intensity == -1).all()
    remarks, stray = tree.report.remarks, "1 frame, first 77, last 77"
    assert remarks["intensity_frame_unlabelled"] == [f"{place}/AU12/F001_T1_AU12.csv: {stray}"]
    assert remarks["intensity_missing"] == [
        *(f"{OLD}/AU{au} and {NEW}/AU{au}: no such folder" for au in ("06", "10", "14", "17")),
        "AU12 of F001_T2: no file",
    ]
    assert tree.report.labelled["F001"].levels[BP4D_AUS.index(12)] == [1, 0, 0, 1, 0, 0]


def test_intensities_at_both_places_must_agree(write_tree):
    raw = write_tree(("F001",))
    write_intensity(raw, OLD, "F001_T1", 6, "8,3\n9,1\n")
    write_intensity(raw, NEW, "F001_T01", 6, "9,1\n8,3\n")  # another order and form, same levels
    assert index_bp4d(raw).sequences[0].intensity[0, BP4D_AUS.index(6)] == 3
    write_intensity(raw, NEW, "F001_T01", 6, "8,3\n9,2\n")
    with pytest.raises(UserError, match=r"AU_INT.*differ, first in frame 9"):
        index_bp4d(raw)


@pytest.mark.parametrize(
    ("break_tree", "message"),
    [
        (lambda raw: shutil.rmtree(raw), "is not a folder"),
        (lambda raw: shutil.rmtree(raw / IMAGES), "holds no Sequences"),
        (lambda raw: shutil.rmtree(raw / LABELS), "holds no AUCoding"),
        (lambda raw: [shutil.rmtree(p) for p in (raw / IMAGES).iterdir()], NOTHING_SHOWN),
        (lambda raw: [p.unlink() for p in (raw / LABELS).iterdir()], NOTHING_LABELLED),
        (
            lambda raw: (raw / LABELS / "F001_T1.csv").write_text("8,1,0\n"),
            "F001_T1.csv:1: no header",
        ),
        (lambda raw: edit_labels(raw / LABELS / "M003_T2.csv", 3, "7", "7"), "M003_T2.csv:4: AU 7"),
        (lambda raw: edit_labels(raw / LABELS / "M003_T2.csv", 3, "0", "8"), "T2.csv:4: frame 8 c"),
        (lambda raw: (raw / IMAGES / "F001/T1/0008.jpg").touch(), "same by name"),
        (lambda raw: (raw / IMAGES / "F001/T01").mkdir(), "same by name"),
        (
            lambda raw: write_intensity(raw, OLD, "F001_T1", 6, "8,6\n"),
            "F001_T1_AU06.csv:1: intensity is '6'",
        ),
    ],
)
def test_a_tree_that_cannot_be_trusted_stops(write_tree, break_tree, message):
    raw = write_tree()
    break_tree(raw)
    with pytest.raises(UserError, match=message) as error:
        index_bp4d(raw)
    assert "\n" not in str(error.value)


def test_subjects_without_a_usable_frame_are_named(write_tree):
    raw = write_tree(("F001", "F002"))
    for image in (raw / IMAGES / "F001").rglob("*.jpg"):
        image.unlink()
    tree = index_bp4d(raw)
    assert tree.report.remarks["subject_unusable"] == ["F001"]
    assert {s.subject for s in tree.sequences} == {"F002"}
    assert len(tree.report.losses["image_missing"]) == 10


def test_index_opens_no_image(write_tree):
    raw = write_tree(("F001",))
    for image in raw.rglob("*.jpg"):
        image.write_bytes(b"")
    assert [s.frames for s in index_bp4d(raw).sequences] == [(8, 9, 10, 11, 12)] * 2


def test_frame_numbers_far_apart_cost_nothing(write_tree):
    raw = write_tree(("F001",))
    write_labels(raw / LABELS / "F001_T1.csv", {8: {}, 999_999_999: {}})
    tree = index_bp4d(raw, frame_offset=-999_999_991)
    assert tree.sequences[0].frames == (999_999_999,)
    assert tree.report.remarks["gap"] == [f"{LABELS}/F001_T1.csv: 9 to 999999998"]


def test_a_sequence_with_pictures_or_labels_alone_is_counted(write_tree):
    raw = write_tree(("F001", "F002"))
    (raw / LABELS / "F001_T2.csv").unlink()
    shutil.rmtree(raw / IMAGES / "F002")
    shutil.rmtree(raw / IMAGES / "F001/T1")
    (raw / IMAGES / "F001/T1").mkdir()  # an empty folder and none lose the same
    shutil.copytree(raw / IMAGES / "F001/T2", raw / IMAGES / "M001/T1")
    write_labels(raw / LABELS / "M001_T1.csv", {n: {} for n in range(8, 11)})
    tree = index_bp4d(raw)
    report = tree.report
    lost = report.losses["image_missing"]
    places = [f"{IMAGES}/{place}" for place in ("F001/T1", "F002/T1", "F002/T2")]
    assert lost == [f"{place}/{n}.jpg" for place in places for n in range(8, 13)]
    facts = facts_of(report, "F001", 2)
    assert (facts.images, facts.labelled, facts.unlabelled_images) == (5, 0, 5)
    assert (facts_of(report, "F002", 1).labelled, facts_of(report, "F002", 1).images) == (5, 0)
    assert sum(s.labelled for s in report.sequences) == len(lost) + 3
    message = "lost 15 (labelled frames without an image: 15); 7 images without a label"
    assert message in format_summary(report)
    assert report.remarks["subject_unusable"] == ["F001", "F002"]
    assert report.remarks["sequence_missing"][:2] == ["F001_T3", "F001_T4"]
    assert not any("no file" in message for message in report.remarks["intensity_missing"])
    assert [s.name for s in tree.sequences] == ["M001_T1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "5 of 5 frames; an empty file"),
        ("8,0\n9,0\n", "3 of 5 frames; 3 have no row, 0 are coded as unknown"),
        (
            "".join(f"{n},9\n" for n in range(8, 13)),
            "5 of 5 frames; 0 have no row, 5 are coded as unknown",
        ),
    ],
)
def test_damaged_intensity_files_are_named_with_what_they_cost(write_tree, text, message):
    raw = write_tree(("F001",))
    write_intensity(raw, NEW, "F001_T1", 6, text)
    write_intensity(raw, NEW, "F001_T2", 6, "".join(f"{n},1\n" for n in range(8, 13)))
    remarks = index_bp4d(raw).report.remarks
    assert remarks["intensity_unknown"] == [f"{NEW}/AU06/F001_T1_AU06.csv: {message}"]


def test_intensities_of_a_sequence_that_nothing_else_knows_are_named(write_tree):
    raw = write_tree(("F001",))
    write_intensity(raw, NEW, "F009_T1", 6, "8,0\n")
    message = index_bp4d(raw).report.remarks["intensity_frame_unlabelled"]
    assert message == [f"{NEW}/AU06/F009_T1_AU06.csv: AU6, a sequence without a label file"]


def test_contradictions_are_counted_and_the_worst_comes_first(write_tree):
    raw = write_tree(("F001",))
    write_labels(raw / LABELS / "F001_T1.csv", {n: {6: n % 2, 10: 1} for n in range(8, 13)})
    write_labels(raw / LABELS / "F001_T2.csv", {8: {6: 0}, 9: {6: 1}, 10: {6: 9}, 11: {}, 12: {}})
    write_intensity(raw, NEW, "F001_T1", 6, "8,0\n9,1\n10,0\n11,9\n12,1\n")
    write_intensity(raw, NEW, "F001_T1", 10, "8,1\n9,2\n10,3\n11,4\n12,5\n")  # levels are active
    write_intensity(raw, NEW, "F001_T2", 6, "8,3\n9,0\n10,5\n11,5\n12,5\n")
    assert index_bp4d(raw).report.remarks["contradiction"] == [
        "2 of 2 frames of AU6 of F001_T2: 0 absent at level 1, 1 above, 1 present at level 0",
        "1 of 4 frames of AU6 of F001_T1: 1 absent at level 1, 0 above, 0 present at level 0",
    ]


def test_3d_models_beside_the_pictures_are_one_line_a_folder_and_ending(write_tree):
    raw = write_tree(("F001",))
    for n in range(8, 20):
        for ending in ("obj", "mtl"):
            (raw / IMAGES / f"F001/T1/{n}.{ending}").touch()
    assert index_bp4d(raw).report.remarks["name_ignored"] == [
        f"{IMAGES}/F001/T1/*.mtl (12 names)",
        f"{IMAGES}/F001/T1/*.obj (12 names)",
    ]


def test_picture_folders_may_be_linked_in_from_another_disk(write_tree, tmp_path):
    raw = write_tree(("F001",))
    (raw / IMAGES / "F001").rename(tmp_path / "other disk")
    (raw / IMAGES / "F001").symlink_to(tmp_path / "other disk")
    tree = index_bp4d(raw)
    assert [len(s.frames) for s in tree.sequences] == [5, 5] and not tree.report.lost
    assert all(path.startswith(str(raw)) for s in tree.sequences for path in s.pictures.paths)


@pytest.mark.parametrize(("pictures", "frames"), [((1, 2, 3), (0, 1, 2)), ((0, 1, 2), (1, 2, 3))])
def test_labels_or_pictures_that_count_from_0_are_asked_about(tmp_path, rng, pictures, frames):
    write_images(tmp_path / "Sequences(2D+3D)/F001/T1", [f"{n}.jpg" for n in pictures], rng)
    write_labels(tmp_path / "AUCoding/AU_OCC/F001_T1.csv", {n: {1: 1} for n in frames})
    offset = pictures[0] - frames[0]
    with pytest.raises(UserError, match=f"counts from 0; give --frame_offset={offset}"):
        index_bp4d(tmp_path)
    assert index_bp4d(tmp_path, frame_offset=offset).sequences[0].frames == frames


def test_intensities_that_count_from_another_frame_are_refused(tmp_path, rng):
    write_images(tmp_path / "Sequences(2D+3D)/F001/T1", ["5.jpg", "6.jpg"], rng)
    write_labels(tmp_path / "AUCoding/AU_OCC/F001_T1.csv", {5: {6: 1}, 6: {6: 0}})
    levels = tmp_path / "AUCoding/AU_INT/AU06/F001_T1_AU06.csv"
    levels.parent.mkdir(parents=True)
    levels.write_text("4,3\n5,0\n")
    with pytest.raises(UserError, match=r"AU06\.csv: frames 4 to 5, but the occurrences are of 5"):
        index_bp4d(tmp_path)
