"""The report: found against published, short where all is well, whole where something is lost."""

import json

import numpy as np
import pytest

from tests.data.tree_writers import facts_of
from vlfau_jax.data.raw.bp4d_published import BP4D_PUBLISHED
from vlfau_jax.data.raw.comparison import compare, compare_frames
from vlfau_jax.data.raw.disfa_published import DISFA_PUBLISHED
from vlfau_jax.data.raw.integrity import DROP_REASONS, IntegrityReport, gaps
from vlfau_jax.data.raw.integrity_text import format_report, format_summary, save_report
from vlfau_jax.data.raw.label_counts import LabelCounts
from vlfau_jax.data.raw.places import group_by_ending
from vlfau_jax.facs import BP4D_AUS

UNITS = len(BP4D_AUS)


def bp4d_report(**values) -> IntegrityReport:
    return IntegrityReport("bp4d", "/raw", False, BP4D_AUS, published=BP4D_PUBLISHED, **values)


def disfa_report(aus: tuple[int, ...]) -> IntegrityReport:
    return IntegrityReport("disfa", "/raw", False, aus, published=DISFA_PUBLISHED)


def published_codes() -> np.ndarray:
    """Occurrence int8 [146847, 12] with exactly the published rates, to two decimals."""
    codes = np.zeros((146_847, UNITS), np.int8)
    for i, rate in enumerate(BP4D_PUBLISHED.rates.values()):
        codes[: round(rate / 100 * len(codes)), i] = 1
    return codes


def whole_report(**changes: tuple[int, int]) -> IntegrityReport:
    """As if all of BP4D were there, every frame written; `changes` are other coded runs."""
    report = bp4d_report(crop={"name": "none"})
    report.columns["0-39"] = 328
    codes, at = published_codes(), 0
    for (subject, task), (first, last) in BP4D_PUBLISHED.runs.items():
        first, last = changes.get(f"{subject}_T{task}", (first, last))
        frames = range(first, last + 1)
        theirs = codes[at : at + len(frames)]
        at += len(frames)
        levels = np.full_like(theirs, -1)
        report.add_sequence(
            subject,
            task,
            frames,
            theirs,
            levels,
            images=len(frames) + 10,
            unlabelled_images=10,
            padding="none",
            labels="x.csv",
        )
        facts_of(report, subject, task).written = len(frames)
        report.subjects.setdefault(subject, LabelCounts.zero(UNITS)).count(theirs, levels)
    compare(report)
    return report


def test_a_whole_tree_agrees_with_what_is_published_in_few_lines():
    report = whole_report()
    facts = [row for row in report.comparisons if "class weight" not in row.what]
    assert [row.what for row in facts if not row.agrees] == []
    assert {row.what: row.found for row in facts}["labelled frames"] == 146_847
    assert len(facts) == 4 + 3 + 1 + UNITS and report.written == 146_847
    assert not any(report.remarks.values())
    text = format_report(report)
    assert "328 of 328 sequences were written whole" in text
    assert "F001" not in text and len(text.splitlines()) < 45
    rows = [line.split() for line in text.splitlines()]
    for fold, frames in enumerate(("46034", "50182", "50631"), start=1):
        assert ["tested", "in", "fold", str(fold), frames, frames] in rows


def test_deviating_runs_and_lost_frames_are_listed():
    report = whole_report(F001_T1=(2441, 2993), M018_T8=(1, 5))
    facts_of(report, "F002", 3).written -= 2
    report.losses["no_face"] += ["a/1.jpg", "a/2.jpg"]
    rows = {row.what: row for row in report.comparisons}
    same = rows["runs as published"]
    assert (same.found, same.published, same.agrees) == (326, 328, False)
    assert not rows["labelled frames"].agrees and rows["subjects"].agrees
    text = format_report(report)
    assert "325 of 328 sequences were written whole" in text
    table = [line.split() for line in text.splitlines()]
    assert [row[:2] for row in table if row[:1] and row[0][:1] in "FM" and len(row) > 9] == [
        ["F002", "3"],  # losses come first
        ["F001", "1"],
        ["M018", "8"],
    ]
    assert "lost 2 (images in which the crop rule found no face: 2)" in format_summary(report)
    assert "images in which the crop rule found no face (2)\n    a/1.jpg\n    a/2.jpg\n" in text
    assert ["runs", "as", "published", "326", "328", "differs"] in table


def test_class_weights_are_those_of_the_first_folds_training_subjects():
    report = bp4d_report()
    weights = BP4D_PUBLISHED.weights
    known = 10**9
    for part, subjects in enumerate(BP4D_PUBLISHED.parts):
        for subject in subjects:
            counts = LabelCounts.zero(UNITS)
            counts.known = [known] * UNITS
            counts.positives = [round(known * 0.2 / w) for w in weights.values()]
            if part == 2:  # tested in fold 1: their labels must not count
                counts.positives = counts.positives[::-1]
            report.labelled[subject] = counts
    compare(report)
    rows = [row for row in report.comparisons if "class weight, fold 1" in row.what]
    assert len(rows) == UNITS and all(row.agrees for row in rows)

    report.comparisons.clear()
    report.labelled["F001"].positives[3] = 0
    compare(report)
    assert not {row.what: row for row in report.comparisons}["AU6 class weight, fold 1"].agrees
    del report.labelled["F001"]  # a training subject is missing: nothing to compare
    report.comparisons.clear()
    compare(report)
    assert not [row for row in report.comparisons if "class weight" in row.what]


def test_a_rate_of_disfa_counts_intensities_from_two():
    report = disfa_report(aus=(1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26))
    intensity = np.tile(np.array([[0], [1], [2], [5], [-1]], np.int8), 12)
    report.add_sequence(
        "SN010",
        1,
        range(1, 6),
        np.full_like(intensity, -1),
        intensity,
        images=5,
        unlabelled_images=0,
    )
    compare(report)
    rows = {row.what: row for row in report.comparisons}
    assert rows["AU25 active, %"].found == 50.0 and not rows["AU25 active, %"].agrees
    assert facts_of(report, "SN010", 1).published == "1-4844"
    assert len(report.remarks["subject_missing"]) == 26


def counted_disfa(frames: dict[str, range]) -> IntegrityReport:
    report = disfa_report(aus=(1, 25))
    for subject, numbers in frames.items():
        codes = np.zeros((len(numbers), 2), np.int8)
        report.add_sequence(subject, 1, numbers, codes - 1, codes, images=0, unlabelled_images=0)
    compare_frames(report)
    return report


def test_folds_of_disfa_are_counted_with_and_without_what_the_field_leaves_out():
    runs = DISFA_PUBLISHED.runs
    whole = counted_disfa({s: range(first, last + 1) for (s, _), (first, last) in runs.items()})
    assert all(row.agrees for row in whole.comparisons)
    rows = {row.what: row.found for row in whole.comparisons}
    assert [rows[f"tested in fold {k}, less excluded"] for k in (1, 2, 3)] == [42627, 40344, 43173]
    assert rows["labelled frames, less excluded"] == 126_144

    some = counted_disfa({"SN001": range(397, 422), "SN002": range(1, 5), "SN003": range(1, 7)})
    rows = {row.what: (row.found, row.published) for row in some.comparisons}
    assert rows["tested in fold 3"] == (29, 43_604)
    assert rows["tested in fold 3, less excluded"] == (29 - 23, 43_173)
    assert rows["tested in fold 1"][0] == 6 and rows["tested in fold 2"][0] == 0


def test_absent_sequences_are_named_and_absent_subjects_once():
    report = bp4d_report()
    codes = np.zeros((2, UNITS), np.int8)
    for task in (1, 2, 3, 5, 7, 8):
        report.add_sequence("F001", task, (1, 2), codes, codes, images=2, unlabelled_images=0)
    compare(report)
    assert report.remarks["sequence_missing"] == ["F001_T4", "F001_T6"]
    assert len(report.remarks["subject_missing"]) == 40
    text = format_report(report)
    assert "    F001_T4, F001_T6\n" in text
    assert "not here (40)\n    F002, F003, F004," in text


def test_the_text_is_short_for_any_number_of_places():
    report = IntegrityReport("folder", "/raw", False, (1,))
    report.losses["no_face"] += [f"a/{n}.jpg" for n in range(7)] + ["b/v.avi#3"]
    report.losses["image_unreadable"] += [f"{n}/{k}.jpg" for n in range(60) for k in range(9)]
    report.remarks["gap"] += [f"a gap, {n}" for n in range(70)]
    codes = np.zeros((2, 1), np.int8)
    for task in range(60):
        report.add_sequence("x", task, (1, 2), codes, codes - 1, images=2, unlabelled_images=0)
    report.sequences[-1].written = 1
    lines = format_report(report).splitlines()
    assert "    a/0.jpg to 6.jpg: 7 of them" in lines and "    b/v.avi#3" in lines
    assert "    59/0.jpg to 8.jpg: 9 of them" not in lines
    assert [line for line in lines if "more, see" in line] == [
        "    and 10 lines more, see integrity.json",
        "    and 20 lines more, see integrity.json",
        "    and 10 sequences more, see integrity.json",
    ]
    assert len(lines) < 180 and len(report.as_json()["remarks"]["gap"]) == 70
    header = next(line.split() for line in lines if line.split()[:1] == ["subject"])
    assert header == ["subject", "task", "images", "labelled", "first", "last", "written"]


def test_names_are_grouped_by_folder_and_ending():
    names = ["a/1.obj", "b", "a/x", *(f"a/{n}.obj" for n in range(2, 9)), "a/b/2.obj", "a/y"]
    assert group_by_ending(names) == ["a/*.obj (8 names)", "b", "a/x, y", "a/b/2.obj"]
    assert group_by_ending([f"c/{n}" for n in range(6)]) == ["c/names without an ending (6 names)"]


def test_a_sequence_is_whole_if_only_units_unknown_everywhere_are_unknown():
    report = IntegrityReport("folder", "/raw", False, (1, 2))
    for task, codes in ((1, [[1, -1], [0, -1]]), (2, [[1, -1], [-1, -1]])):
        both = np.array(codes, np.int8), np.full((2, 2), -1, np.int8)
        report.add_sequence("x", task, (1, 2), *both, images=2, unlabelled_images=0)
        report.sequences[-1].written = 2
    lines = format_report(report).splitlines()
    assert "unknown in every frame: AU2" in lines and "5 unknown labels" in format_summary(report)
    line = "1 of 2 sequences were written whole, with every other label known"
    assert lines[lines.index(line) + 2].split() == ["x", "2", "2", "2", "1", "2", "3", "2"]


def test_one_is_not_many():
    report = IntegrityReport("folder", "/raw", False, (1,))
    codes = np.full((1, 1), -1, np.int8)
    report.add_sequence("x", 1, (1,), codes, codes, images=2, unlabelled_images=1, padding="none")
    report.sequences[0].written = 1
    report.subjects["x"] = report.labelled["x"]
    assert format_summary(report) == (
        "folder: 1 frame of 1 subject in 1 sequence; lost 0; 1 image without a label; 1 unknown "
        "label, kept as unknown"
    )
    assert "padding of picture numbers: none in 1 sequence\n" in format_report(report)


def test_counts_add_up():
    occurrence = np.array([[1, 0], [-1, 1]], np.int8)
    intensity = np.array([[5, -1], [0, -1]], np.int8)
    one = LabelCounts.zero(2)
    one.count(occurrence, intensity)
    assert (one.frames, one.positives, one.known) == (2, [1, 1], [1, 2])
    assert one.levels == [[1, 0, 0, 0, 0, 1], [0] * 6]
    total = LabelCounts.total([one, one], 2)
    assert (total.frames, total.positives, total.known) == (4, [2, 2], [2, 4])
    assert total.levels[0] == [2, 0, 0, 0, 0, 2] and one.frames == 2


def test_what_is_saved_can_be_read(tmp_path):
    report = IntegrityReport("folder", "/raw\udcff", True, (1,), layout="folder")
    report.aligned_by = {"eyes": 3, "box": 1}
    report.crop = {"name": "x", "parameters": {f"key{k}": "y" * 30 for k in range(9)}}
    report.losses["image_unreadable"] += ["é/1.jpg", "\x1b[31m/2.jpg"]
    save_report(report, tmp_path)
    saved = json.loads((tmp_path / "integrity.json").read_text())
    assert saved["lost"] == 2 and saved["losses"].keys() == DROP_REASONS.keys()
    assert saved["layout"] == "folder" and saved["aligned_by"] == {"eyes": 3, "box": 1}
    text = (tmp_path / "integrity.txt").read_text()
    assert "crop      x, key0 yyy" in text and max(map(len, text.splitlines())) <= 100
    assert "    é/1.jpg" in text and "/raw\\xff" in text
    assert "    \\x1b[31m/2.jpg" in text and "\x1b" not in text
    assert "aligned   by eyes 3, neighbours 0, box 1, none 0\n" in text


@pytest.mark.parametrize(
    ("frames", "expected"),
    [([], []), ([4], []), ([1, 2, 3], []), ([1, 4, 10**9], [(2, 3), (5, 10**9 - 1)])],
)
def test_gaps(frames, expected):
    assert list(gaps(frames)) == expected
