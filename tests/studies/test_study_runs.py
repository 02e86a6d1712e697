"""crossval and ablate as commands, on three rendered people, with a network of a few parameters."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.processes import ROOT
from tests.report.html_tree import parse
from vlfau_jax.cli.main import main
from vlfau_jax.errors import Interrupted, RunError
from vlfau_jax.evaluation.scores import Scores
from vlfau_jax.metrics import bootstrap
from vlfau_jax.studies import cell as cells

# Without captioners, which are half of what tracing and compiling take.
SMALL = {
    "data.image_size": 32,
    "model.local_captions": False,
    "model.global_captions": False,
    "mesh.data": 1,
    "train.steps": 2,
}
ROWS = """
def get_rows():
    return {"full": {}, "no DAIR": {"model.refinement": "none"}}
"""
TABLES = (".json", ".md", ".tex", ".csv", ".html")


def command(verb, prepared, workdir, *more, **config):
    keys = {"data.data_dir": prepared, **SMALL, **config}
    argv = [verb, f"--config={ROOT}/tests/tiny.py", f"--workdir={workdir}"]
    return [*argv, *(f"--config.{key}={value}" for key, value in keys.items()), *more]


@pytest.fixture(scope="module")
def study(tmp_path_factory, prepared):
    """A finished cross-validation of three folds, each of which tests one person."""
    folder = tmp_path_factory.mktemp("crossval") / "study"
    assert main(command("crossval", prepared, folder)) == 0
    return folder


@pytest.fixture
def copied(study, tmp_path):
    return Path(shutil.copytree(study, tmp_path / "study"))


@pytest.fixture
def untrainable(monkeypatch):
    """Lets nothing be trained: what runs must be kept from before."""

    def refuse(*_, **__):
        raise AssertionError("trains again")

    monkeypatch.setattr(cells, "train", refuse)


def tables(folder, name="crossval"):
    return {suffix: (folder / f"{name}{suffix}").read_text() for suffix in TABLES}


def fails(capsys, argv):
    capsys.readouterr()
    code = main(argv)
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert (code, len(error)) == (2, 1)
    return error[0]


def test_every_fold_is_a_run_of_its_own_and_the_table_is_of_all(study):
    result = json.loads((study / "crossval.json").read_text())
    assert result["test_subjects"] == ["F001", "F004", "M002"]
    assert [one["test_subjects"] for one in result["folds"].values()] == [
        ["F004"],
        ["M002"],
        ["F001"],
    ]
    assert result["missing"] == [] and result["synthetic"]
    assert "SYNTHETIC" in (study / "crossval.md").read_text()
    for fold, one in result["folds"].items():
        folder = study / one["workdir"]
        scores = Scores.from_json(json.loads((folder / "scores.json").read_text()))
        assert (scores.fold, scores.step, one["mean_f1"]) == (int(fold), 2, scores.mean_f1)
        assert (folder / "report.html").exists()
    page = parse((study / "crossval.html").read_text())
    links = [one["href"] for one in page.all("a") if not one["href"].startswith("#")]
    assert links == [f"fold{fold}/report.html" for fold in (1, 2, 3)]
    assert all((study / link).exists() for link in links)
    assert result["protocol"]["code"].startswith("0.")
    assert len(result["protocol"]["data"]["bp4d"]) == 64


def test_counts_of_subjects_are_those_of_the_scores(study):
    record = json.loads((study / "fold1" / "cell.json").read_text())
    scores = Scores.from_json(json.loads((study / "fold1" / "scores.json").read_text()))
    assert list(record["counts"]) == ["F004"]
    counts = bootstrap.Counts(*np.array([*record["counts"].values()]).swapaxes(0, 1))
    assert counts.tp.shape == (1, len(scores.aus))
    f1 = [scores.per_au[au]["f1"] for au in scores.aus]
    assert bootstrap.f1(counts.pooled()).tolist() == pytest.approx(f1, nan_ok=True)


def test_a_finished_study_is_kept_and_gives_the_same_table(copied, prepared, untrainable):
    before = tables(copied)
    for suffix in TABLES:
        (copied / f"crossval{suffix}").unlink()
    for path in copied.glob("fold*/cell.json"):
        path.unlink()
    assert main(command("crossval", prepared, copied, "--resume")) == 0
    assert tables(copied) == before
    assert main(command("crossval", prepared, copied, "--collect")) == 0
    assert tables(copied) == before


def test_a_fold_that_was_trained_and_not_scored_is_scored_alone(copied, prepared, untrainable):
    before = tables(copied)
    for name in ("scores.json", "predictions.jsonl", "cell.json"):
        (copied / "fold2" / name).unlink()
    assert main(command("crossval", prepared, copied, "--collect")) == 0
    assert json.loads((copied / "crossval.json").read_text())["missing"] == [2]
    assert main(command("crossval", prepared, copied, "--resume", "--fold=2")) == 0
    assert tables(copied) == before


def test_without_resume_a_study_in_use_is_refused(study, prepared, capsys):
    assert "fold1 holds a run already; give --resume" in fails(
        capsys, command("crossval", prepared, study)
    )


def test_folds_of_another_config_are_refused_before_anything_runs(
    study, prepared, capsys, untrainable
):
    for more in (["--resume"], ["--collect"]):
        argv = command("crossval", prepared, study, *more, **{"train.steps": 3})
        text = fails(capsys, argv)
        assert "fold1 was trained with another config: train.steps=2 (the study asks for 3)" in text
    argv = command("crossval", prepared, study, "--collect", **{"model.width": 4})
    assert "model.width=8 (the study asks for 4)" in fails(capsys, argv)


def test_scores_that_do_not_fit_together_are_refused(copied, prepared, capsys):
    before, path = tables(copied), copied / "fold1" / "predictions.jsonl"
    lines = path.read_text()
    path.write_text(lines.replace('"label": 1', '"label": 0'))
    (copied / "fold1" / "cell.json").unlink()
    argv = command("crossval", prepared, copied, "--collect")
    assert "predictions.jsonl is not of its scores.json" in fails(capsys, argv)
    path.write_text(lines)  # mended: what did not fit is not remembered
    assert main(argv) == 0 and tables(copied) == before


def test_a_fold_of_other_code_is_refused_and_may_be_accepted(copied, prepared, capsys):
    path = copied / "fold3" / "final.json"
    final = json.loads(path.read_text())
    path.write_text(json.dumps(final | {"code": "0.0.9 (sources 1)"}))
    (copied / "fold3" / "cell.json").unlink()
    argv = command("crossval", prepared, copied, "--collect")
    text = fails(capsys, argv)
    assert "code is '0." in text and "--accept_other_code" in text
    assert main([*argv, "--accept_other_code"]) == 0
    assert "0.0.9 (sources 1)" in (copied / "crossval.md").read_text()


def test_a_fold_that_fails_keeps_no_other_from_being_trained(copied, prepared, capsys, monkeypatch):
    (copied / "fold1" / "final.json").unlink()
    (copied / "fold2" / "scores.json").unlink()

    def fail(*_, **__):
        raise RunError("loss is nan")

    monkeypatch.setattr(cells, "train", fail)
    assert main(command("crossval", prepared, copied, "--resume")) == 1
    lines = capsys.readouterr().err.splitlines()
    assert "fold 1 failed: loss is nan" in lines
    (last,) = [line for line in lines if line.startswith("failed: ")]
    assert "fold 1 could not be finished" in last
    result = json.loads((copied / "crossval.json").read_text())
    assert (result["missing"], list(result["folds"])) == ([1], ["2", "3"])


def test_a_stop_from_outside_ends_the_study_at_once(copied, prepared, monkeypatch):
    before = tables(copied)
    for fold in (1, 2):
        (copied / f"fold{fold}" / "final.json").unlink()
    stopped = []

    def stop(settings, *_, **__):
        stopped.append(settings.data.fold)
        raise Interrupted("SIGTERM")

    monkeypatch.setattr(cells, "train", stop)
    assert main(command("crossval", prepared, copied, "--resume")) == 75
    assert stopped == [1]
    assert tables(copied) == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--folds=1,4"], "fold 4 cannot be trained: data.fold=4 does not exist"),
        (["--folds=1,x"], "--folds=1,x: give numbers"),
        (["--folds=1,1"], "each number once"),
        (["--folds=0"], "--folds=0: give numbers from 1 on"),
        (["--fold=4"], "--fold=4: the study has 1, 2, 3"),
        (["--collect", "--fold=1"], "--collect trains nothing"),
        (["--collect", "--resume"], "--collect trains nothing"),
        (["--collect"], "holds no finished fold of 1, 2, 3"),
        (["--config.data.fold=2"], "crossval trains every fold"),
        (["--leave_one_subject_out", "--config.data.folds=x"], "makes the folds; give one"),
    ],
)
def test_what_cannot_be_is_one_line(prepared, tmp_path, capsys, more, message):
    assert message in fails(capsys, command("crossval", prepared, tmp_path / "new", *more))


def test_every_subject_a_fold_of_its_own(prepared, tmp_path, capsys):
    folder = tmp_path / "loso"
    more = ["--leave_one_subject_out", "--folds=2,3", "--fold=3"]
    assert main(command("crossval", prepared, folder, *more)) == 0
    with (folder / "folds.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows == [["subject", "fold"], ["F001", "1"], ["F004", "2"], ["M002", "3"]]
    result = json.loads((folder / "crossval.json").read_text())
    assert (list(result["folds"]), result["missing"]) == (["3"], [2])
    assert result["folds"]["3"]["test_subjects"] == ["M002"]
    assert result["folds"]["3"]["train_subjects"] == ["F001", "F004"]
    assert result["mean_f1"] is None
    (folder / "folds.csv").write_text("subject,fold\nF001,1\n")
    argv = command("crossval", prepared, folder, *more, "--resume")
    assert "folds.csv is about other subjects" in fails(capsys, argv)
    (folder / "folds.csv").unlink()
    assert "fold3 is a fold of several subjects" in fails(capsys, argv)
    assert not (folder / "folds.csv").exists()


@pytest.mark.slow
def test_an_ablation_runs_as_jobs_and_ends_as_one_table(prepared, tmp_path, capsys, monkeypatch):
    rows, folder = tmp_path / "rows.py", tmp_path / "study"
    rows.write_text(ROWS)
    more = [f"--rows={rows}", "--seeds=1", "--folds=1,2"]
    argv = command("ablate", prepared, folder, *more)
    assert main([*argv, "--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[:2] for line in listed] == [
        ["1", "full, seed 3, fold 1"],
        ["2", "full, seed 3, fold 2"],
        ["3", "no DAIR, seed 3, fold 1"],
        ["4", "no DAIR, seed 3, fold 2"],
    ]
    assert main([*argv, "--list", "--fold=2"]) == 0
    assert capsys.readouterr().out.splitlines() == [listed[1], listed[3]]
    assert not folder.exists()
    assert main([*argv, "--row=full"]) == 0
    result = json.loads((folder / "ablation.json").read_text())
    assert result["missing"] == ["no DAIR, seed 3, fold 1", "no DAIR, seed 3, fold 2"]
    assert result["rows"]["no DAIR"]["difference"]["mean"] is None
    assert main([*argv, "--cell=3"]) == 0
    assert main([*argv, "--row=no DAIR", "--seed=3", "--fold=2"]) == 0
    result = json.loads((folder / "ablation.json").read_text())
    full, other = result["rows"]["full"], result["rows"]["no DAIR"]
    assert result["missing"] == []
    assert other["difference"]["mean"] == pytest.approx(other["f1"]["mean"] - full["f1"]["mean"])
    assert (folder / "ablation.html").exists()
    before = tables(folder, "ablation")
    monkeypatch.setattr(cells, "train", None)
    assert main([*argv, "--resume"]) == 0
    assert tables(folder, "ablation") == before
    assert "full/seed3/fold1 holds a run already" in fails(capsys, argv)
    assert "leave out --row" in fails(capsys, [*argv, "--cell=1", "--row=full"])


def test_a_row_that_cannot_be_built_is_one_line_before_anything_is_trained(
    prepared, tmp_path, capsys, untrainable
):
    rows, folder = tmp_path / "rows.py", tmp_path / "study"
    for override, message in (
        ({"model.window": 64}, "x, seed 3, fold 1 cannot be trained: model.window=64"),
        ({"train.warm_start": "/nowhere"}, "x, seed 3, fold 1 cannot be trained: train.warm_start"),
        ({"model.taps": (7,)}, "row 'x' cannot be built: model.taps=(7,)"),
    ):
        rows.write_text(f"def get_rows(): return {{'full': {{}}, 'x': {override!r}}}")
        text = fails(capsys, command("ablate", prepared, folder, f"--rows={rows}"))
        assert message in text
    assert not folder.exists()
