"""What `warm_start` writes: looped parameters and the subjects that they were trained on."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from vlfau_jax.cli.settings import resolve
from vlfau_jax.errors import UserError
from vlfau_jax.inference import warm_start
from vlfau_jax.inference.trained import load_trained
from vlfau_jax.inference.warm_start import write_warm_start
from vlfau_jax.model.layouts import unstack_blocks
from vlfau_jax.train.checkpoint import Checkpoints
from vlfau_jax.train.experiment import build_experiment
from vlfau_jax.train.state import initial_state
from vlfau_jax.train.warm_start import load_warm_start
from vlfau_jax.train.workdir import claimed, read_config


def test_metadata_holds_the_training_of_the_parameters(workdir, tmp_path, capsys):
    path = tmp_path / "new" / "warm.safetensors"
    write_warm_start(workdir, path)
    assert "step 7" in capsys.readouterr().out
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
        assert metadata["step"] == "7" and metadata["trained_on"] == "rendered faces"
        assert "backbone/norm/scale" in list(file.keys())
    with pytest.raises(UserError, match="exists"):
        write_warm_start(workdir, path)


def test_metadata_names_the_subjects_of_the_whole_chain_of_warm_starts(
    workdir, tmp_path, monkeypatch
):
    trained = load_trained(workdir)
    record = {"file": "w", "sha256": "s", "people": "1", "seen": [["disfa", "SN001", ""]]}
    chained = replace(trained, initial_parameters=record)
    assert chained.warm_start == {"file": "w", "sha256": "s", "people": "1"}
    monkeypatch.setattr(warm_start, "load_trained", lambda *_: chained)
    write_warm_start(workdir, tmp_path / "warm.safetensors")
    with safe_open(tmp_path / "warm.safetensors", "numpy") as file:
        metadata = file.metadata()
    names = {(name, subject): digest for name, subject, digest in json.loads(metadata["people"])}
    assert names.keys() == {("bp4d", "F001"), ("bp4d", "M002"), ("disfa", "SN001")}
    assert names["bp4d", "F001"] and not names["disfa", "SN001"]
    assert metadata["dataset"] == "bp4d+disfa"


@pytest.mark.slow
def test_the_file_of_a_scanned_run_is_looped(workdir, tmp_path):
    config = read_config(workdir)
    config["model"] |= {"depths": (0, 0, 4, 1), "scan_blocks": True}
    run, settings = tmp_path / "run", resolve(config)
    e = build_experiment(settings)
    state = initial_state(e.model, e.optimizer, e.spec, e.abstract, settings.seed)
    with (
        claimed(run, config, resume=False, overwrite=False),
        Checkpoints(run, 1) as checkpoints,
    ):
        checkpoints.save(3, state, {"inference": e.inference_record(config)})
    scanned = jax.device_get(state.params)
    looped = scanned | {"backbone": unstack_blocks(scanned["backbone"])}
    assert "stage2_pairs" in scanned["backbone"] and "stage2_block3" in looped["backbone"]

    trained = load_trained(run)
    assert not trained.model.options.scan_blocks
    jax.tree.map(np.testing.assert_array_equal, trained.params, looped)
    image = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    live, loaded = (
        jax.jit(lambda p, model=model: model.apply({"params": p}, image, method="score"))(params)
        for model, params in ((e.model, scanned), (trained.model, trained.params))
    )
    np.testing.assert_allclose(live, loaded, atol=1e-5)

    write_warm_start(run, tmp_path / "warm.safetensors")
    assert not any("pairs" in name for name in load_file(tmp_path / "warm.safetensors"))
    for params in (scanned, looped):
        found = load_warm_start(tmp_path / "warm.safetensors", params)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-3), found, params)
