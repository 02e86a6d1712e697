"""compare: other tools beside a run, on the same frames, units and labels."""

import csv
import json

import numpy as np
import pytest

from tests.studies.examples import answers
from vlfau_jax.cli.main import main
from vlfau_jax.evaluation.scores import Scores
from vlfau_jax.metrics import au as au_metrics
from vlfau_jax.metrics.au import Counts

AUS = (4, 12, 26)


@pytest.fixture
def run(tmp_path):
    """An evaluated run of two people with one task each, as its files tell it."""
    from dataclasses import replace

    from tests.evaluation.example_scores import example

    _, active, labels, known = answers(2)
    folder = tmp_path / "run"
    folder.mkdir()
    example_scores: Scores = replace(
        example(),
        aus=AUS,
        dataset="folder",
        per_au={unit: example().per_au[1] for unit in AUS},
        floors_per_au={},
        thresholds=(0.5,) * 3,
        test_subjects=("d", "e"),
        train_subjects=("a", "b"),
        frame_offset=0,
    )
    (folder / "scores.json").write_text(json.dumps(example_scores.to_json()))
    lines = []
    for row in range(len(active)):
        units = {
            str(unit): {
                "active": bool(active[row, k]),
                "probability": 0.9 if active[row, k] else 0.1,
                "label": int(labels[row, k]) if known[row, k] else None,
            }
            for k, unit in enumerate(AUS)
        }
        key = {"subject": "de"[row // 20], "task": 1, "frame": row % 20 + 1}
        lines.append(json.dumps(key | {"per_au": units}) + "\n")
    (folder / "predictions.jsonl").write_text("".join(lines))
    return folder, active, labels, known


def write_tool(path, states, aus, first=1, without=()):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["subject", " frame", *(f" AU{unit:02d}_c" for unit in aus)])
        for row, cells in enumerate(states):
            if row not in without:
                writer.writerow(["de"[row // 20], row % 20 + first, *map(int, cells)])


def test_both_are_scored_on_the_frames_and_units_that_both_have(run, tmp_path, capsys):
    folder, active, labels, known = run
    theirs = ~active
    write_tool(tmp_path / "other.csv", theirs[:, :2], (4, 12), without=(0, 25))
    out = tmp_path / "out"
    argv = ["compare", f"--workdir={folder}", f"--out={out}", str(tmp_path / "other.csv")]
    assert main(argv) == 0
    result = json.loads((out / "comparison.json").read_text())
    rows = np.delete(np.arange(len(active)), (0, 25))
    for side, states in (("vlfau_jax", active), ("other", theirs)):
        per_au = result["tools"][side]["per_au"]
        for column, unit in enumerate((4, 12)):
            keep = rows[known[rows, column]]
            counts = Counts.of(states[keep, column], labels[keep, column], keep >= 0)
            assert per_au[str(unit)]["f1"] == au_metrics.f1(counts)
            assert per_au[str(unit)]["frames"] == len(keep)
        f1 = [per_au[str(unit)]["f1"] for unit in (4, 12)]
        assert result["tools"][side]["mean_f1"] == pytest.approx(np.mean(f1))
    ours, theirs = (result["tools"][side]["per_au"]["4"] for side in ("vlfau_jax", "other"))
    for name in ("auc", "average_precision", "ece"):
        assert theirs[name] is None and ours[name] is not None
    for name in ("mcc", "balanced_accuracy", "true_positives"):
        assert theirs[name] is not None
    assert (result["aus"], result["units_of_one_side"]["vlfau_jax"]) == ([4, 12], [26])
    assert (result["frames"], result["frames_tested"]) == (38, 40)
    assert result["tools"]["other"]["frames_without"] == {"not in the table": 2}
    difference = result["tools"]["other"]["difference"]
    ours, other = (result["tools"][side]["mean_f1"] for side in ("vlfau_jax", "other"))
    assert difference["mean"] == pytest.approx(other - ours)
    assert difference["low"] <= difference["mean"] <= difference["high"] < 0
    text = capsys.readouterr().out
    assert "Not in all, so in no mean: AU 26 of vlfau_jax." in text
    assert "other: frames without an answer: 2 not in the table." in text
    assert "SYNTHETIC" in text
    assert {path.suffix for path in out.iterdir()} == {".json", ".md", ".tex", ".csv"}


def test_frames_from_zero_are_the_same_frames(run, tmp_path):
    folder, active, *_ = run
    results = []
    for first in (1, 0):
        write_tool(tmp_path / "other.csv", active, AUS, first=first)
        out = tmp_path / f"out{first}"
        assert (
            main(["compare", f"--workdir={folder}", f"--out={out}", f"x={tmp_path}/other.csv"]) == 0
        )
        results.append(json.loads((out / "comparison.json").read_text()))
    one, other = (result["tools"]["x"] for result in results)
    assert one.pop("numbering") != other.pop("numbering")
    assert one == other
    ours = results[0]["tools"]["vlfau_jax"]
    assert one["mean_f1"] == ours["mean_f1"]


def test_mistakes_are_one_line(run, tmp_path, capsys):
    folder, active, *_ = run
    write_tool(tmp_path / "other.csv", active, AUS)
    write_tool(tmp_path / "foreign.csv", active, (1, 2, 5))
    out = f"--out={tmp_path / 'out'}"
    table = str(tmp_path / "other.csv")
    for argv, message in (
        ([f"--workdir={tmp_path}", out, table], "scores.json is missing; score the run"),
        ([f"--workdir={folder}", out, f"{tmp_path}/foreign.csv"], "no action unit is common"),
        ([f"--workdir={folder}", out, table, table], "two tools are called 'other'"),
        ([f"--workdir={folder}", out, f"vlfau_jax={table}"], "two tools are called 'vlfau_jax'"),
        ([f"--workdir={folder}", out, f"a&b={table}"], "is no name for a tool"),
        ([f"--workdir={folder}", out], "TABLE... must be given"),
        ([f"--workdir={folder}", out, "--frames_from=2", table], "--frames_from=2"),
    ):
        assert main(["compare", *argv]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert main(["compare", f"--workdir={folder}", out, table]) == 0
    assert main(["compare", f"--workdir={folder}", out, table]) == 2
    assert main(["compare", f"--workdir={folder}", out, "--overwrite", table]) == 0


def test_tools_without_a_common_frame_are_refused(run, tmp_path, capsys):
    folder, active, *_ = run
    write_tool(tmp_path / "one.csv", active, AUS, without=range(20))
    write_tool(tmp_path / "two.csv", active, AUS, without=range(20, 40))
    argv = ["compare", f"--workdir={folder}", f"--out={tmp_path / 'out'}"]
    assert main([*argv, f"{tmp_path}/one.csv", f"{tmp_path}/two.csv"]) == 2
    assert "no frame has an answer of every tool (frames answered: one 20, two 20)" in (
        capsys.readouterr().err
    )


def test_blank_cells_are_counted_and_an_intensity_is_no_probability(run, tmp_path, capsys):
    folder, active, _, known = run
    lines = ["subject,frame,AU04_r,AU12"]
    for row, (brow, mouth, _) in enumerate(active.tolist()):
        cell = "" if row in (3, 30) else (0.25, 0.75)[mouth]
        lines.append(f"{'de'[row // 20]},{row % 20 + 1},{(1.5, 3.5)[brow]},{cell}")
    (tmp_path / "x.csv").write_text("\n".join(lines))
    out = tmp_path / "out"
    assert main(["compare", f"--workdir={folder}", f"--out={out}", f"x={tmp_path}/x.csv"]) == 0
    result = json.loads((out / "comparison.json").read_text())["tools"]
    assert result["x"]["blank_cells"] == {"12": 2}
    assert "x: frames that count in nobody's scores, blank cells: AU12 2." in (
        capsys.readouterr().out
    )
    for side in ("x", "vlfau_jax"):
        counted = known[:, 1].sum() - known[[3, 30], 1].sum()
        assert result[side]["per_au"]["12"]["frames"] == counted
    brow, mouth = (result["x"]["per_au"][unit] for unit in ("4", "12"))
    assert brow["ece"] is None and brow["auc"] is not None
    assert mouth["ece"] is not None
