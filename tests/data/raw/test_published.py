"""The published facts agree with one another, and with the sums that others publish."""

import pytest

from vlfau_jax.data.raw.published import BP4D_RUNS, DISFA_EXCLUDED, DISFA_RUNS, PUBLISHED
from vlfau_jax.data.read.folds import PARTS
from vlfau_jax.facs import BP4D_AUS, DISFA_AUS


def frames(runs, subjects):
    return sum(last - first + 1 for (s, _), (first, last) in runs.items() if s in subjects)


def test_bp4d_has_41_subjects_in_8_tasks_and_the_published_frames():
    assert {s for s, _ in BP4D_RUNS} == {s for part in PARTS["bp4d"] for s in part}
    assert len(BP4D_RUNS) == 328 and {task for _, task in BP4D_RUNS} == set(range(1, 9))
    assert all(1 <= first < last for first, last in BP4D_RUNS.values())
    assert PUBLISHED["bp4d"].frames == 146_847
    assert [frames(BP4D_RUNS, part) for part in PARTS["bp4d"]] == [50_631, 50_182, 46_034]
    sizes = [PUBLISHED["bp4d"].frames_of(part) for part in PARTS["bp4d"]]
    assert sizes == [50_631, 50_182, 46_034] and not PUBLISHED["bp4d"].excluded
    assert BP4D_RUNS["F001", 1] == (2440, 2992) and BP4D_RUNS["F003", 6] == (1, 211)


def test_disfa_has_27_subjects_and_the_published_frames():
    assert len(DISFA_RUNS) == 27 and PUBLISHED["disfa"].frames == 130_814
    assert DISFA_RUNS["SN010", 1] == (1, 4844) and DISFA_RUNS["SN032", 1] == (1, 4845)


def test_excluded_stretches_leave_what_others_count():
    left = dict.fromkeys(PARTS["disfa"], 0)
    for part in PARTS["disfa"]:
        left[part] = frames(DISFA_RUNS, part) - sum(
            last - first + 1 for s in part for first, last in DISFA_EXCLUDED.get(s, ())
        )
    assert list(left.values()) == [43_173, 40_344, 42_627]
    assert 130_814 - sum(left.values()) == 4_670
    published = PUBLISHED["disfa"]
    assert [published.frames_of(p) - published.excluded_of(p) for p in left] == [*left.values()]
    for subject, stretches in DISFA_EXCLUDED.items():
        ends = [end for stretch in stretches for end in stretch]
        assert ends == sorted(set(ends)) and ends[-1] <= DISFA_RUNS[subject, 1][1]


@pytest.mark.parametrize(("dataset", "aus"), [("bp4d", BP4D_AUS), ("disfa", DISFA_AUS)])
def test_rates_are_in_the_benchmarks_order(dataset, aus):
    published = PUBLISHED[dataset]
    assert tuple(published.rates) == aus and all(0 < r < 100 for r in published.rates.values())
    rarest = min(published.rates, key=published.rates.get)
    assert rarest == {"bp4d": 24, "disfa": 9}[dataset]


def test_weights_are_those_of_twelve_units_and_fall_with_the_rates():
    weights, rates = PUBLISHED["bp4d"].weights, PUBLISHED["bp4d"].rates
    assert sum(weights.values()) == pytest.approx(12, abs=1e-5)
    inverse = {au: 1 / rate for au, rate in rates.items()}
    for au, weight in weights.items():  # fold 1 trains on two thirds of all frames
        assert weight == pytest.approx(12 * inverse[au] / sum(inverse.values()), rel=0.15)
