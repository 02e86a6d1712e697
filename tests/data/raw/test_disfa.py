"""Raw DISFA trees with every trap: what the reader says about them, and what stops it."""

from pathlib import Path

import numpy as np
import pytest

from tests.data.tree_writers import DISFA_CODED, facts_of, write_disfa, write_levels, write_video
from vlfau_jax.data.raw.disfa import index_disfa
from vlfau_jax.data.raw.frames import read_frames
from vlfau_jax.data.raw.tree import Video
from vlfau_jax.errors import UserError
from vlfau_jax.facs import DISFA_AUS

LABELS = "ActionUnit_Labels"
LEFT = "Videos_LeftCamera"


@pytest.fixture
def raw(tmp_path) -> Path:
    return write_disfa(tmp_path / "raw", ("SN001", "SN006"))


def unit_file(raw: Path, subject: str, au: int) -> Path:
    return raw / LABELS / subject / f"{subject}_au{au}.txt"


def lines(raw: Path, subject: str, au: int) -> list[int]:
    """Reads a label file in another way than the reader does."""
    text = unit_file(raw, subject, au).read_text().split()
    return [int(line.split(",")[1]) for line in text]


def test_labels_equal_the_files_cell_by_cell(raw):
    tree = index_disfa(raw)
    assert [s.name for s in tree.sequences] == ["SN001_T1", "SN006_T1"]
    assert tree.aus == DISFA_CODED and tree.benchmark == DISFA_AUS
    for sequence in tree.sequences:
        assert sequence.frames == (1, 2, 3, 4, 5) and sequence.sex == ""
        place = str(raw / LEFT / f"LeftVideo{sequence.subject}_comp.avi")
        assert sequence.pictures == Video(place, (0, 1, 2, 3, 4))
        assert (sequence.occurrence == -1).all() and sequence.intensity.dtype == np.int8
        for i, au in enumerate(DISFA_CODED):
            assert sequence.intensity[:, i].tolist() == lines(raw, sequence.subject, au)
    report = tree.report
    assert not any(report.losses.values())
    assert {kind for kind, places in report.remarks.items() if places} == {"subject_missing"}
    assert facts_of(report, "SN001", 1).published == "1-4845"


def test_a_missing_file_is_an_unknown_unit_and_is_named(raw):
    unit_file(raw, "SN006", 26).unlink()
    tree = index_disfa(raw)
    column = DISFA_CODED.index(26)
    assert (tree.sequences[1].intensity[:, column] == -1).all()
    assert (np.delete(tree.sequences[1].intensity, column, 1) >= 0).all()
    assert (tree.sequences[0].intensity >= 0).all()
    assert tree.report.remarks["unit_missing"] == [f"{LABELS}/SN006: no file of AU26"]
    assert facts_of(tree.report, "SN006", 1).unknown_labels == 5


def test_a_shorter_file_is_paired_from_the_start(raw):
    write_levels(unit_file(raw, "SN001", 4), [1, 2, 3])
    tree = index_disfa(raw)
    column = tree.sequences[0].intensity[:, DISFA_CODED.index(4)]
    assert column.tolist() == [1, 2, 3, -1, -1]
    where = f"{LABELS}/SN001/SN001_au4.txt: 3 lines; others have 5"
    assert tree.report.remarks["label_length_differs"] == [where]


@pytest.mark.parametrize(("frames", "lost"), [(8, []), (3, [3, 4])])
def test_a_video_of_another_length_is_paired_from_the_start(raw, rng, frames, lost):
    place = f"{LEFT}/LeftVideoSN001_comp.avi"
    write_video(raw / place, frames, rng)
    tree = index_disfa(raw)
    read = min(frames, 5)
    assert tree.sequences[0].frames == tuple(range(1, read + 1))
    assert tree.sequences[0].pictures.positions == tuple(range(read))
    assert len(tree.sequences[0].intensity) == len(tree.sequences[0].occurrence) == read
    message = tree.report.remarks["video_length_differs"]
    assert message == [f"{place}: {frames} frames, 5 labelled"]
    assert tree.report.losses["image_missing"] == [f"{place}#{position}" for position in lost]
    assert facts_of(tree.report, "SN001", 1).unlabelled_images == max(frames - 5, 0)


def promise(video, frames):
    """Changes how many frames an AVI's header promises."""
    data = bytearray(video.read_bytes())
    for place in (data.index(b"avih") + 24, data.index(b"strh") + 40):
        data[place : place + 4] = frames.to_bytes(4, "little")
    video.write_bytes(data)


@pytest.mark.parametrize("promised", [0, 3])
def test_frames_beyond_what_a_videos_header_promises_are_read_and_said(raw, rng, promised):
    place = f"{LEFT}/LeftVideoSN001_comp.avi"
    write_video(raw / place, 5, rng)
    promise(raw / place, promised)
    tree = index_disfa(raw)
    assert tree.sequences[0].pictures.positions == (0, 1, 2, 3, 4)
    assert not any(isinstance(frame, str) for frame in read_frames(tree.sequences[0].pictures))
    assert not tree.report.losses["image_missing"] and not tree.report.losses["image_unreadable"]
    message = tree.report.remarks["video_header_differs"]
    assert message == [f"{place}: 5 frames decode, its header promises {promised}"]
    assert not tree.report.remarks["video_length_differs"]


def test_frames_that_a_header_promises_and_that_are_not_there_are_refused(raw, rng):
    write_video(raw / f"{LEFT}/LeftVideoSN001_comp.avi", 5, rng)
    promise(raw / f"{LEFT}/LeftVideoSN001_comp.avi", 7)
    with pytest.raises(UserError, match="holds 5 frames that decode, its header promises 7"):
        list(read_frames(index_disfa(raw).sequences[0].pictures))


@pytest.mark.parametrize(
    ("offset", "frames", "positions", "lost"),
    [(1, (1, 2, 3, 4), (1, 2, 3, 4), 5), (-1, (2, 3, 4, 5), (0, 1, 2, 3), -1)],
)
def test_a_frame_offset_pairs_labels_with_other_frames(raw, offset, frames, positions, lost):
    tree = index_disfa(raw, frame_offset=offset)
    sequence = tree.sequences[0]
    assert sequence.frames == frames and sequence.pictures.positions == positions
    expected = [lines(raw, "SN001", 1)[frame - 1] for frame in frames]
    assert sequence.intensity[:, 0].tolist() == expected
    assert tree.report.losses["image_missing"][0] == f"{LEFT}/LeftVideoSN001_comp.avi#{lost}"


@pytest.mark.parametrize(
    "place",
    [
        "Video_RightCamera/RightVideoSN001_comp.avi",
        "Videos_RightCamera/RightVideoSN001_Comp.avi",
        "video_rightcamera/rightvideosn001_COMP.AVI",
    ],
)
def test_the_right_camera_is_found_under_all_its_names(raw, rng, place):
    write_video(raw / "one.avi", 4, rng)
    (raw / place).parent.mkdir()
    (raw / "one.avi").rename(raw / place)
    tree = index_disfa(raw, camera="right")
    assert [s.pictures for s in tree.sequences] == [Video(str(raw / place), (0, 1, 2, 3))]
    assert tree.report.remarks["labels_without_sequence"] == [f"{LABELS}/SN006"]


def test_strangers_are_named(raw):
    (raw / LABELS / "SN001" / "SN001_au3.txt").write_text("1,0\n")
    (raw / LABELS / "SN001" / "SN006_au1.txt").write_text("1,0\n")
    (raw / LEFT / "RightVideoSN001_comp.avi").touch()
    (raw / LABELS / "notes.txt").touch()
    (raw / LABELS / "SN006").rename(raw / LABELS / "SN007")
    for path in (raw / LABELS / "SN007").iterdir():
        path.rename(path.with_name(path.name.replace("SN006", "SN007")))
    report = index_disfa(raw).report
    remarks = report.remarks
    assert remarks["name_ignored"] == [
        f"{LEFT}/RightVideoSN001_comp.avi",
        f"{LABELS}/notes.txt",
        f"{LABELS}/SN001/SN001_au3.txt, SN006_au1.txt",
    ]
    assert remarks["sequence_without_labels"] == [f"{LEFT}/LeftVideoSN006_comp.avi"]
    assert remarks["labels_without_sequence"] == [f"{LABELS}/SN007"]
    assert report.losses["image_missing"] == [
        f"{LEFT}/LeftVideoSN007_comp.avi#{i}" for i in range(5)
    ]
    facts = facts_of(report, "SN006", 1)
    assert (facts.images, facts.labelled, facts.unlabelled_images) == (5, 0, 5)
    assert facts_of(report, "SN007", 1).labelled == 5 and not remarks["unit_missing"]
    assert not remarks["video_length_differs"]


def test_a_damaged_video_costs_only_its_frames(raw):
    place = f"{LEFT}/LeftVideoSN006_comp.avi"
    (raw / place).write_bytes(b"no video")
    tree = index_disfa(raw)
    assert [s.subject for s in tree.sequences] == ["SN001"]
    assert tree.report.losses["image_unreadable"] == [f"{place}#{i}" for i in range(5)]
    assert tree.report.remarks["subject_unusable"] == ["SN006"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,0\n3,0\n", "SN001_au1.txt:2: frame 3; expected 2"),
        ("1,0\n1,0\n", "SN001_au1.txt:2: frame 1; expected 2"),
        ("0,0\n1,0\n", "SN001_au1.txt:1: frame 0; expected 1"),
        ("1,0\n2,6\n", "SN001_au1.txt:2: intensity is '6'; expected one of 0, 1, 2, 3, 4, 5"),
        ("1,0\n2,9\n", "SN001_au1.txt:2: intensity is '9'"),
        ("1,0\n2\n", "SN001_au1.txt:2: 1 cells"),
        ("1,0\n\n2,0\n", "SN001_au1.txt:2: an empty line"),
        ("1,0\n-2,0\n", "SN001_au1.txt:2: frame '-2' is not a number"),
        ("1,\x00\n", "SN001_au1.txt:1: intensity is '\\\\x00'"),
    ],
)
def test_a_line_that_would_shift_labels_stops(raw, text, message):
    unit_file(raw, "SN001", 1).write_text(text)
    with pytest.raises(UserError, match=message):
        index_disfa(raw)


def test_windows_line_ends_are_harmless(raw):
    path = unit_file(raw, "SN001", 1)
    expected = lines(raw, "SN001", 1)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert index_disfa(raw).sequences[0].intensity[:, 0].tolist() == expected


@pytest.mark.parametrize(
    ("break_tree", "options", "message"),
    [
        (lambda raw: None, {"camera": "top"}, "--camera='top'"),
        (lambda raw: None, {"camera": "right"}, "holds no Videos_RightCamera/"),
        (lambda raw: (raw / LABELS).rename(raw / "x"), {}, "holds no ActionUnit_Labels/"),
        (lambda raw: (raw / LEFT / "leftvideosn001_comp.avi").touch(), {}, "same by name"),
        (lambda raw: (raw / LABELS / "sn001").mkdir(), {}, "same by name"),
        (lambda raw: (raw / "actionunit_labels").mkdir(), {}, "same by name"),
        (lambda raw: unit_file(raw, "SN001", 1).with_stem("SN001_au01").touch(), {}, "by name"),
        (
            lambda raw: None,
            {"frame_offset": 99},
            r"image .*SN001_comp\.avi#99 and .*SN001_au1\.txt",
        ),
    ],
)
def test_a_tree_that_cannot_be_trusted_stops(raw, break_tree, options, message):
    break_tree(raw)
    with pytest.raises(UserError, match=message) as error:
        index_disfa(raw, **options)
    assert "\n" not in str(error.value)
