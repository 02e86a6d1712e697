"""Training data that are made scarcer on purpose: nested, of training people alone."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.sets import Person, coded, write_set
from vlfau_jax.data.read.dataset import open_dataset
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.data.read.scarcity import open_for_training
from vlfau_jax.errors import UserError

PEOPLE = tuple(f"{sex}{k:03d}" for k in range(1, 7) for sex in "FM")
SHARES = st.floats(0, 0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    rng = np.random.default_rng(1)
    write_set(root, "bp4d", coded(rng, "bp4d", PEOPLE, 40))
    write_set(root, "disfa", coded(rng, "disfa", ("SN001", "SN003", "SN004", "SN006"), 4))
    return root


def opened(folder, seed=0, **options):
    options = DataOptions(**{"name": "bp4d", "data_dir": str(folder), **options})
    return (*open_for_training(options, seed), open_dataset(options))


@given(st.integers(0, 3), st.integers(1, 8), st.integers(1, 8))
def test_fewer_people_are_among_more(folder, seed, few, many):
    few, many = sorted((few, many))
    _, smaller, whole = opened(folder, seed, training_subjects=few)
    _, larger, _ = opened(folder, seed, training_subjects=many)
    everyone = whole.split(1)
    assert len(smaller.train) == few and len(larger.train) == many
    assert set(smaller.train) <= set(larger.train) <= set(everyone.train)
    assert smaller.test == larger.test == everyone.test


def test_other_seeds_draw_other_people(folder):
    assert len({opened(folder, seed, training_subjects=3)[1].train for seed in range(9)}) > 3


def test_a_mixture_draws_from_its_sets_in_turn(folder):
    _, split, _ = opened(folder, name="bp4d+disfa", training_subjects=4)
    assert sum(subject.startswith("SN") for subject in split.train) == 2
    with pytest.raises(UserError, match=r"data\.training_subjects=1: give a number from 2 to"):
        opened(folder, name="bp4d+disfa", training_subjects=1)


@given(st.integers(0, 3), SHARES, SHARES)
def test_wrong_labels_are_nested_and_of_training_people(folder, seed, low, high):
    low, high = sorted((low, high))
    found, split, whole = opened(folder, seed, label_noise=low)
    wrong = found.labels.au ^ whole.labels.au
    more = opened(folder, seed, label_noise=high)[0].labels.au ^ whole.labels.au
    assert not (wrong & ~more).any() and not (wrong & ~whole.labels.known).any()
    mine = np.isin(whole.subjects, split.train)[whole.labels.subject]
    assert not more[~mine].any()
    assert abs(wrong[mine].mean() - low) < 0.05
    assert np.array_equal(found.kept, whole.kept)


def test_a_flipped_label_has_no_intensity(folder):
    found, _, whole = opened(folder, name="disfa", label_noise=0.5)
    wrong = found.labels.au ^ whole.labels.au
    assert wrong.any() and (found.labels.level[wrong] == -1).all()
    assert np.array_equal(found.labels.level[~wrong], whole.labels.level[~wrong])


@given(st.integers(0, 3), st.floats(0.7, 1), st.floats(0.7, 1))
def test_active_labels_become_rare(folder, seed, low, high):
    low, high = sorted((low, high))
    found, split, whole = opened(folder, seed, active_share=low)
    rows, more = (
        set(one.rows(split.train)) for one in (found, opened(folder, seed, active_share=high)[0])
    )
    assert rows <= more <= set(whole.rows(split.train))
    active = whole.labels.au.sum(1)
    expected = sum(low ** int(active[row]) for row in whole.rows(split.train))
    assert abs(len(rows) - expected) < 5 * max(1, expected) ** 0.5
    assert found.rows(split.test).tolist() == whole.rows(split.test).tolist()
    assert {row for row in whole.rows(split.train) if not active[row]} <= rows


def test_nothing_left_is_said(folder, tmp_path):
    with pytest.raises(UserError, match=r"data\.training_subjects=99: give a number from 1 to"):
        opened(folder, training_subjects=99)
    always = np.ones((3, 12), np.int8)
    write_set(tmp_path, "bp4d", [Person(name, (1, 2, 3), always) for name in ("F001", "M001")])
    with pytest.raises(UserError, match=r"data\.active_share=1e-06 leaves no face"):
        opened(tmp_path, active_share=1e-6, fold=0)
