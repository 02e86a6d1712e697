"""The ablation table: paired differences, missing cells, and rows that are no ablation."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.report.html_tree import addresses, check_table, parse
from tests.studies.examples import AUS, PEOPLE, finished, unlearned
from tests.tiny import tiny_settings
from vlfau_jax.cli import studies
from vlfau_jax.cli.config_files import read_ablation
from vlfau_jax.cli.settings import resolve
from vlfau_jax.errors import UserError
from vlfau_jax.metrics import bootstrap
from vlfau_jax.report.ablation_page import render_ablation
from vlfau_jax.shipped import CONFIGS, experiment
from vlfau_jax.studies import ablation, ablation_result
from vlfau_jax.studies.ablation import Job, Row, plan
from vlfau_jax.studies.output import json_text
from vlfau_jax.train.experiment import _check_fit

ROWS = {"full": {}, "no local": {"model.local_captions": False}, "twin": {"model.dropout": 0.1}}
WRONG = {"full": 0.1, "no local": 0.4, "twin": 0.1}
SEEDS, FOLDS = (0, 1, 2), (1, 2)


def cells(without=(), **changes):
    return {
        (name, seed, fold): finished(fold, seed, WRONG[name], name=name, **changes)
        for seed in SEEDS
        for name in ROWS
        for fold in FOLDS
        if (name, seed, fold) not in without
    }


@pytest.fixture(scope="module")
def whole():
    return ablation_result.summarise(cells(), ROWS, SEEDS, FOLDS)


def test_means_deviations_and_differences_are_over_the_seeds(whole):
    found = cells()
    f1 = {
        name: [np.mean([found[name, s, k].scores.mean_f1 for k in FOLDS]) for s in SEEDS]
        for name in ROWS
    }
    for name, values in f1.items():
        row = whole["rows"][name]
        assert list(row["f1"]["seeds"].values()) == pytest.approx(values)
        assert row["f1"]["mean"] == pytest.approx(np.mean(values))
        assert row["f1"]["deviation"] == pytest.approx(np.std(values, ddof=1))
    differences = np.subtract(f1["no local"], f1["full"])
    d = whole["rows"]["no local"]["difference"]
    assert d["mean"] == pytest.approx(differences.mean())
    assert d["deviation"] == pytest.approx(np.std(differences, ddof=1))
    assert "difference" not in whole["rows"]["full"]
    assert whole["missing"] == []
    assert set(whole["rows"]["full"]["per_au"]) == set(AUS)


def test_the_interval_is_of_the_same_subjects_of_both_rows_and_all_seeds(whole):
    found = cells()

    def pooled(name, seed):
        parts = [found[name, seed, fold].counts for fold in FOLDS]
        return bootstrap.Counts(*(np.concatenate(v) for v in zip(*parts, strict=True)))

    runs = [[pooled(name, seed) for seed in SEEDS] for name in ("no local", "full")]
    draws = bootstrap.resample_difference(*runs)
    d = whole["rows"]["no local"]["difference"]
    assert (d["low"], d["high"]) == bootstrap.interval(draws, 5)
    assert d["p"] == bootstrap.p_value(draws, 5)
    assert d["high"] < 0 and d["p_holm"] < 0.01
    twin = whole["rows"]["twin"]["difference"]
    assert (twin["mean"], twin["low"], twin["high"], twin["p_holm"]) == (0, 0, 0, 1)


def test_missing_cells_are_null_and_named(tmp_path):
    without = {("no local", 1, 2), ("twin", 0, 1)}
    result = ablation_result.summarise(cells(without), ROWS, SEEDS, FOLDS)
    plain = json.loads(json_text(result))
    assert plain["missing"] == ["no local, seed 1, fold 2", "twin, seed 0, fold 1"]
    row = plain["rows"]["no local"]
    assert row["f1"]["mean"] is None and row["f1"]["seeds"]["1"] is None
    assert row["f1"]["seeds"]["0"] is not None
    assert {row["difference"][key] for key in ("mean", "low", "high", "p", "p_holm")} == {None}
    assert row["per_au"]["4"] is None
    assert plain["rows"]["full"]["f1"]["mean"] is not None
    text = ablation_result.table_of(result).text()
    assert "no local, seed 1, fold 2; twin, seed 0, fold 1" in text
    parse(render_ablation(result))
    assert ",," in ablation_result.csv_of(result)


def test_a_unit_that_one_row_never_learns_counts_in_no_row(whole):
    found = cells()
    found["twin", 1, 2] = unlearned(found["twin", 1, 2], 12)
    result = ablation_result.summarise(found, ROWS, SEEDS, FOLDS)
    assert result["left_out"] == {12: [2]}
    assert "AU12 counts in no mean of fold 2: at least one run there has no F1 of it." in (
        ablation_result.table_of(result).notes
    )
    for name in ROWS:
        unit = found[name, 1, 2].scores.per_au
        of_folds = found[name, 1, 1].scores.mean_f1, np.mean([unit[4]["f1"], unit[26]["f1"]])
        assert result["rows"][name]["f1"]["seeds"][1] == pytest.approx(np.mean(of_folds))
    # The row is the reference's twin but for that cell: on the same units nothing differs.
    twin = result["rows"]["twin"]["difference"]
    assert (twin["mean"], twin["pooled"], twin["low"], twin["high"]) == (0, 0, 0, 0)
    assert np.isnan(result["rows"]["twin"]["per_au"][12])


def test_the_table_has_the_pointing_game_where_maps_are_scored(whole):
    assert not any("pointing" in column for column in ablation_result.table_of(whole).columns)
    found = cells()
    for key, cell in found.items():
        game = {"pointing_game": 0.9, "words_pointing_game": 0.2 if key[0] == "full" else np.nan}
        scores = replace(cell.scores, explanations=cell.scores.explanations | game)
        found[key] = replace(cell, scores=scores)
    result = ablation_result.summarise(found, ROWS, SEEDS, FOLDS)
    table = ablation_result.table_of(result)
    assert table.columns[-2:] == ("pointing game", "pointing game of words")
    assert [row[-2:] for row in table.rows] == [
        ("0.900 ± 0.000", "0.200 ± 0.000"),
        ("0.900 ± 0.000", "-"),
        ("0.900 ± 0.000", "-"),
    ]
    assert "pointing game of words" in render_ablation(result)


def test_the_pooled_difference_is_the_one_that_the_interval_is_of(whole):
    d = whole["rows"]["no local"]["difference"]
    assert d["low"] < d["pooled"] < d["high"] and d["pooled"] != d["mean"]
    assert "with the counts of all folds pooled" in ablation_result.table_of(whole).text()
    one_fold = {key: cell for key, cell in cells().items() if key[2] == 1}
    result = ablation_result.summarise(one_fold, ROWS, SEEDS, (1,))
    d = result["rows"]["no local"]["difference"]
    assert d["pooled"] == pytest.approx(d["mean"])


def test_without_the_reference_there_is_no_difference():
    without = {("full", 0, 1)}
    result = ablation_result.summarise(cells(without), ROWS, SEEDS, FOLDS)
    assert np.isnan(result["rows"]["twin"]["difference"]["low"])
    assert not np.isnan(result["rows"]["twin"]["f1"]["mean"])


def test_cells_of_other_people_or_protocol_are_refused():
    found = cells()
    found["twin", 1, 2] = finished(3, 1, name="twin")
    with pytest.raises(UserError, match="test other people or frames"):
        ablation_result.summarise(found, ROWS, SEEDS, FOLDS)
    found = cells() | {("twin", 1, 2): finished(2, 1, name="twin", step=8)}
    with pytest.raises(UserError, match=r"twin, fold 2 cannot be in one table: step is 7"):
        ablation_result.summarise(found, ROWS, SEEDS, FOLDS)


def test_the_page_shows_every_row_and_needs_no_network(whole):
    page = parse(render_ablation(whole))
    assert all(address.startswith(("#", "data:")) for address in addresses(page))
    rows, differences, units = page.all("table")
    assert [row.all("th")[0].text.strip() for row in rows.one("tbody").all("tr")] == list(ROWS)
    assert len(units.one("tbody").all("td")) == len(ROWS) * len(AUS)
    assert "SYNTHETIC" in page.one("p", "warn").text
    for table in (rows, differences, units):
        check_table(table)
    plotted = differences.one("tbody").all("tr")
    assert [row.one("th").text for row in plotted] == [*ROWS][1:]
    low, high = (float(end.text) for end in differences.one("thead").one(class_="ends").all("span"))
    d = whole["rows"]["no local"]["difference"]
    assert low < d["low"] < d["high"] < 0 < high

    def value(element):
        share = float(re.search(r"left:([\d.]+)%", element["style"])[1]) / 100
        return low + share * (high - low)

    plot = plotted[0].one(class_="whiskers")
    assert value(plot.one("u")) == pytest.approx(d["mean"], abs=1e-3)
    assert value(plot.one("s")) == pytest.approx(0, abs=1e-3)
    assert value(plot.one("i")) == pytest.approx(d["low"], abs=1e-3)
    width = float(re.search(r"width:([\d.]+)%", plot.one("i")["style"])[1]) / 100 * (high - low)
    assert width == pytest.approx(d["high"] - d["low"], abs=1e-3)
    seeds = list(d["seeds"].values())
    assert [value(dot) for dot in plot.all("em")] == pytest.approx(seeds, abs=1e-3)


def test_a_page_without_differences_plots_none(whole):
    alone = ablation_result.summarise(
        {key: one for key, one in cells().items() if key[0] == "full"}, {"full": {}}, SEEDS, FOLDS
    )
    assert not parse(render_ablation(alone)).all(class_="whiskers")
    missing = ablation_result.summarise(
        {key: one for key, one in cells().items() if key[0] == "full"}, ROWS, SEEDS, FOLDS
    )
    assert not parse(render_ablation(missing)).all(class_="whiskers")


def test_markdown_latex_and_csv_hold_the_table(whole):
    table = ablation_result.table_of(whole)
    markdown, latex, csv = table.markdown(), table.latex(), ablation_result.csv_of(whole)
    for name in ROWS:
        assert f"\n| {name} |" in markdown
        assert f"  {name} & " in latex
        assert f"\n{name}," in csv
    assert r"$\pm$" in latex and "95\\%" in latex and r"\toprule" in latex
    assert "SYNTHETIC" in markdown and "SYNTHETIC" in latex


def rows_of(config, names=None, file="ablation"):
    return studies._rows(config, studies._chosen(read_ablation(file), names), {})


@pytest.mark.parametrize("config", ["bp4d", "disfa", "demo:scratch", "study"])
def test_every_row_that_ships_is_an_experiment_of_its_own(config, tmp_path):
    name, _, args = config.partition(":")
    rows = rows_of(experiment(name).get_config(*filter(None, [args])))
    study = plan(rows, tmp_path, (0, 1, 2), (1,))
    assert [row.name for row in rows][:4] == ["full", "no local", "no global", "no captions"]
    for row in rows:
        _check_fit(row.settings)
    assert len(study.cells) == 3 * len(rows) == len({c.folder for c in study.cells.values()})


def test_the_choices_of_rows_that_ship():
    names = {choice: list(read_ablation(f"ablation:{choice}")) for choice in ("core", "captions")}
    assert names["core"] == ["full", "no local", "no global", "no captions", "no DAIR"]
    assert names["captions"] == ["full", "no captions"]
    assert read_ablation(f"{CONFIGS}/ablation.py") == read_ablation("ablation:all")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_rows(): return {'full': {}, 'x': {'model.tap': (1,)}}", "nearest is 'taps'"),
        ("def get_rows(): return {'full': {}, 'x': {'model.taps': (9,)}}", "row 'x' cannot be bu"),
        ("def get_rows(): return {'full': {}, 'x': {'train.steps': 1}}", "which all rows share"),
        ("def get_rows(): return {'full': {}, 'x': {}}", "are the same experiment"),
        ("def get_rows(): return {'full': {}, '../x': {'seed': 1}}", "row '../x': give a name"),
        ("def get_rows(): return {'full': {}, 'FULL': {'model.dropout': 0}}", "comes twice"),
        ("def get_rows(): return {'full': {}, 'x': {'model': 3}}", "a group of keys"),
        ("def get_rows(): return {'full': {}, 'x': {1: 3}}", "is no {key: value}"),
        ("def get_rows(): return {}", "returns no rows"),
        ("def get_rows(): return [1]", "returns no rows"),
        ("def rows(): return {}", "has no function get_rows"),
        ("def get_rows(): return 1 / 0", "rows.py:1: ZeroDivisionError"),
    ],
)
def test_a_mistake_in_the_rows_is_one_line(tmp_path, text, message):
    path = tmp_path / "rows.py"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        plan(rows_of(experiment("demo").get_config(), file=str(path)), tmp_path / "s", (0,), (1,))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_only_keeps_the_files_order_and_refuses_other_names():
    rows = rows_of(experiment("demo").get_config(), "no DAIR, full")
    assert [row.name for row in rows] == ["full", "no DAIR"]
    with pytest.raises(UserError, match="no row 'ful'; there are full, no local"):
        rows_of(experiment("demo").get_config(), "ful")


def small_study(folder: Path) -> ablation.Ablation:
    rows = [Row("full", {}, tiny_settings()), Row("x y", {"s": 1}, resolve({}))]
    return plan(rows, folder, (3, 4), (1, 2))


def test_jobs_are_parts_of_the_study(tmp_path):
    study = small_study(tmp_path)
    every = study.of(Job())
    assert len(every) == 8
    assert [cell.folder for cell in every[:3]] == [
        tmp_path / "full/seed3/fold1",
        tmp_path / "full/seed3/fold2",
        tmp_path / "x_y/seed3/fold1",
    ]
    assert [study.of(Job(cell=k + 1)) for k in range(8)] == [[cell] for cell in every]
    (one,) = study.of(Job(row="x y", seed=4, fold=2))
    assert (one.title, one.settings.seed, one.settings.data.fold) == ("x y, seed 4, fold 2", 4, 2)
    assert len(study.of(Job(row="full"))) == 4


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (Job(cell=9), "--cell=9: the study has cells 1 to 8"),
        (Job(row="z"), "--row=z: the study has full, x y"),
        (Job(seed=5), "--seed=5: the study has 3, 4"),
        (Job(fold=3), "--fold=3: the study has 1, 2"),
    ],
)
def test_a_job_outside_the_study_is_refused(tmp_path, job, message):
    with pytest.raises(UserError, match=message):
        small_study(tmp_path).of(job)


def test_a_fold_that_tests_nobody_is_refused(tmp_path):
    with pytest.raises(UserError, match="fold 0 tests nobody"):
        plan([Row("full", {}, tiny_settings())], tmp_path, (0,), (0,))


def test_people_of_the_examples_are_in_one_fold_each():
    assert len({s for people in PEOPLE.values() for s in people}) == 7
