from contextlib import closing
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from vlfau_jax.data import batch as batches
from vlfau_jax.data.captions import CaptionTables, global_description
from vlfau_jax.data.pipeline import DataOptions, eval_iterator, open_prepared, train_iterator
from vlfau_jax.data.vocabulary import Vocabulary
from vlfau_jax.errors import UserError
from vlfau_jax.facs import BP4D_AUS

VOCABULARY = Vocabulary.build()
CAPTIONS = CaptionTables(BP4D_AUS, VOCABULARY)
OPTIONS = DataOptions(image_size=32, threads=0)


def take(iterator, count: int) -> list[batches.Batch]:
    with closing(iterator):
        return list(islice(iterator, count))


def train(dataset, options=OPTIONS, captions=CAPTIONS, **arguments):
    arguments = {"batch_size": 4, "seed": 3, **arguments}
    return train_iterator(dataset, dataset.subjects, captions, options, **arguments)


def evaluate(dataset, options=OPTIONS, captions=CAPTIONS, **arguments):
    return eval_iterator(dataset, dataset.subjects, captions, options, batch_size=4, **arguments)


def spec_of(captions, batch_size=4):
    return batches.spec(
        batch_size=batch_size,
        image_size=32,
        units=len(captions.aus),
        local_length=captions.local_length,
        global_length=captions.global_length,
    )


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key in one:
        assert np.array_equal(one[key], other[key]), key


def rows(stream):
    return {tuple(key) for batch in stream for key in batch["key"][batch["valid"]].tolist()}


def test_batches_keep_the_contract(dataset):
    for stream in (take(train(dataset), 9), take(evaluate(dataset), 9)):
        for batch in stream:
            batches.check(batch, spec_of(CAPTIONS))


def test_evaluation_shows_every_example_once_in_order_and_fills_up(dataset):
    stream = take(evaluate(dataset), 99)
    assert len(stream) == 4
    valid = np.concatenate([batch["valid"] for batch in stream])
    assert valid.tolist() == [True] * 15 + [False]
    keys = np.concatenate([batch["key"] for batch in stream])[:15].tolist()
    assert keys == [[s, 6, frame] for s in range(3) for frame in range(1, 6)]
    assert not any(stream[-1][key][-1].any() for key in stream[-1])


def test_rows_say_what_the_set_says(dataset):
    stream = take(evaluate(dataset), 4)
    examples = iter(dataset.source(dataset.subjects))
    for batch in stream:
        for i in np.flatnonzero(batch["valid"]):
            codes = next(examples)["occurrence"]
            assert np.array_equal(batch["au"][i], codes == 1)
            assert np.array_equal(batch["au_known"][i], codes >= 0)
            noun = "woman" if batch["key"][i, 0] < 2 else "man"
            sentence = VOCABULARY.decode(batch["global_tokens"][i])
            if (codes >= 0).all():
                assert sentence == global_description(BP4D_AUS, codes, noun)


def test_an_unknown_label_is_masked_and_unspoken(dataset):
    stream = take(evaluate(dataset), 4)
    known = np.concatenate([batch["au_known"] for batch in stream])[:15]
    row, unit = map(int, np.argwhere(~known)[0])
    assert (~known).sum() == 1 and unit == BP4D_AUS.index(14)
    batch, i = stream[row // 4], row % 4
    assert batch["key"][i].tolist() == [2, 6, 2]
    assert batch["au"][i, unit] == 0
    assert not batch["local_tokens"][i, unit].any() and not batch["global_tokens"][i].any()
    assert batch["local_tokens"][i, unit - 1].any()


def test_training_runs_over_everybody_each_epoch_in_new_order(dataset):
    stream = take(train(dataset, batch_size=5), 6)
    first, second = stream[:3], stream[3:]
    assert len(rows(first)) == len(rows(second)) == 15
    order = [np.concatenate([b["key"] for b in epoch]).tolist() for epoch in (first, second)]
    assert order[0] != order[1]
    images = {b["image"][i].tobytes() for b in stream for i in range(5)}
    assert len(images) == 30  # no view comes twice


def test_step_k_is_a_function_of_seed_and_k(dataset):
    whole = take(train(dataset), 12)
    for start in (1, 7):
        for one, other in zip(
            whole[start:], take(train(dataset, start_step=start), 3), strict=False
        ):
            assert_same(one, other)
    assert not np.array_equal(whole[0]["key"], take(train(dataset, seed=4), 1)[0]["key"])


def test_threads_and_processes_change_nothing(dataset):
    plain = take(train(dataset), 5)
    for options in (replace(OPTIONS, threads=3), replace(OPTIONS, workers=1)):
        for one, other in zip(plain, take(train(dataset, options), 5), strict=True):
            assert_same(one, other)


def test_hosts_share_what_one_host_would_see(dataset):
    whole = take(train(dataset), 5)
    shares = [take(train(dataset, host=host, hosts=2), 5) for host in (0, 1)]
    for step, batch in enumerate(whole):
        parts = [share[step] for share in shares]
        assert all(len(part["valid"]) == 2 for part in parts)
        for key in batch:
            assert np.array_equal(batch[key][0::2], parts[0][key])
            assert np.array_equal(batch[key][1::2], parts[1][key])
    shares = [take(evaluate(dataset, host=host, hosts=2), 99) for host in (0, 1)]
    assert [len(share) for share in shares] == [4, 4]
    assert not rows(shares[0]) & rows(shares[1])
    assert rows(shares[0]) | rows(shares[1]) == rows(take(evaluate(dataset), 99))


def test_a_subset_of_units_takes_their_columns(dataset):
    aus = dataset.select((12, 4))
    assert aus == (4, 12) and dataset.select(()) == BP4D_AUS
    captions = CaptionTables(aus, VOCABULARY)
    whole, subset = take(evaluate(dataset), 1)[0], take(evaluate(dataset, captions=captions), 1)[0]
    batches.check(subset, spec_of(captions))
    columns = [BP4D_AUS.index(au) for au in aus]
    assert np.array_equal(subset["au"], whole["au"][:, columns])
    for asked in ((12, 26), (12, 12)):
        with pytest.raises(UserError, match=r"data\.aus"):
            dataset.select(asked)


def test_augmentation_options_reach_the_pictures(dataset):
    still = replace(OPTIONS, min_area=1.0, flip=False, jitter=0.0)
    shown = {
        tuple(key): image
        for batch in take(evaluate(dataset), 4)
        for key, image in zip(batch["key"], batch["image"], strict=True)
    }
    batch = take(train(dataset, still), 1)[0]
    for key, image in zip(batch["key"], batch["image"], strict=True):
        assert np.array_equal(image, shown[tuple(key)])
    for change in ({"min_area": 0.5}, {"jitter": 0.3}, {"flip": True}):
        changed = take(train(dataset, replace(still, **change)), 1)[0]
        assert np.array_equal(changed["key"], batch["key"])
        assert not np.array_equal(changed["image"], batch["image"])


@pytest.mark.parametrize(
    "field",
    [{"image_size": 8}, {"min_area": 0.0}, {"jitter": 1.0}, {"threads": -1}, {"workers": -1}],
)
def test_options_out_of_range_are_named(field):
    with pytest.raises(UserError, match=f"data.{next(iter(field))}="):
        DataOptions(**field)


def test_batch_size_must_divide_among_hosts(dataset):
    with pytest.raises(UserError, match="batch_size=4"):
        train(dataset, host=0, hosts=3)


def test_a_missing_set_says_how_to_prepare_one(tmp_path):
    with pytest.raises(UserError, match="prepare --dataset=bp4d --raw_dir=DIR") as error:
        open_prepared("bp4d", tmp_path)
    assert "\n" not in str(error.value)


def test_variant_chooses_among_several(dataset, tmp_path):
    root = tmp_path / "bp4d"
    for variant in ("none_64", "none_65"):
        target = root / variant / "1.0.0"
        target.mkdir(parents=True)
        for path in dataset.folder.iterdir():
            (target / path.name).symlink_to(path)
    with pytest.raises(UserError, match="none_64, none_65"):
        open_prepared("bp4d", tmp_path)
    with pytest.raises(UserError, match=r"data\.variant='cascade_64'"):
        open_prepared("bp4d", tmp_path, "cascade_64")
    assert open_prepared("bp4d", tmp_path, "none_65").folder == root / "none_65" / "1.0.0"


def test_a_foreign_set_is_refused(dataset, tmp_path):
    target = tmp_path / "bp4d" / "none_64" / "1.0.0"
    target.mkdir(parents=True)
    for path in dataset.folder.iterdir():
        if path.name != "metadata.json":
            (target / path.name).symlink_to(path)
    with pytest.raises(UserError, match=r"metadata\.json"):
        open_prepared("bp4d", tmp_path)


def test_a_name_that_prepare_refuses_is_not_advised(tmp_path):
    with pytest.raises(UserError, match=r"data\.name='disfaa' .* knows bp4d") as error:
        open_prepared("disfaa", tmp_path)
    assert "--dataset" not in str(error.value)
