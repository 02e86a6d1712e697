"""Hidden parts of faces: what is hidden, in which order, and what a known model answers."""

from types import SimpleNamespace

import numpy as np
import pytest

from vlfau_jax.errors import UserError
from vlfau_jax.evaluation import counterfactual
from vlfau_jax.evaluation.counterfactual import STEPS, Case, check_faces

SIZE, GRID = 28, (7, 7)


def case(rng, region=None, row=0, unit=0):
    if region is None:
        region = np.zeros((SIZE, SIZE), bool)
        region[4:8, 8:20] = True
    return Case(row, unit, rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8), region)


def test_what_is_hidden_is_blurred_and_nothing_else_is(rng):
    one = case(rng)
    covered = one.hidden(one.region)
    np.testing.assert_array_equal(covered[~one.region], one.image[~one.region])
    assert covered[one.region].std() < 0.5 * one.image[one.region].std()
    np.testing.assert_array_equal(one.hidden(np.ones_like(one.region)), one.blurred)


def test_the_control_is_as_large_and_elsewhere(rng):
    one = case(rng)
    assert one.control.sum() == one.region.sum()
    assert not (one.control & one.region).any()
    np.testing.assert_array_equal(one.control[4 + SIZE // 2 : 8 + SIZE // 2], one.region[4:8])


def test_cells_are_hidden_from_the_highest_on(rng):
    one = case(rng, row=5)
    maps = rng.random((1, 1, *GRID))
    order = counterfactual._order(one, [5], maps, GRID)
    steps = list(counterfactual._steps(order, one, GRID))
    assert len(steps) == STEPS - 1
    for step, hidden in enumerate(steps, 1):
        cells = hidden.reshape(7, 4, 7, 4).transpose(0, 2, 1, 3).reshape(7, 7, -1)
        assert (cells.all(-1) == cells.any(-1)).all(), "whole cells"
        first = cells.any(-1)
        assert first.sum() == round(step * 49 / STEPS)
        assert maps[0, 0][first].min() > maps[0, 0][~first].max()
    again = counterfactual._order(one, [5], None, GRID)
    assert sorted(again) == list(range(49))
    np.testing.assert_array_equal(again, counterfactual._order(one, [5], None, GRID))


@pytest.mark.parametrize("order", ["region", "elsewhere"])
def test_areas_of_a_model_that_looks_at_the_region(rng, order):
    """A map of the region falls at once and rises at once; one of elsewhere does neither."""
    one = case(rng)
    other = one.region if order == "region" else one.control
    maps = other.reshape(7, 4, 7, 4).mean((1, 3))[None, None]
    ran = []

    def run(program, images, names, text):
        images = list(images)
        ran.append((text, len(images)))
        seen = [(image[one.region] == one.image[one.region]).mean() for image in images]
        return {"au_probabilities": np.array(seen)[:, None]}

    found = counterfactual._areas([one], [0], {"branch": maps}, np.ones(1), run, None)
    assert found.keys() == {"deletion", "insertion"}
    low, high = (found[k]["branch"] for k in ("deletion", "insertion"))
    if order == "region":  # 3 of 49 cells: gone with the first step
        assert low < 0.1 < 0.9 < high
    else:
        assert low > 0.3
        assert high < 0.7
    assert low < found["deletion"]["random"] or order == "elsewhere"
    assert ran[0] == ("all hidden", 1)
    assert {count for _, count in ran[1:]} == {STEPS - 1}


def test_without_cases_nothing_is_computed():
    empty = counterfactual._areas([], [], {}, np.zeros(0), None, None)
    assert empty == {"deletion": {}, "insertion": {}}


def test_faces_are_evenly_spaced_and_each_once():
    answers = SimpleNamespace(keys=np.zeros((10, 3)))
    assert counterfactual._chosen(answers, 4) == [0, 3, 6, 9]
    assert counterfactual._chosen(answers, 99) == list(range(10))
    assert counterfactual._chosen(answers, 1) == [0]


def test_faces_whose_units_lie_nobody_knows_where_are_refused():
    dataset = SimpleNamespace(
        sets=[SimpleNamespace(rendered_tree=None)], crop={"name": "none", "parameters": {}}
    )
    check_faces(0, dataset)
    with pytest.raises(UserError, match="--counterfactual=3: crop rule none"):
        check_faces(3, dataset)
