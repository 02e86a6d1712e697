"""`export --average`: the mean of runs of one network, what it is recorded as, and refusals."""

import json
import re
from dataclasses import replace

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file

from tests.conftest import untrained
from vlfau_jax.cli.main import main
from vlfau_jax.errors import UserError
from vlfau_jax.inference import export as exporting
from vlfau_jax.inference.averaged import averaged
from vlfau_jax.inference.trained import load_trained
from vlfau_jax.train.checkpoint import params_digest


@pytest.fixture(scope="module")
def others(prepared, tmp_path_factory):
    """Two more runs of the workdir's network."""
    folder = tmp_path_factory.mktemp("others")
    return [untrained(prepared, folder / str(seed), seed=seed) for seed in (5, 6)]


@pytest.fixture(scope="module")
def runs(workdir, others):
    return [load_trained(run) for run in (workdir, *others)]


@pytest.mark.parametrize("count", [2, 3])
def test_the_mean_is_exact(runs, count):
    first, *more = runs[:count]
    found = averaged(first, [(str(k), run) for k, run in enumerate(more)])

    def check(mean, *leaves):
        assert mean.dtype == np.float32
        exact = np.mean(np.stack(leaves).astype(np.float64), 0)
        np.testing.assert_array_equal(mean, exact.astype(np.float32))

    jax.tree.map(check, found.params, *(run.params for run in runs[:count]))
    assert [one["params_digest"] for one in found.averaged] == [
        params_digest(run.params) for run in runs[:count]
    ]
    assert params_digest(found.params) not in {one["params_digest"] for one in found.averaged}
    assert averaged(first, ()) is first


def test_a_warm_start_may_be_the_mean(runs, workdir, others, tmp_path):
    out = tmp_path / "mean.safetensors"
    argv = [f"--workdir={workdir}", *(f"--average={run}" for run in others), f"--out={out}"]
    assert main(["warm_start", *argv]) == 0
    first, *more = runs
    wanted = flatten_dict(averaged(first, [("a", more[0]), ("b", more[1])]).params, sep="/")
    found = load_file(out)
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        np.testing.assert_array_equal(value, np.asarray(wanted[name], np.float16))
    assert main(["warm_start", *argv]) == 2, "it is there"


def test_what_is_known_of_any_run_is_known_of_their_mean(runs):
    changes = {
        "train_subjects": ("M002", "X1"),
        "synthetic": False,
        "untaught": {4: "never active", 12: "never known"},
    }
    first = replace(runs[0], untaught={12: "never active"}, synthetic=False)
    found = averaged(first, [("a", replace(runs[1], **changes)), ("b", runs[2])])
    assert found.train_subjects == ("F001", "M002", "X1")
    assert found.synthetic
    assert found.untaught == {4: "never active", 12: "never active"}


def test_the_folder_says_what_it_is_the_mean_of(workdir, others, runs, tmp_path, capsys):
    options = [f"--average={run}" for run in others]
    assert main(["export", f"--workdir={workdir}", f"--out={tmp_path / 'm'}", *options]) == 0
    weights = load_file(tmp_path / "m" / "model.safetensors")
    mean = averaged(runs[0], [("a", runs[1]), ("b", runs[2])])
    for name, value in flatten_dict(mean.params, sep="/").items():
        np.testing.assert_array_equal(weights[name], value)
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["trained_on"]["averaged"] == [
        {
            "dataset": "bp4d",
            "fold": 1,
            "synthetic": True,
            "step": 7,
            "checkpoint": "last",
            "config_digest": run.config_digest,
            "params_digest": params_digest(run.params),
        }
        for run in runs
    ]
    card = (tmp_path / "m" / "README.md").read_text()
    assert "the mean of those of 3 runs (arXiv 2203.05482)" in card
    for run in runs:
        row = f"| rendered faces, bp4d, fold 1 | 7 (last) | {run.config_digest[:12]} | "
        assert row + f"{params_digest(run.params)[:12]} |\n" in card


def test_a_folder_of_one_run_speaks_of_no_mean(model_folder):
    config = json.loads((model_folder / "config.json").read_text())
    assert "averaged" not in config["trained_on"] and "shifts" not in config
    card = (model_folder / "README.md").read_text()
    assert "mean of those" not in card and "Added to logits" not in card


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 16}, "its classifier/kernel is (12, 16), not (12, 8)"),
        ({"local_captions": False}, "its local_captioner/attention_bias is missing, not (4,)"),
        ({"spatial_sigmoid": False}, "its model.spatial_sigmoid is False, not True"),
    ],
)
def test_another_network_is_refused(workdir, prepared, tmp_path, changes, message):
    other = untrained(prepared, tmp_path / "other", seed=5, **changes)
    wanted = f"--average={other} is of another network than --workdir: {message}"
    with pytest.raises(UserError, match=f"^{re.escape(wanted)}$"):
        exporting.export(workdir, tmp_path / "out", average=[other])
    assert [entry.name for entry in tmp_path.iterdir()] == ["other"]


def test_runs_of_another_kind_are_refused(runs):
    first, other, _ = runs
    for changes, what in (
        ({"aus": (*first.aus[1:], first.aus[0])}, "action units"),
        ({"crop_rule": {**first.crop_rule, "size": 65}}, "crop rule"),
        ({"data": replace(first.data, image_size=33)}, "image size"),
        ({"max_words": (1, 1)}, "sentences"),
    ):
        with pytest.raises(UserError, match=f"^it differs from --workdir in its {what};"):
            averaged(first, [("it", replace(other, **changes))])
    options = replace(other.model.options, dropout=0.0, drop_path=0.0, dtype="bfloat16")
    averaged(first, [("it", replace(other, model=other.model.clone(options=options)))])


def test_a_run_counts_once(workdir, others, tmp_path):
    for average in ([workdir], [others[0], others[0]]):
        with pytest.raises(UserError, match="has the same parameters as another run"):
            exporting.export(workdir, tmp_path / "out", average=average)


def test_a_run_that_is_none_or_would_be_written_into_is_refused(workdir, others, tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        exporting.export(workdir, tmp_path / "out", average=["nowhere"])
    with pytest.raises(UserError, match="among the run's checkpoints"):
        exporting.export(workdir, others[0] / "checkpoints" / "x", average=[others[0]])
