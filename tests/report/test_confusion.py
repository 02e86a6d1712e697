"""Confusion and co-occurrence: numbers of scores.json, as the page shows them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluation.example_scores import example
from tests.report.html_tree import check_table, parse
from vlfau_jax.data.read.statistics import phi
from vlfau_jax.evaluation.json_values import to_json
from vlfau_jax.evaluation.scoring import cooccurrence
from vlfau_jax.metrics.scored import ScoredFrames
from vlfau_jax.report import render
from vlfau_jax.report.confusion import MOST_PAIRS, confusion, differing

AUS = (1, 2, 4, 12, 17)


def scored(seed=0, untaught=(), frames=60):
    rng = np.random.default_rng(seed)
    labels = rng.random((frames, len(AUS))) < 0.4
    known = rng.random(labels.shape) < 0.9
    probabilities = np.clip(labels + rng.normal(0, 0.45, labels.shape), 0, 1).astype(np.float32)
    active = probabilities > 0.5
    return ScoredFrames(AUS, probabilities, active, labels.astype(int), known, untaught)


def values_of(frames):
    """What scores.json holds of some frames, as far as it is read here."""
    return to_json({"aus": AUS, "per_au": frames.per_au, "cooccurrence": cooccurrence(frames)})


@given(st.integers(0, 1000))
def test_the_four_cells_are_counted_over_the_known_frames(seed):
    frames = scored(seed, frames=20)
    units, whole = confusion(values_of(frames))
    for i, row in enumerate(units):
        known = frames.known[:, i]
        on, said = frames.labels[known, i] == 1, frames.active[known, i]
        assert (row.tp, row.fn) == ((on & said).sum(), (on & ~said).sum())
        assert (row.fp, row.tn) == ((~on & said).sum(), (~on & ~said).sum())
        assert row.found == (pytest.approx(said[on].mean()) if on.any() else None)
        assert row.false_alarms == (pytest.approx(said[~on].mean()) if (~on).any() else None)
    cells = [sum(getattr(row, cell) for row in units) for cell in ("tp", "fn", "fp", "tn")]
    assert [whole.tp, whole.fn, whole.fp, whole.tn] == cells
    assert sum(cells) == frames.known.sum()


def test_a_unit_that_was_not_taught_has_no_cells():
    units, whole = confusion(values_of(scored(untaught=(4,))))
    assert (units[2].tp, units[2].tn, units[2].found) == (None, None, None)
    assert whole.tp == sum(row.tp for row in units if row.au != 4)
    values = values_of(scored())
    for unit in values["per_au"].values():  # as earlier versions wrote it
        del unit["true_positives"]
    assert confusion(values) is None


def test_labels_and_predictions_are_compared_over_the_same_frames():
    frames = scored(untaught=(17,))
    found = cooccurrence(frames)
    np.testing.assert_array_equal(found["labels"], phi(frames.labels, frames.known))
    taught = np.array(AUS) != 17
    np.testing.assert_array_equal(
        np.array(found["predictions"])[np.ix_(taught, taught)],
        phi(frames.active[:, taught], frames.known[:, taught]),
    )
    assert np.isnan(found["predictions"][4]).all() and not np.isnan(found["labels"]).any()


def test_the_pairs_that_differ_most_come_first():
    values = values_of(scored(untaught=(17,)))
    pairs = differing(values)
    assert len(pairs) == 6 <= MOST_PAIRS, "those of the four units that were taught"
    found = values["cooccurrence"]
    for pair in pairs:
        i, j = AUS.index(pair.one), AUS.index(pair.other)
        assert (pair.labels, pair.predictions) == (
            found["labels"][i][j],
            found["predictions"][i][j],
        )
        assert pair.difference == pair.predictions - pair.labels
    sizes = [abs(pair.difference) for pair in pairs]
    assert sizes == sorted(sizes, reverse=True)
    assert differing({"aus": AUS}) == differing({"aus": AUS, "cooccurrence": {}}) == []


def test_the_page_shows_both():
    frames = scored(untaught=(4,))
    values = {**example().to_json(), **values_of(frames), "folds": None, "untaught": {"4": "x"}}
    values |= {"threshold": 0.5, "maps_per_au": {}}
    values["floors_per_au"] = {}
    page = parse(render(values, [], []))
    tables = {table.one("caption").text: table for table in page.all("table")}
    cells = tables["True and false positives and negatives of every unit"]
    check_table(cells)
    (units, whole) = confusion(values)
    row = [cell.text for cell in cells.one("tbody").all("tr")[0].all("td")]
    one = units[0]
    assert row[1:4] == [str(one.tp), str(one.fn), f"{100 * one.found:.1f} %"]
    assert row[5:] == [str(one.tn), str(one.fp), f"{100 * one.false_alarms:.1f} %"]
    assert [c.text for c in cells.one("tbody").all("tr")[2].all("td")][1:4] == ["-"] * 3
    bars = cells.one("tbody").all("tr")[0].all(class_="split")
    assert bars[0].one("i", "right")["style"] == f"width:{100 * one.found:.1f}%"
    assert cells.one("tfoot").all("td")[1].text == f"{whole.tp:,}"
    for name in ("labels", "predictions"):
        matrix = tables[name.capitalize()]
        check_table(matrix)
        texts = [cell.text for cell in matrix.one("tbody").all("tr")[0].all("td")]
        assert texts[0] == "" and len(texts) == len(AUS)
        assert (texts[2] == "-") == (name == "predictions")
    (pairs,) = [table for caption, table in tables.items() if "differs most" in caption]
    check_table(pairs)
    assert len(pairs.one("tbody").all("tr")) == len(differing(values))
    plain = parse(render({**values, "cooccurrence": {}}, [], []))
    assert "Co-occurrence" not in plain.text
