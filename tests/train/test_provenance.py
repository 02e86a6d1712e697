"""A warm start may not have seen the people who are tested."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vlfau_jax.data.pipeline import Dataset
from vlfau_jax.errors import UserError
from vlfau_jax.facs import BP4D_AUS
from vlfau_jax.train.provenance import check_provenance, provenance
from vlfau_jax.train.warm_start import save_warm_start

WORDS = ("<pad>", "brow")


def faces(offset, synthetic=True):
    counts = {
        person: {"frames": 9, "positives": [k + offset] * 12, "known": [9] * 12}
        for k, person in enumerate(("F001", "F003", "M002"))
    }
    return Dataset("bp4d", Path("x"), BP4D_AUS, tuple(counts), (1,), {}, synthetic, counts)


@pytest.fixture
def warm(tmp_path):
    def make(dataset, people, drop=(), aus=BP4D_AUS):
        note = provenance(dataset, people, aus, WORDS)
        path = tmp_path / "warm.safetensors"
        save_warm_start(
            {"a": np.ones(2)}, path, {key: note[key] for key in note if key not in drop}
        )
        return path

    return make


def test_other_people_are_fine_and_counted(warm):
    path = warm(faces(0), ("F001", "F003"))
    note = check_provenance(path, faces(0), ("M002",), BP4D_AUS, WORDS)
    assert note["people"] == "2"
    assert note["trained_on"] == "rendered faces"


def test_the_same_person_is_refused_by_name(warm):
    path = warm(faces(0), ("F001", "M002"))
    with pytest.raises(UserError, match="M002, who would be tested"):
        check_provenance(path, faces(0), ("M002",), BP4D_AUS, WORDS)


def test_rendered_people_of_another_seed_only_share_their_ids(warm):
    path = warm(faces(0), ("M002",))
    check_provenance(path, faces(1), ("M002",), BP4D_AUS, WORDS)


def test_in_a_real_set_the_id_is_the_person(warm):
    path = warm(faces(0, synthetic=False), ("M002",))
    with pytest.raises(UserError, match="M002"):
        check_provenance(path, faces(1, synthetic=False), ("M002",), BP4D_AUS, WORDS)


def test_other_units_words_or_no_note_are_refused(warm):
    dataset, swapped = faces(0), (2, 1, *BP4D_AUS[2:])
    with pytest.raises(UserError, match="other action units"):
        check_provenance(warm(dataset, (), aus=swapped), dataset, (), BP4D_AUS, WORDS)
    with pytest.raises(UserError, match="other words"):
        check_provenance(warm(dataset, ()), dataset, (), BP4D_AUS, ("<pad>", "lip"))
    with pytest.raises(UserError, match="does not say its people"):
        check_provenance(warm(dataset, (), drop=("people",)), dataset, (), BP4D_AUS, WORDS)
    with pytest.raises(UserError, match="cannot be read"):
        check_provenance(Path("/nowhere"), dataset, (), BP4D_AUS, WORDS)


def test_the_record_survives_a_set_that_is_renamed(warm):
    path = warm(faces(0), ("M002",))
    other = replace(faces(0), name="folder")
    check_provenance(path, other, ("M002",), BP4D_AUS, WORDS)
