"""BP4D and DISFA train one model: from the stored codes to the parameters."""

from contextlib import closing
from dataclasses import replace
from itertools import islice

import jax
import numpy as np
import pytest

from vlfau_jax.data.read import batch as batches
from vlfau_jax.data.read.pipeline import train_iterator
from vlfau_jax.errors import UserError
from vlfau_jax.losses.joint import class_weights
from vlfau_jax.sharding.arrays import shard_batch
from vlfau_jax.train.checkpoint import load_inference
from vlfau_jax.train.experiment import build_experiment
from vlfau_jax.train.loop import train
from vlfau_jax.train.provenance import provenance, seen_people
from vlfau_jax.train.warm_start import save_warm_start

pytestmark = pytest.mark.slow

AUS = (1, 7, 12, 25)  # both sets, BP4D, both, DISFA


@pytest.fixture
def settings(tiny):
    """Trains on F001, F003, M001 and SN001; M003 and SN003 are tested."""
    base = tiny(steps=2)
    return replace(
        base,
        data=replace(base.data, name="bp4d+disfa", aus=AUS, fold=1),
        optimizer=replace(base.optimizer, warmup_steps=0),
    )


def parameters(e):
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.normal(scale=0.1, size=leaf.shape).astype(np.float32), e.abstract.params
    )


def test_what_a_set_does_not_code_moves_nothing(settings):
    e = build_experiment(settings)
    step = e.train_step()
    rows = e.dataset.rows(e.split.train)
    with closing(
        train_iterator(e.dataset, rows, e.captions, settings.data, batch_size=8, seed=1)
    ) as stream:
        found = list(islice(stream, 3))
    for batch in found:
        coded = e.dataset.coded[e.dataset.parts[batch["key"][:, 0]]]
        batches.check(batch, e.spec, coded)
    batch = next(b for b in found if len(set(e.dataset.parts[b["key"][:, 0]])) == 2)
    of = e.dataset.parts[batch["key"][:, 0]]
    assert not batch["au_known"][of == 0, 3].any() and not batch["au_known"][of == 1, 1].any()
    assert batch["au_known"][of == 0, 1].any() and batch["au_known"][of == 1, 3].any()

    def after(batch):
        state, metrics = step(e.initial_state(parameters(e)), shard_batch(batch, e.mesh))
        return jax.device_get((state.params, state.opt_state)), jax.device_get(metrics)

    known = after(batch)
    hidden = ~batch["au_known"]
    other = {key: array.copy() for key, array in batch.items()}
    other["au"][hidden] = 1
    other["local_tokens"][hidden] = 5
    jax.tree.map(np.testing.assert_array_equal, known, after(other))
    other["au_known"][of == 1, 1] = True
    assert after(other)[1]["total"] != known[1]["total"]


def test_class_weights_count_a_unit_where_it_is_coded(settings):
    e = build_experiment(settings)
    assert {e.dataset.set_of(s).name for s in e.split.train} == {"bp4d", "disfa"}
    active, known = np.zeros((2, 4), int)
    for part, one in enumerate(e.dataset.sets):
        codes, least = ("occurrence", 1) if part == 0 else ("intensity", 2)
        trained = np.isin(one.subjects, e.split.train)[one.codes["subject"]]
        for i, au in enumerate(AUS):
            if au in one.aus:
                column = one.codes[codes][trained, one.aus.index(au)]
                active[i] += (column >= least).sum()
                known[i] += (column >= 0).sum()
    np.testing.assert_allclose(e.class_weights, class_weights(active, known))


def test_a_mixture_trains_and_records_its_subjects(settings, tmp_path, capsys):
    nested = replace(settings, data=replace(settings.data, validation_subjects=1))
    seen = []

    def score(e, params):
        seen.append((e.scored, e.split.validation))
        return {"mean_f1": 0.5}

    scored = replace(nested, train=replace(nested.train, eval_every=1))
    train(scored, tmp_path / "run", evaluator=score)
    _, record, _ = load_inference(tmp_path / "run")
    assert record["dataset"] == "bp4d+disfa" and record["aus"] == list(AUS)
    assert record["test_subjects"] == ["M003", "SN003"]
    assert len(record["validation_subjects"]) == 1
    assert sorted(record["train_subjects"] + record["validation_subjects"]) == [
        "F001",
        "F003",
        "M001",
        "SN001",
    ]
    assert seen == [("validation", tuple(record["validation_subjects"]))] * 2
    message = (
        f"train.eval_every=1 scores the validation subjects {record['validation_subjects'][0]}\n"
    )
    assert message in capsys.readouterr().err
    metrics = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert '"validation_mean_f1": 0.5' in metrics and "test_mean_f1" not in metrics


def test_nobody_who_is_kept_back_may_have_been_seen(settings, tmp_path):
    path = tmp_path / "warm.safetensors"
    nested = replace(
        settings,
        data=replace(settings.data, validation_subjects=1),
        train=replace(settings.train, warm_start=str(path)),
    )
    e = build_experiment(nested)
    for person in (*e.split.validation, *e.split.test):
        people = seen_people(e.dataset, (person,))
        note = provenance(people, e.captions.aus, e.vocabulary.words)
        save_warm_start({"a": np.ones(2)}, path, note)
        with pytest.raises(UserError, match=f"was trained on {person}, who would be tested"):
            train(nested, tmp_path / "run")
        path.unlink()
    assert not (tmp_path / "run").exists()


def test_validation_leaves_every_set_somebody(settings):
    greedy = replace(settings, data=replace(settings.data, validation_subjects=2))
    with pytest.raises(UserError, match=r"validation_subjects=2 leaves nobody.*give at most 1"):
        build_experiment(greedy)
