"""A study for each of several values of a key: curves, and cells that processes share."""

import csv
import json

import pytest

from tests.studies.examples import finished, unlearned
from tests.studies.test_study_runs import command, fails
from vlfau_jax.cli.main import main
from vlfau_jax.files import locked
from vlfau_jax.report import sweep_picture
from vlfau_jax.studies import ablation_result, sweep
from vlfau_jax.studies.output import json_text

ROWS = {"full": {}, "no local": {"model.local_captions": False}}
WRONG = {"2": {"full": 0.3, "no local": 0.4}, "18": {"full": 0.1, "no local": 0.1}}


def point(wrong, without=()):
    cells = {
        (name, seed, 1): finished(1, seed, rate, name=name)
        for name, rate in wrong.items()
        for seed in (0, 1)
        if name not in without
    }
    return ablation_result.summarise(cells, ROWS, (0, 1), (1,))


@pytest.fixture(scope="module")
def whole():
    found = {value: point(wrong) for value, wrong in WRONG.items()}
    return found, sweep.curves("data.training_subjects", {**found, "40": None})


def test_a_curve_holds_what_each_point_found(whole):
    found, result = whole
    assert result["values"] == ["2", "18", "40"]
    for name in ROWS:
        points = result["rows"][name]["points"]
        for value, one in zip(("2", "18"), points, strict=False):
            row = found[value]["rows"][name]
            assert one["value"] == value
            assert one["f1"]["mean"] == row["f1"]["mean"]
            for key in ("low", "pooled", "p", "p_holm"):
                assert one["difference"].get(key) == row.get("difference", {}).get(key)
        assert points[2]["f1"]["mean"] is None
    assert result["missing"] == ["data.training_subjects=40: nothing is there"]


def test_cells_that_are_not_there_leave_a_gap():
    result = sweep.curves("k", {"1": point(WRONG["2"], without=("no local",))})
    (one,) = json.loads(json_text(result))["rows"]["no local"]["points"]
    assert one["f1"]["mean"] is None and one["difference"]["low"] is None
    assert "no local, seed 0, fold 1" in result["missing"][0]
    assert sweep.table_of(result).rows[0][2:] == ("-", "-", "-", "-")
    assert "<svg" in sweep_picture.sweep_svg(result)


def test_points_whose_means_are_of_other_units_are_told(whole):
    found, result = whole
    assert not any("other units" in note for note in sweep.table_of(result).notes)
    cell = {("full", 0, 1): unlearned(finished(1), 12), ("no local", 0, 1): finished(1)}
    scarce = ablation_result.summarise(cell, ROWS, (0,), (1,))
    result = sweep.curves("data.training_subjects", {"1": scarce, **found})
    assert json.loads(json_text(result))["left_out"] == {"1": {"12": [1]}, "2": {}, "18": {}}
    (note,) = [note for note in sweep.table_of(result).notes if "other units" in note]
    assert note.endswith("at 1 without AU12 in fold 1.")


def test_the_table_and_the_file_of_numbers(whole):
    table = sweep.table_of(whole[1])
    assert table.columns[:3] == ("data.training_subjects", "F1 full", "F1 no local")
    assert [row[0] for row in table.rows] == ["2", "18", "40"]
    assert table.rows[1][3] == "+0.000" and table.rows[2][1] == "-"
    lines = list(csv.DictReader(sweep.csv_of(whole[1]).splitlines()))
    assert [(line["value"], line["row"]) for line in lines][:4] == [
        ("2", "full"),
        ("18", "full"),
        ("40", "full"),
        ("2", "no local"),
    ]
    assert float(lines[3]["difference_mean"]) < 0


def test_an_interval_is_drawn_where_it_lies(whole):
    result = json.loads(json_text(whole[1]))
    difference = result["rows"]["no local"]["points"][1]["difference"]
    difference |= {"mean": 0.0, "low": 0.01, "high": 0.05}  # as counts pooled over folds may give
    _, lower = sweep_picture.draw([result]).axes
    ends = [
        segment[:, 1].tolist() for lines in lower.collections for segment in lines.get_segments()
    ]
    assert [0.01, 0.05] in ends


def test_the_picture_is_drawn_from_files(whole, tmp_path, capsys):
    record, out = tmp_path / "sweep.json", tmp_path / "curves.webp"
    record.write_text(json_text(whole[1]))
    assert sweep_picture.main([str(record), str(record), f"--out={out}"]) == 0
    assert out.stat().st_size > 5000
    record.write_text("{}")
    assert sweep_picture.main([str(record), f"--out={out}"]) == 2
    assert "give the sweep.json" in capsys.readouterr().err


def test_a_sweep_is_trained_point_by_point_by_processes_that_share_it(prepared, tmp_path, capsys):
    rows, folder = tmp_path / "rows.py", tmp_path / "study"
    rows.write_text("def get_rows(): return {'full': {}}")
    more = [f"--rows={rows}", "--seeds=1", "--over=data.label_noise=0,0.5"]
    argv = command("ablate", prepared, folder, *more)
    shared = [*argv, "--resume", "--shared"]
    theirs = folder / "label_noise=0" / "full" / "seed3" / "fold1"
    theirs.mkdir(parents=True)
    with locked(theirs):
        assert main([*shared, "--at=0"]) == 0  # nothing is there yet
        assert "full, seed 3, fold 1: another process is at it" in capsys.readouterr().err
        assert "another process" in fails(capsys, [*argv, "--resume", "--at=0"])
        assert main(shared) == 0
        result = json.loads((folder / "sweep.json").read_text())
        assert result["missing"] == ["data.label_noise=0: nothing is there"]
    assert main(shared) == 0
    result = json.loads((folder / "sweep.json").read_text())
    assert result["missing"] == []
    assert all(point["f1"]["mean"] is not None for point in result["rows"]["full"]["points"])
    noisy = json.loads((folder / "label_noise=0.5" / "full/seed3/fold1/config.json").read_text())
    assert noisy["data"]["label_noise"] == 0.5
    before = {path.name: path.read_bytes() for path in folder.glob("sweep.*")}
    assert set(before) == {"sweep.json", "sweep.md", "sweep.tex", "sweep.csv", "sweep.svg"}
    assert main([*argv, "--collect"]) == 0
    assert {path.name: path.read_bytes() for path in folder.glob("sweep.*")} == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--over=data.label_noise"], "give a key and its values"),
        (["--over=data.label_noise=0.1,0.1"], "each once"),
        (
            ["--over=data.nothing=1"],
            "--over=data.nothing=1: config.data.nothing: no such config key",
        ),
        (["--over=data.label_noise=0.7"], "data.label_noise=0.7"),
        (["--over=model.refinement=none,full"], "row 'no DAIR' sets model.refinement itself"),
        (["--over=data.data_dir=a/b"], "is part of a folder's name"),
        (["--over=seed=1,2"], "--seeds and --folds"),
        (["--over=data.label_noise=0,0.1", "--at=0.2"], "--at=0.2: --over has 0, 0.1"),
        (["--at=0.2"], "only --over has values"),
        (["--over=data.label_noise=0,0.1", "--at=0", "--collect"], "leave out --at"),
        (["--shared"], "give --resume, too"),
        (["--over=data.training_subjects=2,9"], "data.training_subjects=9: give a number"),
    ],
)
def test_what_cannot_be_is_one_line(prepared, tmp_path, capsys, more, message):
    rows = "--rows=ablation:core"
    argv = command("ablate", prepared, tmp_path / "new", rows, "--only=full,no DAIR", *more)
    assert message in fails(capsys, argv)
    assert not list(tmp_path.rglob("checkpoints"))
