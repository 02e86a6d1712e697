"""Strict surroundings for every test: eight virtual devices, no silent rank promotion."""

import json
import os
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["JAX_PLATFORMS"] = "cpu"
# Tests run tiny programs once: compiling them is nearly all of their time.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax
import numpy as np
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def raw_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw BP4D tree of three rendered people; the cascade finds them."""
    from vlfau_jax.data.synthetic.writers import write_bp4d

    folder = tmp_path_factory.mktemp("faces") / "raw"
    write_bp4d(folder, subjects=3, frames=4, seed=0, size=96, workers=1)
    return folder


@pytest.fixture(scope="session")
def workdir(raw_faces: Path) -> Path:
    """What `train` leaves behind, with a random network; fold 1 trains on two and tests F004."""
    from vlfau_jax.data.prepare import prepare as prepare_data
    from vlfau_jax.settings import resolve
    from vlfau_jax.train.checkpoint import Checkpoints
    from vlfau_jax.train.experiment import prepare
    from vlfau_jax.train.state import initial_state
    from vlfau_jax.train.workdir import claim

    prepared = raw_faces.parent / "prepared"
    prepare_data("bp4d", raw_faces, prepared, crop_size=64, workers=0)
    tiny = {
        "backbone_width": 8,
        "depths": (0, 0, 1, 1),
        "heads": (1, 1, 2, 2),
        "window": 2,
        "patch": 2,
        "width": 16,
        "reduction": 4,
        "word_embedding": 8,
        "hidden": 8,
        "attention": 8,
    }
    settings = resolve(
        {
            "data": {"data_dir": str(prepared), "image_size": 32},
            "model": tiny,
            "train": {"batch_size": 8},
            "mesh": {"data": 1},
        }
    )
    run = raw_faces.parent / "run"
    config = asdict(settings)
    experiment = prepare(settings)
    claim(run, config, resume=False, overwrite=False)
    state = initial_state(
        experiment.model, experiment.optimizer, experiment.spec, experiment.abstract, settings.seed
    )
    with Checkpoints(run, 1) as checkpoints:
        checkpoints.save(7, state, {"inference": experiment.inference_record(config)})
    lines = [{"step": k, "total": 1.0 / k, "learning_rate": 1e-3} for k in range(1, 8)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


@pytest.fixture(scope="session")
def model_folder(workdir: Path) -> Path:
    """The workdir's network, exported."""
    from vlfau_jax.export import export

    return export(workdir, workdir.parent / "model")
