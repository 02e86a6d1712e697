from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlfau_jax.data.read.folds import draw_validation, split_subjects
from vlfau_jax.data.sets import BP4D, FOLDER, SETS
from vlfau_jax.errors import UserError

PARTS = {name: one.published.parts for name, one in SETS.items() if one.published.parts}
EVERYBODY = {name: tuple(s for part in parts for s in part) for name, parts in PARTS.items()}


@pytest.mark.parametrize(("name", "sizes"), [("bp4d", (14, 14, 13)), ("disfa", (9, 9, 9))])
def test_parts_have_the_published_sizes_and_are_disjoint(name, sizes):
    assert tuple(map(len, PARTS[name])) == sizes
    for one, other in combinations(PARTS[name], 2):
        assert not set(one) & set(other)


def test_bp4d_has_all_41_subjects():
    women = {f"F{i:03d}" for i in range(1, 24)}
    assert set(EVERYBODY["bp4d"]) == women | {f"M{i:03d}" for i in range(1, 19)}


@pytest.mark.parametrize("name", PARTS)
def test_each_subject_is_tested_once_and_never_by_its_own_training(name):
    tested = []
    for fold in (1, 2, 3):
        train, test = split_subjects(SETS[name], EVERYBODY[name], fold)
        assert not set(train) & set(test)
        assert sorted(train + test) == sorted(EVERYBODY[name])
        tested += test
    assert sorted(tested) == sorted(EVERYBODY[name])


@pytest.mark.parametrize(("fold", "subject"), [(1, "F004"), (2, "F003"), (3, "F001")])
def test_fold_numbers_follow_me_graphau(fold, subject):
    assert subject in split_subjects(BP4D, EVERYBODY["bp4d"], fold)[1]


def test_fold_zero_trains_all_and_others_leave_extra_subjects_out():
    subjects = ("F004", "F001", "F024")
    assert split_subjects(BP4D, subjects, 0) == (("F001", "F004", "F024"), ())
    assert split_subjects(BP4D, subjects, 1) == (("F001",), ("F004",))


@pytest.mark.parametrize(
    ("name", "subjects", "fold", "message"),
    [
        ("bp4d", ("F001", "F004"), 4, "data.fold=4"),
        ("bp4d", ("F001", "F004"), -1, "data.fold=-1"),
        ("bp4d", ("F001",), 1, "no test subject"),
        ("bp4d", ("F004", "F024"), 1, "no training subject"),
        ("folder", ("anna", "bea"), 3, "no test subject.*it tests no subject"),
        ("folder", ("anna",), 1, "no training subject among anna.*more subjects, or data.fold=0 "),
    ],
)
def test_errors_name_the_fold(name, subjects, fold, message):
    with pytest.raises(UserError, match=message) as error:
        split_subjects(SETS[name], subjects, fold)
    assert "\n" not in str(error.value)


def test_parts_have_the_published_numbers_of_frames():
    published = {"bp4d": [50_631, 50_182, 46_034], "disfa": [43_604, 43_605, 43_605]}
    for name, sizes in published.items():
        runs = SETS[name].published.runs
        frames = dict.fromkeys(EVERYBODY[name], 0)
        for (subject, _), (first, last) in runs.items():
            frames[subject] += last - first + 1
        assert [sum(frames[s] for s in part) for part in PARTS[name]] == sizes


def test_folds_that_the_data_state_are_followed():
    given = {"anna": 3, "bea": 1, "carl": 1, "dora": 2}
    assert split_subjects(FOLDER, tuple(given), 1, given) == (("anna", "dora"), ("bea", "carl"))
    assert split_subjects(FOLDER, tuple(given), 3, given) == (("bea", "carl", "dora"), ("anna",))
    assert split_subjects(FOLDER, tuple(given), 0, given) == (tuple(sorted(given)), ())


def test_published_parts_precede_folds_in_the_data():
    assert split_subjects(BP4D, ("F001", "F004"), 1, {"F001": 1}) == (("F001",), ("F004",))


def test_subjects_without_a_fold_are_assigned_in_sorted_order():
    subjects = ("e", "a", "d", "b", "c")
    tested = [split_subjects(FOLDER, subjects, fold)[1] for fold in (1, 2, 3)]
    assert tested == [("a", "d"), ("b", "e"), ("c",)]


NAMES = st.lists(st.text("abc", min_size=1, max_size=3), min_size=3, unique=True)


@given(NAMES, st.data())
def test_each_subject_is_tested_once_and_never_trained_on_then(subjects, data):
    given = {s: data.draw(st.integers(1, 3)) for s in subjects} if data.draw(st.booleans()) else {}
    tested = []
    for fold in (1, 2, 3):
        try:
            train, test = split_subjects(FOLDER, subjects, fold, given)
        except UserError:
            continue
        assert sorted(train + test) == sorted(subjects)
        assert all(given.get(s, fold) == fold for s in test)
        tested += test
    assert len(set(tested)) == len(tested)


@given(
    groups=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    count=st.integers(0, 30),
    seed=st.integers(0, 2**31 - 1),
)
def test_validation_takes_turns_and_leaves_a_training_subject(groups, count, seed):
    subjects = [[f"{k}_{i}" for i in range(size)] for k, size in enumerate(groups)]
    try:
        drawn = draw_validation(subjects, count, seed)
    except UserError as error:
        most = int(str(error).rpartition(" ")[2])
        assert most < count and "\n" not in str(error)
        assert len(draw_validation(subjects, most, seed)) == most
        return
    assert len(set(drawn)) == count and drawn == tuple(sorted(drawn))
    assert drawn == draw_validation([theirs[::-1] for theirs in subjects], count, seed)
    shares = [len(set(theirs) & set(drawn)) for theirs in subjects]
    assert max(shares) - min(shares) <= 1
    assert all(share < size for share, size in zip(shares, groups, strict=True))


def test_the_seed_decides_whom_validation_takes():
    drawn = {draw_validation([EVERYBODY["bp4d"]], 5, seed) for seed in range(20)}
    assert len(drawn) == 20
    assert len(set().union(*drawn)) > 30
