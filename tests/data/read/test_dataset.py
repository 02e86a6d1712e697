"""What is on disk becomes the data set of an experiment, or one line says why not."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.sets import CROP, Person, coded, picture, write_set
from vlfau_jax.data.read.dataset import Dataset, open_dataset
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.data.read.protocol import protocol
from vlfau_jax.errors import UserError
from vlfau_jax.facs import BP4D_AUS, DISFA_AUS

WOMEN_AND_MEN = ("F001", "F002", "F003", "F004", "M001", "M002", "M003")
DISFA_PEOPLE = ("SN001", "SN003", "SN004", "SN006")


def opened(folder: Path, name: str = "bp4d", **options) -> Dataset:
    return open_dataset(DataOptions(name=name, data_dir=str(folder), **options))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Sets of all three kinds: 7 subjects of BP4D, 4 of DISFA, 5 of a folder."""
    root = tmp_path_factory.mktemp("sets")
    rng = np.random.default_rng(1)
    write_set(root, "bp4d", coded(rng, "bp4d", WOMEN_AND_MEN, 3))
    write_set(root, "disfa", coded(rng, "disfa", DISFA_PEOPLE, 4))
    own = coded(rng, "folder", ("anna", "bea", "carl"), 2, sex="female")
    own += coded(rng, "folder", ("dora", "emil"), 2, sex="male")
    write_set(root, "folder", own)
    return root


def test_a_set_is_read_as_it_was_written(folder):
    dataset = opened(folder)
    assert (dataset.name, dataset.aus, dataset.subjects) == ("bp4d", BP4D_AUS, WOMEN_AND_MEN)
    assert dataset.nouns == ("woman",) * 4 + ("man",) * 3
    assert dataset.synthetic and dataset.crop == CROP
    codes = dataset.sets[0].codes["occurrence"]
    assert np.array_equal(dataset.labels.au, codes == 1) and dataset.labels.known.all()
    assert (dataset.labels.level == -1).all()
    rows = dataset.rows(["M001", "F002"])
    assert rows.dtype == np.int64 and rows.tolist() == [3, 4, 5, 12, 13, 14]
    source = dataset.source(rows)
    assert len(source) == 6
    for row, example in zip(rows, source, strict=True):
        subject, frame = dataset.labels.subject[row], dataset.labels.frame[row]
        assert example["image"] == picture(subject, frame, 24)
        assert example["source"].decode() == f"{dataset.subjects[subject]}/{frame}.jpg"
    active, known = dataset.label_counts(rows)
    assert active.tolist() == (codes[rows] == 1).sum(0).tolist() and set(known) == {6}


def test_units_are_chosen_in_the_sets_order(folder):
    assert opened(folder, aus=(12, 4)).aus == (4, 12)
    assert opened(folder, "disfa").aus == DISFA_AUS
    chosen = opened(folder, "disfa", aus=(25, 5))  # AU5 is coded, but no benchmark's
    assert chosen.aus == (5, 25)
    intensity = chosen.sets[0].codes["intensity"][:, [3, 10]]
    assert np.array_equal(chosen.labels.au, intensity >= 2)
    assert np.array_equal(chosen.labels.level, intensity)


@pytest.mark.parametrize(
    ("name", "aus", "message"),
    [
        ("bp4d", (12, 26), r"data\.aus=\(12, 26\) has AU26; of the units that bp4d .* 1, 2, 4"),
        ("bp4d", (12, 12), "has a unit twice"),
        ("disfa", (7,), r"AU7; .* disfa codes, .* sentences: 1, 2, 4, 5, 6, 9, 12, 15, 17, 20"),
        ("bp4d+disfa", (99,), r"bp4d\+disfa codes, .* sentences: 1, 2, 4, 5, 6, 7, 9, 10"),
    ],
)
def test_units_that_cannot_be_learned(folder, name, aus, message):
    with pytest.raises(UserError, match=message) as error:
        opened(folder, name, aus=aus)
    assert "\n" not in str(error.value)


def test_a_unit_asked_for_must_be_known_somewhere(tmp_path):
    codes = np.ones((2, 12), np.int8)
    codes[:, BP4D_AUS.index(4)] = -1
    write_set(tmp_path, "bp4d", [Person("F001", (1, 2), occurrence=codes)])
    assert not opened(tmp_path).coded[0, BP4D_AUS.index(4)]
    with pytest.raises(UserError, match=r"data\.aus=\(12, 4\): no label of AU4 is known in"):
        opened(tmp_path, aus=(12, 4))


def test_the_threshold_moves_intensities_alone(folder):
    low, high = (opened(folder, "bp4d+disfa", threshold=k) for k in (1, 2))
    disfa = low.labels.part == 1
    assert np.array_equal(low.labels.au[~disfa], high.labels.au[~disfa])
    columns = [low.sets[1].aus.index(au) for au in DISFA_AUS]
    levels = low.sets[1].codes["intensity"][:, columns]
    where = np.isin(low.aus, DISFA_AUS)
    for dataset, threshold in ((low, 1), (high, 2)):
        found = dataset.labels.au[disfa][:, where]
        assert found.sum() == (levels >= threshold).sum()
        assert np.array_equal(found, levels >= threshold)


@pytest.fixture(scope="module")
def excluding(tmp_path_factory) -> Path:
    """SN002 and SN004 around the borders of their excluded stretches, 800-826 and 4541-4555."""
    root = tmp_path_factory.mktemp("excluded")
    people = [
        Person(name, frames, intensity=np.full((len(frames), 12), 3))
        for name, frames in (("SN002", (799, 800, 826, 827)), ("SN004", range(4540, 4557)))
    ]
    write_set(root, "disfa", people)
    return root


def test_excluded_frames_are_in_no_row_and_no_count(excluding):
    kept, whole = (opened(excluding, "disfa", exclude_stretches=k) for k in (True, False))
    rows = kept.rows(kept.subjects)
    assert kept.labels.frame[rows].tolist() == [799, 827, 4540, 4556]
    assert kept.label_counts(rows)[1].tolist() == [4] * 8
    assert len(whole.rows(whole.subjects)) == 21
    found = [example["source"].decode() for example in kept.source(rows)]
    assert found == ["SN002/799.jpg", "SN002/827.jpg", "SN004/4540.jpg", "SN004/4556.jpg"]


def test_a_mixture_masks_what_a_set_does_not_code(folder):
    mixture = opened(folder, "bp4d+disfa")
    assert mixture.name == "bp4d+disfa"
    assert mixture.aus == (1, 2, 4, 6, 7, 9, 10, 12, 14, 15, 17, 23, 24, 25, 26)
    assert mixture.subjects == WOMEN_AND_MEN + DISFA_PEOPLE
    # DISFA codes AU15 and AU17, too, though its benchmark does not score them.
    only = {"bp4d": BP4D_AUS, "disfa": (*DISFA_AUS, 15, 17)}
    for part, (name, aus) in enumerate(only.items()):
        alone = opened(folder, name, aus=aus)
        rows = np.flatnonzero(mixture.labels.part == part)
        units = np.isin(mixture.aus, aus)
        assert np.array_equal(mixture.coded[part], units)
        for field in ("au", "known"):
            found = getattr(mixture.labels, field)[rows]
            assert np.array_equal(found[:, units], getattr(alone.labels, field))
            assert not found[:, ~units].any()
        level = mixture.labels.level[rows]
        assert np.array_equal(level[:, units], alone.labels.level)
        assert (level[:, ~units] == -1).all()
        subjects = np.array(mixture.subjects)[mixture.labels.subject[rows]]
        assert subjects.tolist() == np.array(alone.subjects)[alone.labels.subject].tolist()
        for row, example in zip(rows, mixture.source(rows), strict=True):
            subject, frame = subjects[row - rows[0]], mixture.labels.frame[row]
            assert example["source"].decode() == f"{subject}/{frame}.jpg"
            assert example["image"] == picture(alone.subjects.index(subject), frame, 24)


def test_a_face_of_which_nothing_chosen_is_known_is_not_trained_on(folder):
    mixture = opened(folder, "bp4d+disfa", aus=(7,))  # DISFA does not code it
    assert (mixture.labels.part[mixture.rows(mixture.subjects)] == 1).sum() == 16
    trained = mixture.training_rows(mixture.subjects)
    assert trained.tolist() == np.flatnonzero(mixture.labels.part == 0).tolist()
    whole = opened(folder, "bp4d+disfa")
    assert whole.training_rows(["F002"]).tolist() == whole.rows(["F002"]).tolist() == [3, 4, 5]


def test_sets_join_in_any_order_and_number(folder):
    mixture = opened(folder, "disfa+folder+bp4d")
    assert [one.name for one in mixture.sets] == ["disfa", "folder", "bp4d"]
    assert mixture.subjects == tuple(sorted(mixture.subjects))
    assert mixture.parts[mixture.subjects.index("anna")] == 1
    assert mixture.nouns[mixture.subjects.index("emil")] == "man"
    assert mixture.nouns[mixture.subjects.index("SN001")] == "person"
    assert len(mixture.labels) == 21 + 16 + 10


def test_sets_that_cannot_be_combined(folder, tmp_path):
    rng = np.random.default_rng(1)
    write_set(tmp_path, "bp4d", coded(rng, "bp4d", ("F001",), 2))
    write_set(tmp_path, "folder", coded(rng, "folder", ("F001",), 2))
    other = CROP | {"name": "cascade", "digest": "1" * 16}
    write_set(tmp_path, "disfa", coded(rng, "disfa", ("SN001",), 2), crop=other)
    for name, message in (
        ("bp4d+folder", "F001 is in another set"),
        ("bp4d+disfa", "cropped by cascade .1{16}.* by none .0{16}.*one rule"),
        ("bp4d+bp4d", "'bp4d.bp4d' names a set twice"),
        ("bp4d+", "data.name='' is not a data set"),
    ):
        with pytest.raises(UserError, match=message) as error:
            opened(tmp_path, name)
        assert "\n" not in str(error.value)


def test_each_set_of_a_mixture_may_have_its_own_variant(tmp_path):
    rng = np.random.default_rng(1)
    write_set(tmp_path, "bp4d", coded(rng, "bp4d", ("F001",), 2))
    for variant in ("none_24", "none_24_right"):
        write_set(tmp_path, "disfa", coded(rng, "disfa", ("SN001",), 2), variant=variant)
    both = opened(tmp_path, "bp4d+disfa", variant="none_24+none_24_right")
    assert [one.folder.parent.name for one in both.sets] == ["none_24", "none_24_right"]
    one = opened(tmp_path, "bp4d+disfa", variant="none_24")
    assert [one.folder.parent.name for one in one.sets] == ["none_24", "none_24"]
    with pytest.raises(UserError, match="3 variants for 2 sets"):
        opened(tmp_path, "bp4d+disfa", variant="a+b+c")


@given(
    name=st.sampled_from(["bp4d", "disfa", "folder", "bp4d+disfa", "disfa+folder+bp4d"]),
    fold=st.integers(0, 3),
    count=st.integers(0, 6),
    seed=st.integers(0, 2**31 - 1),
)
def test_the_sides_of_a_split_are_disjoint(folder, name, fold, count, seed):
    dataset = cached(folder, name)
    try:
        split = dataset.split(fold, count, seed)
    except UserError as error:
        assert "\n" not in str(error)
        return
    train, validation, test = map(set, split)
    assert len(train) + len(validation) + len(test) == len(train | validation | test)
    assert (len(validation), bool(test)) == (count, fold > 0)
    assert split == dataset.split(fold, count, seed)
    assert split.test == dataset.split(fold, 0, 0).test  # validation takes no test subject
    for one in dataset.sets:
        assert train & set(one.subjects)
        assert not fold or test & set(one.subjects)
    rows = [set(dataset.rows(side).tolist()) for side in split]
    assert sum(map(len, rows)) == len(set.union(*rows))


def cached(folder, name, known={}):  # noqa: B006
    return known.setdefault((folder, name), opened(folder, name))


def test_protocol_states_what_two_scores_may_differ_in(folder, excluding):
    def described(folder, **options):
        options = DataOptions(data_dir=str(folder), **options)
        return protocol(open_dataset(options), options)

    bp4d = described(folder)
    assert (bp4d["layout"], bp4d["camera"], bp4d["frame_offset"]) == ("raw", None, 0)
    assert bp4d["label_rule"] == (
        "active where the occurrence code is 1; unknown codes are left out"
    )
    assert (bp4d["label_threshold"], bp4d["excluded_stretches"]) == (None, "none")
    disfa = described(excluding, name="disfa", threshold=1)
    assert disfa["label_rule"].startswith("active where the intensity is 1 or more;")
    assert (disfa["label_threshold"], disfa["camera"]) == (1, "left")
    assert disfa["excluded_stretches"] == "JAA-Net's list: 17 frames"
    assert (
        described(excluding, name="disfa", exclude_stretches=False)["excluded_stretches"] == "none"
    )
    both = described(folder, name="bp4d+disfa")
    assert both["label_threshold"] == {"bp4d": None, "disfa": 2}
    assert both["excluded_stretches"]["disfa"] == "JAA-Net's list: 0 frames"
    assert both["crop_rule"] == CROP


def test_a_rule_of_both_kinds_names_both_if_both_are_chosen(tmp_path):
    codes = {"occurrence": [[1, -1, -1]], "intensity": [[-1, 1, -1]]}  # of AU4, AU12, AU26
    write_set(tmp_path, "folder", [Person("a", (1,), **codes)])

    def described(*aus):
        options = DataOptions(name="folder", data_dir=str(tmp_path), aus=aus)
        message = protocol(open_dataset(options), options)
        return message["label_rule"], message["label_threshold"]

    both, threshold = described()
    assert "code is 1 or, of units without occurrence codes, the intensity is 2 or more" in both
    assert threshold == 2
    assert described(4) == (
        "active where the occurrence code is 1; unknown codes are left out",
        None,
    )
    alone, threshold = described(12)
    assert alone.startswith("active where the intensity is 2 or more;") and threshold == 2


def test_a_missing_set_names_the_command_that_prepares_one(tmp_path):
    with pytest.raises(UserError, match="prepare --dataset=bp4d --raw_dir=DIR") as error:
        opened(tmp_path)
    assert "\n" not in str(error.value)


def test_a_name_that_prepare_refuses_is_not_advised(tmp_path):
    with pytest.raises(
        UserError, match=r"data\.name='disfaa' is not .* one of bp4d, .*bp4d\+disfa$"
    ) as error:
        opened(tmp_path, "disfaa")
    assert "--dataset" not in str(error.value)


def test_a_variant_chooses_among_several(dataset, tmp_path):
    root = tmp_path / "bp4d"
    for variant in ("none_64", "none_65"):
        target = root / variant / "2.0.0"
        target.mkdir(parents=True)
        for path in dataset.sets[0].folder.iterdir():
            (target / path.name).symlink_to(path)
    with pytest.raises(UserError, match="none_64, none_65"):
        opened(tmp_path)
    with pytest.raises(UserError, match=r"data\.variant='cascade_64'"):
        opened(tmp_path, variant="cascade_64")
    found = opened(tmp_path, variant="none_65").sets[0].folder
    assert found == root / "none_65" / "2.0.0"
