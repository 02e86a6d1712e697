from itertools import combinations

import pytest

from vlfau_jax.data.folds import PARTS, split_subjects
from vlfau_jax.errors import UserError

EVERYBODY = {name: tuple(s for part in parts for s in part) for name, parts in PARTS.items()}


@pytest.mark.parametrize(("name", "sizes"), [("bp4d", (14, 14, 13)), ("disfa", (9, 9, 9))])
def test_parts_have_the_published_sizes_and_share_nobody(name, sizes):
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
        train, test = split_subjects(name, EVERYBODY[name], fold)
        assert not set(train) & set(test)
        assert sorted(train + test) == sorted(EVERYBODY[name])
        tested += test
    assert sorted(tested) == sorted(EVERYBODY[name])


@pytest.mark.parametrize(("fold", "subject"), [(1, "F004"), (2, "F003"), (3, "F001")])
def test_fold_numbers_follow_me_graphau(fold, subject):
    assert subject in split_subjects("bp4d", EVERYBODY["bp4d"], fold)[1]


def test_fold_zero_trains_everybody_and_others_leave_extras_out():
    subjects = ("F004", "F001", "F024")
    assert split_subjects("bp4d", subjects, 0) == (("F001", "F004", "F024"), ())
    assert split_subjects("bp4d", subjects, 1) == (("F001",), ("F004",))


@pytest.mark.parametrize(
    ("name", "subjects", "fold", "message"),
    [
        ("bp4d", ("F001", "F004"), 4, "data.fold=4"),
        ("bp4d", ("F001", "F004"), -1, "data.fold=-1"),
        ("bp4d", ("F001",), 1, "no test subject"),
        ("bp4d", ("F004", "F024"), 1, "no training subject"),
        ("ck+", ("S1",), 1, "bp4d, disfa"),
    ],
)
def test_errors_name_the_fold(name, subjects, fold, message):
    with pytest.raises(UserError, match=message) as error:
        split_subjects(name, subjects, fold)
    assert "\n" not in str(error.value)
