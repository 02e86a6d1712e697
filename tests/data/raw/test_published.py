"""The published facts agree with one another, and with the sums that others publish."""

import pytest

from vlfau_jax.data.raw.bp4d_published import BP4D_PUBLISHED as BP4D
from vlfau_jax.data.raw.disfa_published import DISFA_PUBLISHED as DISFA
from vlfau_jax.data.sets import SETS
from vlfau_jax.facs import BP4D_AUS, DISFA_AUS


def frames(runs, subjects):
    return sum(last - first + 1 for (s, _), (first, last) in runs.items() if s in subjects)


def test_bp4d_has_41_subjects_in_8_tasks_and_the_published_frames():
    assert {s for s, _ in BP4D.runs} == {s for part in BP4D.parts for s in part}
    assert len(BP4D.runs) == 328 and {task for _, task in BP4D.runs} == set(range(1, 9))
    assert all(1 <= first < last for first, last in BP4D.runs.values())
    assert BP4D.frames == 146_847
    assert [frames(BP4D.runs, part) for part in BP4D.parts] == [
        50_631,
        50_182,
        46_034,
    ]
    sizes = [BP4D.frames_of(part) for part in BP4D.parts]
    assert sizes == [50_631, 50_182, 46_034] and not BP4D.excluded
    assert BP4D.runs["F001", 1] == (2440, 2992) and BP4D.runs["F003", 6] == (
        1,
        211,
    )


def test_disfa_has_27_subjects_and_the_published_frames():
    assert len(DISFA.runs) == 27 and DISFA.frames == 130_814
    assert DISFA.runs["SN010", 1] == (1, 4844) and DISFA.runs["SN032", 1] == (
        1,
        4845,
    )


def test_excluded_stretches_leave_what_others_count():
    left = dict.fromkeys(DISFA.parts, 0)
    for part in DISFA.parts:
        left[part] = frames(DISFA.runs, part) - sum(
            last - first + 1 for s in part for first, last in DISFA.excluded.get(s, ())
        )
    assert list(left.values()) == [43_173, 40_344, 42_627]
    assert 130_814 - sum(left.values()) == 4_670
    published = DISFA
    assert [published.frames_of(p) - published.excluded_of(p) for p in left] == [*left.values()]
    for subject, stretches in DISFA.excluded.items():
        ends = [end for stretch in stretches for end in stretch]
        assert ends == sorted(set(ends)) and ends[-1] <= DISFA.runs[subject, 1][1]


@pytest.mark.parametrize(("dataset", "aus"), [("bp4d", BP4D_AUS), ("disfa", DISFA_AUS)])
def test_rates_are_in_the_benchmarks_order(dataset, aus):
    published = SETS[dataset].published
    assert tuple(published.rates) == aus and all(0 < r < 100 for r in published.rates.values())
    rarest = min(published.rates, key=published.rates.get)
    assert rarest == {"bp4d": 24, "disfa": 9}[dataset]


def test_weights_are_those_of_twelve_units_and_fall_with_the_rates():
    weights, rates = BP4D.weights, BP4D.rates
    assert sum(weights.values()) == pytest.approx(12, abs=1e-5)
    inverse = {au: 1 / rate for au, rate in rates.items()}
    for au, weight in weights.items():  # fold 1 trains on two thirds of all frames
        assert weight == pytest.approx(12 * inverse[au] / sum(inverse.values()), rel=0.15)
