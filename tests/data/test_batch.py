import numpy as np
import pytest

from vlfau_jax.data import batch as batches
from vlfau_jax.data.vocabulary import END, PAD

SPEC = batches.spec(batch_size=32, image_size=16, units=3, local_length=9, global_length=7)


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
    ],
)
def test_check_names_the_broken_key(corrupt, key):
    batch = fake()
    corrupt(batch)
    with pytest.raises(ValueError, match=key):
        batches.check(batch, SPEC)
