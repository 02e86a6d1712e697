"""Loading a checkpoint: running averages, records of earlier versions, which checkpoint."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlfau_jax.errors import UserError
from vlfau_jax.evaluation import evaluate as evaluating
from vlfau_jax.inference.export import export
from vlfau_jax.inference.trained import load_trained
from vlfau_jax.train import checkpoint as checkpointing
from vlfau_jax.train.checkpoint import Checkpoints, load_inference
from vlfau_jax.train.state import TrainState


@pytest.fixture
def averaged(workdir, tmp_path):
    """The common run, and a copy whose newest checkpoint holds spoilt parameters and an average."""
    folder = shutil.copytree(workdir, tmp_path / "run")
    params, record, step = load_inference(folder)
    spoilt = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.5), params)
    state = TrainState(jnp.int32(step + 1), spoilt, (), jax.tree.map(jnp.asarray, params))
    with Checkpoints(folder, 1) as checkpoints:
        checkpoints.save(step + 1, state, {"inference": record | {"ema_decay": 0.9}})
    return workdir, folder


def test_the_average_is_evaluated_and_exported(averaged, tmp_path):
    plain, folder = averaged
    expected, found = load_trained(plain), load_trained(folder)
    jax.tree.map(np.testing.assert_array_equal, found.params, expected.params)
    assert (expected.ema_decay, found.ema_decay) == (0.0, 0.9)
    assert found.step == expected.step + 1

    scores = evaluating.evaluate(folder)
    assert (scores.ema_decay, scores.step) == (0.9, found.step)
    model = export(folder, tmp_path / "model")
    assert '"ema_decay": 0.9' in (model / "config.json").read_text()


def rewritten(workdir, tmp_path, change, step=7):
    """A copy of the common run whose checkpoint's record is what `change` made of it."""
    params, record, _ = load_inference(workdir)
    change(record)
    state = TrainState(jnp.int32(step), jax.tree.map(jnp.asarray, params), ())
    with Checkpoints(tmp_path / "run", 5) as checkpoints:
        checkpoints.save(step, state, {"inference": record})
    return tmp_path / "run"


def test_a_checkpoint_of_an_earlier_version_is_read_with_the_workdirs_config(workdir, tmp_path):
    def earlier(record):
        for key in ("validation_subjects", "config", "scored"):
            del record[key]

    run = rewritten(workdir, tmp_path, earlier)
    with pytest.raises(UserError, match=r"config\.json is missing"):
        load_trained(run)
    shutil.copy(workdir / "config.json", run)
    found = load_trained(run)
    assert found.validation_subjects == ()
    assert found.data == load_trained(workdir).data


def test_nothing_but_the_checkpoint_is_needed_and_sets_may_move(workdir, tmp_path):
    run = rewritten(workdir, tmp_path, lambda record: None)
    assert [path.name for path in run.iterdir()] == ["checkpoints"]
    expected, found = load_trained(workdir), load_trained(run)
    assert found.data == expected.data
    assert found.config_digest == expected.config_digest
    config = json.loads((workdir / "config.json").read_text())
    config["data"] |= {"data_dir": "elsewhere", "image_size": 64}
    (run / "config.json").write_text(json.dumps(config))
    assert load_trained(run).data == dataclasses.replace(expected.data, data_dir="elsewhere")


def broken(key, value):
    return lambda record: record.update({key: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (broken("aus", [1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 3]), "AU 1, .*not units of this"),
        (broken("aus", [1, 1, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24]), "AU 1, 1.*each once"),
        (broken("aus", [1, 2]), r"params/classifier/\w+ is float32\[12.*float32\[2.*more differ"),
        (
            broken("config", {"seed": 5, "data": {}, "train": {}}),
            "the checkpoint's config has the digest",
        ),
        (broken("normalisation", {"mean": [0], "std": [1]}), "normalised by"),
        (broken("vocabulary", ["a"]), "trained on 1 words"),
        (lambda r: r["model"].update(width=24), r"is float32.*there, float32.*here, and \d+ more"),
        (lambda r: r["model"].update(rotary=1), "'rotary', which this version does not know"),
    ],
)
def test_a_record_that_does_not_fit_is_refused_before_any_array_is_read(
    workdir, tmp_path, change, message, monkeypatch
):
    run = rewritten(workdir, tmp_path, change)
    monkeypatch.setattr(checkpointing, "read_host_arrays", lambda *_: pytest.fail("read"))
    with pytest.raises(UserError, match=message) as error:
        load_trained(run)
    assert "\n" not in str(error.value)


def test_a_path_with_dots_names_the_same_run(workdir):
    dotted = workdir / "checkpoints" / ".."
    assert load_trained(dotted).step == load_trained(workdir).step


def test_the_loaded_checkpoint_is_stated(workdir, tmp_path):
    params, record, _ = load_inference(workdir)
    with Checkpoints(tmp_path, 9) as checkpoints:
        for step, mean_f1 in ((2, 0.2), (4, 0.6), (6, float("nan")), (8, 0.5)):
            tree = jax.tree.map(lambda leaf, step=step: jnp.full(leaf.shape, step / 10), params)
            state = TrainState(jnp.int32(step), tree, ())
            checkpoints.save(step, state, {"inference": record}, mean_f1)
    shutil.copy(workdir / "config.json", tmp_path)
    for choice, step, words in (
        ("last", 8, "last"),
        ("best", 4, "best by mean F1 of the test subjects"),
        ("2", 2, "step 2"),
    ):
        found = load_trained(tmp_path, 1, choice)
        assert (found.step, found.checkpoint) == (step, words)
        assert np.all(found.params["classifier"]["bias"] == np.float32(step / 10))
    scores = evaluating.evaluate(tmp_path, checkpoint="best")
    assert (scores.checkpoint, scores.step) == ("best by mean F1 of the test subjects", 4)
    with pytest.raises(UserError, match=r"checkpoint=3: .* holds step 2, 4, 6, 8; give one of"):
        load_trained(tmp_path, 1, "3")
