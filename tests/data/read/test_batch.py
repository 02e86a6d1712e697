import numpy as np
import pytest

from vlfau_jax.data.read import batch as batches
from vlfau_jax.data.text.vocabulary import END, PAD, START

SPEC = batches.spec(batch_size=32, image_size=16, units=3, max_local_tokens=9, max_global_tokens=7)


def fake() -> batches.Batch:
    return batches.fake(SPEC, np.random.default_rng(0), vocabulary_size=40, unknown_rate=0.3)


@pytest.mark.parametrize("seed", range(5))
def test_fake_keeps_the_contract(seed):
    rng = np.random.default_rng(seed)
    batch = batches.fake(SPEC, rng, vocabulary_size=40, unknown_rate=0.3)
    batches.check(batch, SPEC)
    assert batch["au_known"].any() and not batch["au_known"].all() and batch["au"].any()
    assert batch["local_tokens"].max() < 40
    assert batch["global_tokens"].any()


def test_filling_rows_keep_the_contract():
    batches.check(batches.zeros(SPEC), SPEC)


def _set(key, index, value):
    def corrupt(batch):
        batch[key][index] = value

    return corrupt


def _cast(batch):
    batch["image"] = batch["image"].astype(np.float32)


def _cut(batch):
    batch["au"] = batch["au"][:, :2]


def _unknown_with_words(batch):
    batch["au_known"][:] = False
    batch["au"][:] = 0


def _word_after_end(batch):
    row = batch["local_tokens"][tuple(np.argwhere(batch["au_known"])[0])]
    row[:] = [1, 5, END, PAD, 6, PAD, PAD, PAD, PAD]


def _no_end(batch):
    row = batch["local_tokens"][tuple(np.argwhere(batch["au_known"])[0])]
    row[row == END] = 5


@pytest.mark.parametrize(
    ("corrupt", "key"),
    [
        (lambda batch: batch.pop("key"), "keys"),
        (_cast, "image"),
        (_cut, "au"),
        (_set("au", (0, 0), 0.5), "au"),
        (_set("valid", slice(None), False), "au_known"),
        (_unknown_with_words, "local_tokens"),
        (_word_after_end, "local_tokens"),
        (_no_end, "local_tokens"),
        (_set("global_tokens", slice(None), 5), "global_tokens"),
        (_set("view", (0, 2), 0.0), "view"),
        (_set("view", (0, 0), -0.1), "view"),
        (_set("view", (0, slice(None)), 0.6), "view"),
        (_set("view", (0, slice(None)), (-0.1, -0.3, 1.2)), "view"),
    ],
)
def test_check_names_the_broken_key(corrupt, key):
    batch = fake()
    corrupt(batch)
    with pytest.raises(ValueError, match=key):
        batches.check(batch, SPEC)


def half_coded():
    """A batch whose odd rows are of a data set that does not code the last unit; and what is."""
    batch = fake()
    coded = np.ones_like(batch["au_known"])
    coded[1::2, -1] = False
    batch["au_known"][:] = coded
    batch["au"][~coded] = 0
    batch["local_tokens"][:] = [START, 5, END, *[PAD] * 6]
    batch["local_tokens"][~coded] = PAD
    batch["global_tokens"][:] = [START, 5, 6, END, PAD, PAD, PAD]
    return batch, coded


def test_a_sentence_about_the_coded_units_keeps_the_contract():
    batch, coded = half_coded()
    batches.check(batch, SPEC, coded)
    with pytest.raises(ValueError, match="global_tokens"):
        batches.check(batch, SPEC)


def _silent(batch):
    batch["global_tokens"][1] = PAD


def _one_unknown(batch):
    batch["au_known"][1, 0] = False
    batch["au"][1, 0] = 0
    batch["local_tokens"][1, 0] = PAD


def _known_though_not_coded(batch):
    batch["au_known"][1, -1] = True
    batch["local_tokens"][1, -1] = batch["local_tokens"][0, -1]


def _nothing_known(batch):
    batch["au_known"][1] = False
    batch["au"][1] = 0
    batch["local_tokens"][1] = PAD


@pytest.mark.parametrize(
    ("corrupt", "key"),
    [
        (_silent, "global_tokens"),
        (_one_unknown, "global_tokens"),
        (_known_though_not_coded, "au_known"),
        (_nothing_known, "global_tokens"),
    ],
)
def test_check_knows_what_each_face_is_coded_for(corrupt, key):
    batch, coded = half_coded()
    corrupt(batch)
    with pytest.raises(ValueError, match=key):
        batches.check(batch, SPEC, coded)
