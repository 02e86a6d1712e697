"""A network of other units or words starts from the parameters of the branches that both have."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file

from vlfau_jax.cli.settings import resolve
from vlfau_jax.data.read.batch import spec
from vlfau_jax.data.text.descriptions import built_in
from vlfau_jax.data.text.vocabulary import Vocabulary
from vlfau_jax.errors import UserError
from vlfau_jax.facs import BENCHMARK_AUS, BP4D_AUS
from vlfau_jax.model.vlfau import VLFAU
from vlfau_jax.shipped import experiment as shipped_experiment
from vlfau_jax.train.experiment import build_experiment
from vlfau_jax.train.other_units import arrangement
from vlfau_jax.train.provenance import Learned, check_provenance, provenance
from vlfau_jax.train.start import initial_params
from vlfau_jax.train.state import abstract_params
from vlfau_jax.train.warm_start import load_warm_start, save_warm_start

OLD, NEW = (1, 2, 4, 12), (1, 4, 6, 7, 12)
# The axis of the units, and that of the words, of every parameter that has one.
UNIT_AXIS = {
    **{
        f"refinement/{name}": 0
        for name in ("squeeze", "squeeze_bias", "excite", "excite_bias", "spatial", "spatial_bias")
    },
    "classifier/kernel": 0,
    "classifier/bias": 0,
}
WORD_AXIS = {"words": 0, "hidden_to_logits": 1, "logits_bias": 0}


@pytest.fixture
def started(tiny, tmp_path):
    """Starts a network of some units from a file of others: (file, network, settings, folder)."""

    def start(old, new, model=None, descriptions=("states", "states"), **note):
        path = tmp_path / "w.safetensors"
        e, f = (
            build_experiment(
                replace(
                    settings := tiny(warm_start=warm),
                    model=replace(settings.model, **(model or {})),
                    data=replace(settings.data, aus=aus, descriptions=kind),
                )
            )
            for aus, kind, warm in zip((old, new), descriptions, ("", str(path)), strict=True)
        )
        rng = np.random.default_rng(0)
        params = jax.tree.map(
            lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), e.abstract.params
        )
        what = provenance((), e.captions.aus, e.vocabulary.words) | note
        save_warm_start(params, path, what, "float32")
        return *(flatten_dict(p, sep="/") for p in (params, initial_params(f).params)), e, f

    return start


@pytest.mark.parametrize("model", [{}, {"local_captioner": "per_au"}, {"au_embedding": True}])
def test_units_are_taken_by_number_and_new_ones_are_the_mean(started, model, capsys):
    had, found, _, _ = started(OLD, NEW, model)
    axes = dict(UNIT_AXIS)
    local = [name for name in found if name.startswith("local_captioner/")]
    if "local_captioner" in model:
        axes |= dict.fromkeys(local, 0)
    if "au_embedding" in model:
        axes["local_captioner/aus"] = 0
    assert axes.keys() <= found.keys() == had.keys()
    for name, values in found.items():
        assert values.dtype == np.float32
        if name not in axes:
            np.testing.assert_array_equal(values, had[name], name)
            continue
        for row, au in enumerate(NEW):
            wanted = had[name][OLD.index(au)] if au in OLD else had[name].mean(0)
            np.testing.assert_array_equal(values[row], wanted, name)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("w.safetensors: ")[2] for line in lines] == [
        "AU 1, 4, 12 are taken by number",
        "AU 6, 7 are new and begin from the mean of its 4 units",
        "AU 2 of the file are left out",
    ]


@pytest.mark.parametrize("local_captioner", ["shared", "per_au"])
def test_words_are_taken_by_the_word_and_new_ones_begin_at_random(started, local_captioner, capsys):
    kinds = ("states", "paraphrased")
    had, found, e, f = started(OLD, (*OLD, 6), {"local_captioner": local_captioner}, kinds)
    drawn = flatten_dict(jax.device_get(f.initial_state(None).params), sep="/")
    known = {word: row for row, word in enumerate(e.vocabulary.words)}
    assert 0 < len(known) < f.vocabulary.size
    for captioner in ("local_captioner", "global_captioner"):
        branches = captioner == "local_captioner" and local_captioner == "per_au"
        for name, axis in WORD_AXIS.items():
            values, old, fresh = (tree[f"{captioner}/{name}"] for tree in (found, had, drawn))
            if branches:  # AU 6 is new, before AU 12
                old = np.insert(old, 3, old.mean(0), 0)
            values, old, fresh = (
                np.moveaxis(of, axis + branches, 0) for of in (values, old, fresh)
            )
            for row, word in enumerate(f.vocabulary.words):
                wanted = old[known[word]] if word in known else fresh[row]
                np.testing.assert_array_equal(values[row], wanted)
    out = capsys.readouterr().out
    new = f.vocabulary.size - len(known)
    assert (
        f"{len(known) - 4} words are taken by the word, and <pad>, <start>, <end>, <unk>\n" in out
    )
    assert f"{new} words are new and begin at random: " in out


def test_fewer_words_leave_the_others_out(started, capsys):
    had, found, e, f = started(OLD, OLD, descriptions=("paraphrased", "states"))
    rows = [e.vocabulary.words.index(word) for word in f.vocabulary.words]
    np.testing.assert_array_equal(
        found["global_captioner/words"], had["global_captioner/words"][rows]
    )
    np.testing.assert_array_equal(found["classifier/bias"], had["classifier/bias"])
    out = capsys.readouterr().out
    assert "words of the file are left out: " in out and "AU" not in out


def test_the_same_units_and_words_say_nothing(started, capsys):
    had, found, _, _ = started(OLD, OLD)
    jax.tree.map(np.testing.assert_array_equal, found, had)
    assert not capsys.readouterr().out


def test_what_fits_nothing_is_refused(started):
    with pytest.raises(UserError, match=r"other action units, AU 1, 2, .* has AU 7, 10; start w"):
        started(OLD, (7, 10))
    with pytest.raises(
        UserError, match=r"does not fit this model .*classifier/bias is \(4,\), not"
    ):
        started(OLD, NEW, aus="1 2 4")
    with pytest.raises(UserError, match=r"train\.warm_start=.*its list of words is damaged"):
        started(OLD, NEW, words='["<pad>"]')


def test_fifteen_units_start_from_the_demos_twelve(capsys):
    path = Path(__file__).parents[2] / "configs" / "demo_warm_start.safetensors"
    words = Vocabulary.build(built_in("states", BENCHMARK_AUS)).words
    _, learned = check_provenance(path, (), words)
    assert learned == (BP4D_AUS, words)
    options = resolve(shipped_experiment("demo").network()).model
    model = VLFAU(options, len(BENCHMARK_AUS), len(words))
    batch = spec(batch_size=1, image_size=112, units=15, max_local_tokens=20, max_global_tokens=53)
    how = arrangement("it", learned, model, batch, Learned(BENCHMARK_AUS, words), 0)
    wanted = nn.meta.unbox(abstract_params(model, batch))
    found = flatten_dict(load_warm_start(path, wanted, arrangement=how), sep="/")
    had = load_file(path)
    for name, values in found.items():
        if name not in UNIT_AXIS:
            np.testing.assert_array_equal(values, had[name].astype(np.float32))
            continue
        for row, au in enumerate(BENCHMARK_AUS):
            old = had[name].astype(np.float32)
            wanted = old[BP4D_AUS.index(au)] if au in BP4D_AUS else old.mean(0)
            np.testing.assert_array_equal(values[row], wanted)
    assert "AU 9, 25, 26 are new" in capsys.readouterr().out
