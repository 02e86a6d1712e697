"""A warm start may not have seen the people who are tested."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import noise_set
from vlfau_jax.data.read.dataset import combine
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.data.text.descriptions import built_in
from vlfau_jax.data.text.vocabulary import Vocabulary
from vlfau_jax.errors import UserError
from vlfau_jax.facs import BP4D_AUS
from vlfau_jax.files import file_digest
from vlfau_jax.train.provenance import check_provenance, provenance, seen_before, seen_people
from vlfau_jax.train.warm_start import save_warm_start

WORDS = ("<pad>", "brow")


def faces(offset, synthetic=True, name="bp4d"):
    """Three people whose AU1 is on in as many frames as their number plus `offset`."""
    noise = noise_set(name, ("F001", "F003", "M002"))
    occurrence = np.zeros_like(noise.codes["occurrence"])
    for k in range(3):
        occurrence[np.flatnonzero(noise.codes["subject"] == k)[: k + offset], 0] = 1
    codes = dict(noise.codes) | {"occurrence": occurrence}
    changed = replace(noise, codes=codes, synthetic=synthetic)
    return combine((changed,), DataOptions(name=name, aus=(12,)))


@pytest.fixture
def warm(tmp_path):
    def make(seen, drop=(), aus=BP4D_AUS, units=None, **changes):
        note = provenance(seen, aus, WORDS) | changes
        note |= {} if units is None else {"aus": units}
        path = tmp_path / "warm.safetensors"
        save_warm_start(
            {"a": np.ones(2)}, path, {key: note[key] for key in note if key not in drop}
        )
        return path

    return make


def check(path, dataset, kept_back):
    return check_provenance(path, seen_people(dataset, kept_back), WORDS)[0]


def test_other_people_are_fine_and_recorded(warm):
    people = seen_people(faces(0), ("F001", "F003"))
    record = check(warm(people), faces(0), ("M002",))
    assert (record["people"], record["trained_on"]) == ("2", "rendered faces")
    # As a checkpoint gives it back.
    kept = json.loads(json.dumps(record | {"file": "w", "sha256": "s"}))
    assert seen_before(kept) == people
    assert seen_before(None) == seen_before({"file": "backbone", "sha256": "s"}) == ()


def test_the_same_person_is_refused_by_name(warm):
    path = warm(seen_people(faces(0), ("F001", "M002")))
    with pytest.raises(UserError, match="M002, who would be tested"):
        check(path, faces(0), ("M002",))


def test_rendered_people_of_another_seed_only_share_their_ids(warm):
    check(warm(seen_people(faces(0), ("M002",))), faces(1), ("M002",))


def test_both_people_of_one_id_are_known(warm):
    both = seen_people(faces(0), ("M002",)) + seen_people(faces(1), ("M002",))
    for offset in (0, 1):
        with pytest.raises(UserError, match="M002"):
            check(warm(both), faces(offset), ("M002",))
    check(warm(both), faces(2), ("M002",))


def test_in_a_real_set_the_id_is_the_person(warm):
    path = warm(seen_people(faces(0, synthetic=False), ("M002",)))
    with pytest.raises(UserError, match="M002"):
        check(path, faces(1, synthetic=False), ("M002",))
    check(path, faces(0), ("M002",))  # a rendered one is somebody else


def test_the_units_and_words_that_were_learned_are_read(warm):
    swapped = (2, 1, *BP4D_AUS[2:])
    record, learned = check_provenance(warm((), aus=swapped), (), ("<pad>", "lip"))
    assert learned == (swapped, WORDS) and "words" not in record
    # An earlier version kept only their digest.
    path = warm((), drop=("words",))
    assert check_provenance(path, (), WORDS)[1].words == WORDS
    with pytest.raises(UserError, match=r"other words .* does not list them"):
        check_provenance(path, (), ("<pad>", "lip"))
    for kind, aus in (("states", BP4D_AUS), ("paraphrased", (1, 5))):
        words = Vocabulary.build(built_in(kind, aus)).words
        digest = provenance((), (), words)["vocabulary_sha256"]
        path = warm((), drop=("words",), vocabulary_sha256=digest)
        assert check_provenance(path, (), ("<pad>", "lip"))[1].words == words


def test_damaged_or_missing_notes_are_refused(warm):
    dataset = faces(0)
    for damaged in ("", "1 1", "1  2", "1 x", "1 3", "1" * 5000):
        with pytest.raises(UserError, match="its action units are damaged") as error:
            check(warm((), units=damaged), dataset, ())
        assert len(str(error.value)) < 300
    for damaged in ("[[1]]", '["<pad>"]', '["<pad>", "brow", "brow"]', "7"):
        with pytest.raises(UserError, match="its list of words is damaged"):
            check(warm((), words=damaged), dataset, ())
    with pytest.raises(UserError, match="does not say its people"):
        check(warm((), drop=("people",)), dataset, ())
    for damaged in ("[[1]]", "[1", "7", '["abc", null]'):
        with pytest.raises(UserError, match="its list of people is damaged"):
            check(warm((), people=damaged), dataset, ())
    with pytest.raises(UserError, match="cannot be read"):
        check(Path("/nowhere"), dataset, ())


def test_ids_are_people_only_within_a_data_set(warm):
    path = warm(seen_people(faces(0, synthetic=False), ("M002",)))
    check(path, faces(0, synthetic=False, name="folder"), ("M002",))


def mixture(**synthetic):
    """BP4D and DISFA combined, each rendered or real."""
    bp4d, disfa = noise_set(), noise_set("disfa", ("SN001", "SN002"))
    sets = tuple(replace(one, synthetic=synthetic[one.name]) for one in (bp4d, disfa))
    return combine(sets, DataOptions(name="bp4d+disfa", aus=(12,)))


def alone(name, synthetic, seed=3):
    subjects = {"bp4d": ("F001", "F003", "M001", "M003"), "disfa": ("SN001", "SN002")}
    one = replace(noise_set(name, subjects[name], seed), synthetic=synthetic)
    return combine((one,), DataOptions(name=name, aus=(12,)))


def test_a_mixture_knows_the_people_of_its_sets(warm):
    both, disfa = mixture(bp4d=True, disfa=True), alone("disfa", True)
    for one, other in ((both, disfa), (disfa, both)):
        path = warm(seen_people(one, ("SN002",)))
        check(path, other, ("SN001",))
        with pytest.raises(UserError, match="trained on SN002"):
            check(path, other, ("SN002",))


def test_each_set_of_a_mixture_is_rendered_or_real_for_itself(warm):
    half = mixture(bp4d=True, disfa=False)
    path = warm(seen_people(half, ("F001", "SN002")))
    assert check(path, half, ())["trained_on"] == "faces not marked as rendered and rendered faces"
    # Other labels of the same id: the same person where real, another where rendered.
    with pytest.raises(UserError, match="trained on SN002"):
        check(path, alone("disfa", False, seed=4), ("SN002",))
    check(path, alone("bp4d", True, seed=4), ("F001",))
    check(path, alone("bp4d", False), ("F001",))
    with pytest.raises(UserError, match="trained on F001"):
        check(path, alone("bp4d", True), ("F001",))


def earlier(dataset, people):
    """What an earlier version wrote of people."""
    digests = {
        one: hashlib.sha256(
            json.dumps(dataset.set_of(one).totals(one), sort_keys=True).encode()
        ).hexdigest()[:12]
        for one in people
    }
    trained_on = "rendered faces" if dataset.synthetic else "faces not marked as rendered"
    return {"dataset": dataset.name, "trained_on": trained_on, "people": json.dumps(digests)}


def test_notes_of_an_earlier_version_count(warm):
    path = warm((), **earlier(faces(0), ("M002",)))
    check(path, faces(1), ("M002",))
    with pytest.raises(UserError, match="trained on M002"):
        check(path, faces(0), ("M002",))
    path = warm((), **earlier(faces(0, synthetic=False), ("M002",)))
    with pytest.raises(UserError, match="trained on M002"):
        check(path, faces(1, synthetic=False), ("M002",))
    half = mixture(bp4d=False, disfa=True)
    path = warm((), **earlier(half, ("F001", "SN002")))
    for dataset, person in ((alone("disfa", True), "SN002"), (alone("bp4d", False, 4), "F001")):
        with pytest.raises(UserError, match=f"trained on {person}"):
            check(path, dataset, (person,))


def test_a_run_of_an_earlier_version_needs_the_file_that_it_began_from(warm):
    path = warm((), **earlier(faces(0), ("M002",)))
    record = {"file": str(path), "sha256": file_digest(path), "people": "1"}
    assert seen_before(record) == seen_people(faces(0), ("M002",))
    for other in (record | {"sha256": "0" * 64}, record | {"file": "/nowhere"}):
        with pytest.raises(UserError, match=r"put it back .*or train the run again"):
            seen_before(other)


def test_the_shipped_warm_start_still_names_its_people():
    path = Path(__file__).parents[2] / "configs" / "demo_warm_start.safetensors"
    record = {"file": str(path), "sha256": file_digest(path), "people": "480"}
    people = seen_before(record)
    assert len(people) == 480 and {one.dataset for one in people} == {"bp4d"}
    assert all(one.rendered for one in people)
