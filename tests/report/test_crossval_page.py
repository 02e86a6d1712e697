"""crossval.html: every fold with a link to its page, every unit and metric, and what is missing."""

import dataclasses

import pytest

from tests.report.html_tree import addresses, check_table, parse
from tests.studies.examples import AUS, PEOPLE, finished
from vlfau_jax.report.crossval_page import MOST_COLUMNS, render_crossval
from vlfau_jax.studies.crossval import summarise


def result(tmp_path, silent=(), folds=(1, 2, 3), present=(1, 2, 3), pages=(1, 2)):
    cells = {}
    for fold in present:
        one = finished(fold, silent=silent if fold == 2 else ())
        folder = tmp_path / f"fold{fold}"
        folder.mkdir()
        if fold in pages:
            (folder / "report.html").write_text("page")
        cells[fold] = dataclasses.replace(one, cell=dataclasses.replace(one.cell, folder=folder))
    return summarise(cells, folds)


def tables(page):
    return {table.one("caption").text: table for table in page.all("table")}


def cells_of(row):
    return [cell.text for cell in row.all("td")]


def test_every_fold_has_a_row_and_a_link_where_its_page_is(tmp_path):
    found = result(tmp_path)
    assert [one["report"] for one in found["folds"].values()] == [
        "fold1/report.html",
        "fold2/report.html",
        None,
    ]
    page = parse(render_crossval(found))
    outside = [address for address in addresses(page) if not address.startswith(("#", "data:"))]
    assert outside == ["fold1/report.html", "fold2/report.html"]
    for table in page.all("table"):
        check_table(table)
    rows = tables(page)["Scores of every fold"].one("tbody").all("tr")
    for (fold, people), row in zip(PEOPLE.items(), rows, strict=True):
        one = found["folds"][fold]
        assert row.one("th").text == str(fold)
        link, subjects, frames, common, own, *_ = cells_of(row)
        assert link == ("report.html" if fold < 3 else "-")
        assert (subjects, frames) == (str(len(people)), str(one["frames"]))
        assert common == f"{one['mean_f1_of_common_units']:.3f}" and own == f"{one['mean_f1']:.3f}"
    figures = [card.text for card in page.one(class_="figures").all(class_="card")]
    assert figures[0].startswith(f"{found['mean_f1']:.3f}mean F1± {found['deviation']:.3f}")
    low, high = found["interval"]["low"], found["interval"]["high"]
    assert f"95 % interval {low:.3f} to {high:.3f}" in figures[1]
    assert "SYNTHETIC" in page.one("p", "warn").text


def test_every_unit_has_its_folds_mean_deviation_and_pooled_score(tmp_path):
    found = result(tmp_path, silent=(26,))
    page = parse(render_crossval(found))
    rows = tables(page)["F1 of every unit by fold"].one("tbody").all("tr")
    assert len(rows) == len(AUS)
    for au, row in zip(AUS, rows, strict=True):
        unit = found["per_au"][au]
        plot, *folds, mean, pooled = row.all("td")
        expected = ["-" if value != value else f"{value:.3f}" for value in unit["folds"].values()]
        assert [cell.text for cell in folds] == expected
        assert pooled.text == f"{unit['f1']['pooled']:.3f}"
        if au == 26:
            assert mean.text == "-" and not plot.all("u") and len(plot.all("em")) == 2
        else:
            assert mean.text == f"{unit['f1']['mean']:.3f} ± {unit['f1']['deviation']:.3f}"
            assert plot.one("u")["style"] == f"left:{100 * unit['f1']['mean']:.1f}%"
    metrics = tables(page)["Every metric of every unit over the folds"]
    heads = [head.text.strip() for head in metrics.one("thead").all("th")]
    assert heads[:4] == ["unit", "precision", "recall", "accuracy"] and "ICC" not in heads
    unit = found["per_au"][4]["recall"]
    assert cells_of(metrics.one("tbody").all("tr")[0])[1] == (
        f"{unit['mean']:.3f} ± {unit['deviation']:.3f}"
    )
    assert "AU26 lacks an F1 in some folds and is in no mean" in page.text


def test_without_a_fold_there_is_no_mean(tmp_path):
    page = parse(render_crossval(result(tmp_path, present=(1, 3))))
    assert "1 of 3 folds are missing" in page.text
    figures = [card.text for card in page.one(class_="figures").all(class_="card")]
    assert figures[0].startswith("-mean F1") and figures[1].startswith("-pooled F1")
    assert not page.all("u")


def test_many_folds_have_dots_and_no_columns(tmp_path, monkeypatch):
    monkeypatch.setattr("vlfau_jax.report.crossval_page.MOST_COLUMNS", 2)
    assert MOST_COLUMNS > 3
    table = tables(parse(render_crossval(result(tmp_path))))["F1 of every unit by fold"]
    check_table(table)
    assert len(table.one("thead").all("th")) == 4
    assert len(table.one("tbody").all("tr")[0].all("em")) == 3


@pytest.mark.parametrize("text", ["<script>x</script>", "\"&'</td>"])
def test_names_from_data_stay_text(tmp_path, text):
    found = result(tmp_path)
    found["note"] = found["protocol"]["label_rule"] = text
    found["folds"][1]["test_subjects"] = (text,)
    found["test_subjects"] = [text]
    page = parse(render_crossval(found))
    assert page.text.count(text) >= 3 and len(page.all("script")) == 2
