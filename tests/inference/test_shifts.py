"""`export --shifts`: probabilities move by what is added to logits, and sentences follow."""

import importlib.util
import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from tests.conftest import untrained
from vlfau_jax.cli.main import main
from vlfau_jax.errors import UserError
from vlfau_jax.evaluation.scores import Scores
from vlfau_jax.inference import export as exporting
from vlfau_jax.inference import formats
from vlfau_jax.inference.exported_model import ExportedModel
from vlfau_jax.inference.shifts import shifted
from vlfau_jax.inference.trained import load_trained
from vlfau_jax.model.vlfau import normalise

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))
SHIFTS = {1: 0.8, 12: -2.5, 24: 3}


@pytest.fixture(scope="module")
def told(prepared, tmp_path_factory):
    """A run whose sentences hear their unit's score, and say so."""
    run = untrained(prepared, tmp_path_factory.mktemp("told") / "run", told_scores=True)
    trained = load_trained(run)
    captioner = dict(trained.params["local_captioner"])
    captioner["score"] = 20 * np.abs(captioner["score"])
    return run, replace(trained, params=trained.params | {"local_captioner": captioner})


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (3, 32, 32, 3), np.uint8)


@pytest.fixture
def file(tmp_path):
    def write(**record):
        path = tmp_path / "transfer.json"
        path.write_text(json.dumps(record))
        return path

    return write


def logits_of(trained, images):
    score = jax.jit(lambda p: trained.model.apply({"params": p}, normalise(images), method="score"))
    return np.asarray(score(trained.params))


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def test_probabilities_move_by_the_shift_of_their_unit(workdir, images):
    trained = load_trained(workdir)
    found = shifted(trained, SHIFTS, "it")
    by = np.array([SHIFTS.get(au, 0) for au in trained.aus])
    wanted = sigmoid(logits_of(trained, images) + by)
    probabilities = jax.jit(found.describe)(found.params, images)["au_probabilities"]
    np.testing.assert_allclose(probabilities, wanted, atol=1e-6)
    before = trained.params["classifier"]["bias"]
    np.testing.assert_array_equal(found.params["classifier"]["bias"], before + np.float32(by))
    assert found.shifts == SHIFTS and not trained.shifts
    assert shifted(trained, {}, "it") is trained


@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8"])
def test_every_format_and_precision_has_them(workdir, images, file, tmp_path, weights):
    wanted = "pytorch,onnx" if HAS_ONNX else "pytorch"
    path = file(shifts={str(au): by for au, by in SHIFTS.items()}, made_by="transfer")
    folders = []
    for name, options in (("plain", []), ("moved", [f"--shifts={path}"])):
        folders.append(tmp_path / name)
        command = ["export", f"--workdir={workdir}", f"--out={folders[-1]}", f"--weights={weights}"]
        assert main([*command, f"--format={wanted}", *options]) == 0
    plain, moved = (
        np.array([one.probabilities for one in ExportedModel(f, batch_size=3).describe(images)])
        for f in folders
    )
    by = np.array([SHIFTS.get(au, 0) for au in load_trained(workdir).aus])
    np.testing.assert_allclose(moved, sigmoid(np.log(plain / (1 - plain)) + by), atol=1e-5)
    for name in wanted.split(","):
        found = formats.run_elsewhere(name, folders[1], images)["au_probabilities"]
        np.testing.assert_allclose(found, moved, atol=1e-5)
    config = json.loads((folders[1] / "config.json").read_text())
    assert config["shifts"] == {"1": 0.8, "12": -2.5, "24": 3.0}
    assert {unit["threshold"] for unit in config["aus"]} == {0.5}
    card = (folders[1] / "README.md").read_text()
    assert "its use: AU01 +0.8, AU12 -2.5, AU24 +3.\n" in card


def test_sentences_hear_the_shifted_score(told, images):
    _, trained = told
    logits = logits_of(trained, images)
    on, off = (dict.fromkeys(trained.aus, sign * 50.0) for sign in (1, -1))
    heard = {}
    for name, shifts in (("on", on), ("off", off)):
        moved = shifted(trained, shifts, "it")
        found = jax.jit(moved.describe)(moved.params, images)
        assert (np.asarray(found["au_probabilities"]) > 0.5).all() == (name == "on")
        heard[name] = np.asarray(found["local_tokens"])
    assert (heard["on"] != heard["off"]).any(-1).all()
    # Unshifted, each sentence is that of the side on which its unit is.
    plain = np.asarray(jax.jit(trained.describe)(trained.params, images)["local_tokens"])
    wanted = np.where((logits >= 0)[..., None], heard["on"], heard["off"])
    np.testing.assert_array_equal(plain, wanted)
    # A shift of half of them changes theirs alone.
    half = dict(list(on.items())[::2])
    moved = shifted(trained, half, "it")
    found = np.asarray(jax.jit(moved.describe)(moved.params, images)["local_tokens"])
    chosen = np.array([au in half for au in trained.aus])[:, None]
    np.testing.assert_array_equal(found, np.where(chosen, heard["on"], plain))


def test_scores_of_the_run_are_not_the_shifted_models(workdir, file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(exporting, "_scores", lambda *_: object.__new__(Scores))
    exporting.export(workdir, tmp_path / "out", shifts=file(shifts={"1": 1}))
    assert "the model's card has no scores" in capsys.readouterr().out
    assert "## Scores" not in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"shifts": {}}, "shifts"),
        ({"shift": {"1": 1}}, "shifts"),
        ({"shifts": {"1": "much"}}, "shifts"),
        ({"shifts": {"1": 51}}, "shifts"),
        ({"shifts": {"01": 1}}, "shifts"),
        ({"shifts": {"AU1": 1}}, "shifts"),
        ({"shifts": {"1": float("nan")}}, "transfer.json"),
        ({"shifts": [0.5]}, "shifts"),
        ({"shifts": {"5": 1, "1": 1, "99": 1}}, "shifts AU 5, 99, which the model does not score"),
    ],
)
def test_other_files_are_refused_in_one_line(workdir, file, tmp_path, record, message):
    with pytest.raises(UserError, match=message) as error:
        exporting.export(workdir, tmp_path / "out", shifts=file(**record))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_no_file_is_refused(workdir, tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.json"):
        exporting.export(workdir, tmp_path / "out", shifts=tmp_path / "nowhere.json")
