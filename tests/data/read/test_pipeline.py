import multiprocessing
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from tests.data import sets
from tests.data.sets import coded, picture, write_set
from vlfau_jax.data.raw.frames import decode_image
from vlfau_jax.data.read import batch as batches
from vlfau_jax.data.read import pipeline
from vlfau_jax.data.read.dataset import Dataset, open_dataset
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.data.read.pipeline import eval_iterator, train_iterator
from vlfau_jax.data.read.transforms import resize
from vlfau_jax.data.text.captions import CaptionTables
from vlfau_jax.data.text.descriptions import built_in, global_description
from vlfau_jax.data.text.vocabulary import Vocabulary
from vlfau_jax.errors import LONGEST_LINE, DataError, RunError, UserError, line
from vlfau_jax.facs import BP4D_AUS

VOCABULARY = Vocabulary.build()
CAPTIONS = CaptionTables(BP4D_AUS, VOCABULARY)
OPTIONS = DataOptions(image_size=32, threads=0)


def take(iterator, count: int) -> list[batches.Batch]:
    with closing(iterator):
        return list(islice(iterator, count))


def train(dataset, options=OPTIONS, captions=CAPTIONS, **arguments):
    arguments = {"batch_size": 4, "seed": 3, **arguments}
    return train_iterator(dataset, dataset.rows(dataset.subjects), captions, options, **arguments)


def evaluate(dataset, options=OPTIONS, captions=CAPTIONS, **arguments):
    rows = dataset.rows(dataset.subjects)
    return eval_iterator(dataset, rows, captions, options, batch_size=4, **arguments)


def spec_of(captions, batch_size=4):
    return batches.spec(
        batch_size=batch_size,
        image_size=32,
        units=len(captions.aus),
        max_local_tokens=captions.max_local_tokens,
        max_global_tokens=captions.max_global_tokens,
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
    views = np.concatenate([batch["view"] for batch in stream])[:15]
    assert (views == (0, 0, 1)).all(), "whole faces"


def test_rows_hold_what_the_set_holds(dataset):
    stream = take(evaluate(dataset), 4)
    codes = dataset.sets[0].codes["occurrence"]
    valid = np.concatenate([batch["valid"] for batch in stream])
    flat = {key: np.concatenate([batch[key] for batch in stream])[valid] for key in stream[0]}
    assert np.array_equal(flat["au"], codes == 1)
    assert np.array_equal(flat["au_known"], codes >= 0)
    for k, (subject, _, frame) in enumerate(flat["key"].tolist()):
        assert np.array_equal(
            flat["image"][k], resize(decode_image(picture(subject, frame, 64)), 32)
        )
        if flat["au_known"][k].all():
            noun = "woman" if subject < 2 else "man"
            sentence = VOCABULARY.decode(flat["global_tokens"][k])
            assert sentence == global_description(BP4D_AUS, codes[k] == 1, noun)


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


def test_training_reads_every_face_each_epoch_in_new_order(dataset):
    stream = take(train(dataset, batch_size=5), 6)
    first, second = stream[:3], stream[3:]
    assert len(rows(first)) == len(rows(second)) == 15
    order = [np.concatenate([b["key"] for b in epoch]).tolist() for epoch in (first, second)]
    assert order[0] != order[1]
    images = {b["image"][i].tobytes() for b in stream for i in range(5)}
    assert len(images) == 30  # no view comes twice


@pytest.mark.parametrize("changes", [{}, {"balance_subjects": True}])
def test_training_reads_the_rows_that_it_is_given(dataset, changes):
    given, options = np.array([2, 3, 11, 14]), replace(OPTIONS, **changes)
    stream = take(train_iterator(dataset, given, CAPTIONS, options, batch_size=4, seed=3), 20)
    labels = dataset.labels
    keys = np.stack([labels.subject, labels.task, labels.frame], 1)[given]
    assert rows(stream) == {tuple(key) for key in keys.tolist()}


@pytest.fixture(scope="module")
def mixture(tmp_path_factory) -> Dataset:
    """Two sets with different units: three people of BP4D and two of DISFA, 26 frames in all."""
    folder = tmp_path_factory.mktemp("mixture")
    rng = np.random.default_rng(5)
    write_set(folder, "bp4d", coded(rng, "bp4d", ("F001", "F002", "M001"), 6))
    write_set(folder, "disfa", coded(rng, "disfa", ("SN001", "SN002"), 4))
    return open_dataset(DataOptions(name="bp4d+disfa", data_dir=str(folder)))


BALANCED = replace(
    OPTIONS, balance_classes=True, balance_subjects=True, mixture_weights=(1.0, 2.0), erasing=0.5
)
STREAMS = {"shuffled": OPTIONS, "balanced": BALANCED}


@pytest.fixture(params=STREAMS)
def mixed(request, mixture):
    """Makes batches of the mixture: shuffled, or with everything balanced and erased."""
    captions = CaptionTables(mixture.aus, VOCABULARY)

    def make(count: int, start_step: int = 0, own=None, seed=3, **changes):
        options = replace(STREAMS[request.param], **changes)
        where = {"start_step": start_step, "own": own, "seed": seed}
        return take(train(mixture, options, captions, **where), count)

    return make


def test_step_k_is_a_function_of_seed_and_k(mixed):
    whole = mixed(20)
    for start in (1, 7, 13):
        for one, other in zip(whole[start:], mixed(3, start_step=start), strict=False):
            assert_same(one, other)
    assert not np.array_equal(whole[0]["key"], mixed(1, seed=4)[0]["key"])
    assert_same(mixed(1, start_step=10**9)[0], mixed(1, start_step=10**9)[0])


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [{"threads": 3}, {"workers": 1}, {"workers": 2, "threads": 2}])
def test_threads_and_processes_change_nothing(mixed, parallel):
    for one, other in zip(mixed(7), mixed(7, **parallel), strict=True):
        assert_same(one, other)


SHARES = {  # the rows of each process: blocks, as most meshes give; strides; the same rows twice
    "two": ([0, 1], [2, 3]),
    "four": ([0], [1], [2], [3]),
    "strided": ([0, 2], [1, 3]),
    "uneven": ([0, 1, 3], [2]),
    "twice": ([0, 1], [0, 1], [2, 3], [2, 3]),
}
shared = pytest.mark.parametrize("shares", SHARES.values(), ids=SHARES)


@shared
def test_processes_read_what_one_would_row_by_row(mixed, shares):
    whole = mixed(7, start_step=2)
    for own in shares:
        share = mixed(7, start_step=2, own=np.array(own))
        for batch, part in zip(whole, share, strict=True):
            assert_same({key: values[own] for key, values in batch.items()}, part)


@pytest.mark.slow
def test_worker_processes_leave_the_rows_of_a_process_alone(mixed):
    own = np.array([1, 2])
    for one, other in zip(mixed(5, own=own), mixed(5, own=own, workers=2), strict=True):
        assert_same(one, other)


@shared
def test_processes_evaluate_every_face_in_equal_numbers_of_batches(dataset, shares):
    whole = take(evaluate(dataset), 99)
    assert len(whole) == 4 and sum(batch["valid"].sum() for batch in whole) == 15
    for own in shares:
        share = take(evaluate(dataset, own=np.array(own)), 99)
        for batch, part in zip(whole, share, strict=True):
            assert_same({key: values[own] for key, values in batch.items()}, part)


def test_a_mixture_brings_each_set_with_its_own_units(mixture, mixed):
    seen = np.zeros((5, len(mixture.aus)), bool)
    for batch in mixed(30):
        coded = mixture.coded[mixture.parts[batch["key"][:, 0]]]
        batches.check(batch, spec_of(CaptionTables(mixture.aus, VOCABULARY)), coded)
        np.logical_or.at(seen, batch["key"][:, 0], batch["au_known"])
    of = {"bp4d": BP4D_AUS, "disfa": (1, 2, 4, 6, 9, 12, 15, 17, 25, 26)}
    for part, aus in enumerate(of.values()):
        assert (seen[mixture.parts == part] == np.isin(mixture.aus, aus)).all()


def test_balance_decides_how_often_a_face_comes(mixture):
    """2,000 draws: standard errors are below 0.012."""
    captions = CaptionTables(mixture.aus, VOCABULARY)
    options = replace(BALANCED, balance_classes=False, image_size=16)
    stream = take(train(mixture, options, captions, batch_size=200), 10)
    subjects = np.concatenate([batch["key"][:, 0] for batch in stream])
    share = np.bincount(subjects, minlength=5) / len(subjects)
    assert np.abs(share - [1 / 9, 1 / 9, 1 / 9, 1 / 3, 1 / 3]).max() < 0.035


def test_shares_for_one_set_are_refused(dataset):
    with pytest.raises(UserError, match=r"data\.mixture_weights=\(1\.0,\): bp4d is one set"):
        train(dataset, replace(OPTIONS, mixture_weights=(1.0,)))


def flip_a_byte(shard):
    whole = bytearray(shard.read_bytes())
    whole[whole.index(b"\xff\xd8")] ^= 255
    shard.write_bytes(whole)


def cut_off(shard):
    shard.write_bytes(shard.read_bytes()[:70_000])


def rewrite(change):
    def damage(shard):
        """array_record finds nothing wrong with these; of a shard cut in half it gives b""."""
        writer = ArrayRecordWriter(str(shard), "group_size:1")
        for _ in range(3):
            writer.write(change)
        writer.close()

    return damage


EMPTY, GARBAGE, INCOMPLETE = (rewrite(b""), rewrite(b"\xff" * 9), rewrite(b"\n\x00"))


@pytest.mark.parametrize("damage", [flip_a_byte, cut_off, Path.unlink, EMPTY, GARBAGE, INCOMPLETE])
@pytest.mark.parametrize("parallel", [{}, {"threads": 2}])
def test_a_shard_that_cannot_be_read_is_named(tmp_path, damage, parallel):
    people = coded(np.random.default_rng(2), "bp4d", ("F001", "F004"), 3)
    folder = write_set(tmp_path, "bp4d", people)
    broken = open_dataset(DataOptions(data_dir=str(tmp_path)))
    damage(next(folder.glob("*F004*.array_record*")))  # the opening does not read it
    with pytest.raises(
        RunError, match=r"none_24.*of F004, task 1, frame 1 cannot be .*bp4d-F004\.array_.*\);"
    ) as error:
        take(evaluate(broken, replace(OPTIONS, **parallel)), 99)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("parallel", [{}, {"threads": 2}, {"workers": 1}])
def test_a_damaged_picture_is_named(tmp_path, monkeypatch, parallel):
    good = picture(0, 1, 24)
    monkeypatch.setattr(sets, "picture", lambda *_: good[:300])
    people = coded(np.random.default_rng(2), "bp4d", ("F001",), 2)
    write_set(tmp_path, "bp4d", people)
    broken = open_dataset(DataOptions(data_dir=str(tmp_path)))
    named = r"none_24.*of F001, task 1, frame 1 \(F001/1\.jpg\) is damaged;"
    with pytest.raises(RunError, match=named) as error:
        take(evaluate(broken, replace(OPTIONS, **parallel)), 99)
    assert "\n" not in str(error.value)


def test_pictures_of_other_sizes_than_their_sets_are_read_as_they_are(tmp_path, monkeypatch):
    """The memory that a batch decodes into is for one size; the others' pictures go elsewhere."""
    sides, made = {1: 24, 2: 30, 3: 24, 4: 18, 5: 24}, sets.picture
    monkeypatch.setattr(sets, "picture", lambda i, frame, _: made(i, frame, sides[frame]))
    write_set(tmp_path, "bp4d", coded(np.random.default_rng(2), "bp4d", ("F001",), 5))
    (whole, rest) = take(evaluate(open_dataset(DataOptions(data_dir=str(tmp_path)))), 2)
    images = [*whole["image"], rest["image"][0]]
    for (frame, side), image in zip(sides.items(), images, strict=True):
        assert np.array_equal(image, resize(decode_image(made(0, frame, side)), len(image)))


def test_a_subset_of_units_takes_their_columns(dataset):
    root = dataset.sets[0].folder.parents[2]
    few = open_dataset(DataOptions(data_dir=str(root), aus=(12, 4)))
    captions = CaptionTables(few.aus, VOCABULARY)
    whole, subset = take(evaluate(dataset), 1)[0], take(evaluate(few, captions=captions), 1)[0]
    batches.check(subset, spec_of(captions))
    columns = [BP4D_AUS.index(au) for au in few.aus]
    assert np.array_equal(subset["au"], whole["au"][:, columns])
    with pytest.raises(ValueError, match="sentences of"):
        evaluate(few)


def test_augmentation_options_reach_the_pictures(dataset):
    still = replace(OPTIONS, min_area=1.0, flip=False, jitter=0.0)
    read = {
        tuple(key): image
        for batch in take(evaluate(dataset), 4)
        for key, image in zip(batch["key"], batch["image"], strict=True)
    }
    batch = take(train(dataset, still), 1)[0]
    for key, image in zip(batch["key"], batch["image"], strict=True):
        assert np.array_equal(image, read[tuple(key)])
    for change in (
        {"min_area": 0.5},
        {"max_area": 2.0},
        {"jitter": 0.3},
        {"flip": True},
        {"erasing": 1.0},
    ):
        changed = take(train(dataset, replace(still, **change)), 1)[0]
        assert np.array_equal(changed["key"], batch["key"])
        assert not np.array_equal(changed["image"], batch["image"])


@pytest.mark.parametrize(
    "field",
    [
        {"image_size": 8},
        {"min_area": 0.0},
        {"max_area": 0.9},
        {"max_area": 4.1},
        {"jitter": 1.0},
        {"threads": -1},
        {"workers": -1},
    ],
)
def test_options_out_of_range_are_named(field):
    with pytest.raises(UserError, match=f"data.{next(iter(field))}="):
        DataOptions(**field)


PARAPHRASED = built_in("paraphrased")
PARAPHRASES = CaptionTables(BP4D_AUS, Vocabulary.build(PARAPHRASED), PARAPHRASED)


def test_every_example_draws_its_texts_and_a_resumed_stream_draws_them_again(dataset):
    def stream(**arguments):
        return take(train(dataset, captions=PARAPHRASES, **arguments), 4)

    whole = stream()
    for k, batch in enumerate(stream(start_step=2)[:2]):
        assert_same(batch, whole[k + 2])
    for batch in whole:
        batches.check(batch, spec_of(PARAPHRASES))
    part = take(train(dataset, captions=PARAPHRASES, own=np.array([1, 3])), 4)
    for own, batch in zip(part, whole, strict=True):
        assert_same(own, {key: values[[1, 3]] for key, values in batch.items()})
    plain = take(train(dataset), 4)
    said, wholes = {}, set()
    for batch, without in zip(whole, plain, strict=True):
        # The pictures are drawn first: other texts leave them alone.
        assert all(np.array_equal(batch[key], without[key]) for key in ("image", "au", "key"))
        for face, au, known in zip(
            batch["local_tokens"], batch["au"], batch["au_known"], strict=True
        ):
            for i in np.flatnonzero(known):
                text = PARAPHRASES.vocabulary.decode(face[i])
                state = BP4D_AUS[i], bool(au[i])
                assert text in PARAPHRASED.sentences(*state)
                said.setdefault(state, []).append(text)
        wholes |= {PARAPHRASES.vocabulary.decode(row) for row in batch["global_tokens"]}
    several = [len(set(texts)) for texts in said.values() if len(texts) >= 6]
    assert np.mean(several) > 2.5 and len(several) > 10
    assert any("smiles with the mouth" in text for text in wholes)
    assert any("pulls lip corner" in text for text in wholes)
    other = take(train(dataset, captions=PARAPHRASES, seed=4), 1)[0]
    assert not np.array_equal(other["local_tokens"], whole[0]["local_tokens"])


def test_texts_are_drawn_alike_in_worker_processes(dataset):
    alone, worker = (
        take(train(dataset, replace(OPTIONS, workers=workers), PARAPHRASES), 2)
        for workers in (0, 1)
    )
    for one, other in zip(alone, worker, strict=True):
        assert_same(one, other)


def test_evaluation_is_told_the_first_text_of_each_state(dataset):
    batch, plain = (take(evaluate(dataset, captions=c), 1)[0] for c in (PARAPHRASES, CAPTIONS))
    for key, captions in (("local_tokens", PARAPHRASES), ("global_tokens", PARAPHRASES)):
        one = [
            captions.vocabulary.decode(row) for row in batch[key].reshape(-1, batch[key].shape[-1])
        ]
        two = [VOCABULARY.decode(row) for row in plain[key].reshape(-1, plain[key].shape[-1])]
        assert one == two


def test_intensities_reach_the_sentences(mixture):
    graded = built_in("graded")
    captions = CaptionTables(mixture.aus, Vocabulary.build(graded), graded)
    stream = take(evaluate(mixture, captions=captions), 7)
    flat = {key: np.concatenate([batch[key] for batch in stream]) for key in stream[0]}
    levels = 0
    for row in np.flatnonzero(flat["valid"]):
        where = (mixture.labels.subject == flat["key"][row, 0]) & (
            mixture.labels.frame == flat["key"][row, 2]
        )
        (level,) = mixture.labels.level[where]
        for i, au in enumerate(mixture.aus):
            if flat["au_known"][row, i]:
                on = bool(flat["au"][row, i])
                text = captions.vocabulary.decode(flat["local_tokens"][row, i])
                assert text == graded.local(au, on, max(int(level[i]), 0) if on else 0)
                levels += on and level[i] > 0
    assert levels > 10  # DISFA's; BP4D here codes none


def test_a_killed_worker_is_one_line(dataset):
    with closing(train(dataset, replace(OPTIONS, workers=1))) as stream:
        next(stream)
        (worker,) = multiprocessing.active_children()
        worker.kill()
        with pytest.raises(DataError, match=r"was killed, .*/dev/shm.* try fewer data\.workers$"):
            for _ in range(99):
                next(stream)


def test_too_little_shared_memory_is_said_before_a_process_is_killed(dataset, monkeypatch):
    size = 3 * OPTIONS.image_size**2 * 4
    free = SimpleNamespace(f_bavail=7 * size // 512, f_frsize=512)
    monkeypatch.setattr(pipeline.os, "statvfs", lambda place: {"/dev/shm": free}[place])
    train(dataset, replace(OPTIONS, workers=2), batch_size=4).close()
    train(dataset, replace(OPTIONS, workers=0), batch_size=400).close()
    free.f_bavail -= 1
    with pytest.raises(UserError, match=r"^data\.workers=2: .*/dev/shm.*--shm-size") as error:
        train(dataset, replace(OPTIONS, workers=2), batch_size=4)
    assert len(line(str(error.value))) < LONGEST_LINE and "data.workers=0" in str(error.value)


def test_shared_memory_that_cannot_be_used_is_named(dataset, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")  # as Python raises it: without a name

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", full)
    message = r"^data\.workers=1: /dev/shm, .* cannot be used: No space left on device; give more"
    with pytest.raises(DataError, match=message):
        next(train(dataset, replace(OPTIONS, workers=1)))
