"""What answers for a run that keeps a running average of its parameters: the average."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlfau_jax import evaluate as evaluating
from vlfau_jax import trained as trained_module
from vlfau_jax.export import export
from vlfau_jax.train.checkpoint import Checkpoints, load_inference
from vlfau_jax.train.state import TrainState
from vlfau_jax.trained import load_trained


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
    assert (scores["ema_decay"], scores["step"]) == (0.9, found.step)
    model = export(folder, tmp_path / "model")
    assert '"ema_decay": 0.9' in (model / "config.json").read_text()


def test_a_checkpoint_of_before_validation_kept_nobody_back(workdir, monkeypatch):
    params, record, step = load_inference(workdir)
    record.pop("validation_subjects")
    monkeypatch.setattr(trained_module, "load_inference", lambda _: (params, record, step))
    assert load_trained(workdir).validation_subjects == ()
