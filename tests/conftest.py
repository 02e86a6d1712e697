"""Strict surroundings for every test: eight virtual devices, no silent rank promotion."""

import json
import os
import signal
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["JAX_PLATFORMS"] = "cpu"
# Tests run tiny programs once: compiling them is nearly all of their time. jaxlib 0.12 no longer
# knows the second flag, and aborts on what it does not know.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0"
    + version("jaxlib").startswith("0.10.") * " --xla_cpu_use_fusion_emitters=false",
)

import jax
import numpy as np
import pytest

# A shell's background job, as this suite may be, ignores Ctrl-C, and what it starts inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def raw_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw BP4D tree of three rendered people; the cascade finds them."""
    from vlfau_jax.data.synthetic.bp4d import BP4D_LAYOUT
    from vlfau_jax.data.synthetic.trees import write_tree

    folder = tmp_path_factory.mktemp("faces") / "raw"
    write_tree(BP4D_LAYOUT, folder, subjects=3, frames=4, seed=0, size=96, workers=1)
    return folder


@pytest.fixture(scope="session")
def prepared(raw_faces: Path) -> Path:
    """The raw tree as `prepare` leaves it."""
    from vlfau_jax.data.prepare.prepare import prepare

    prepare("bp4d", raw_faces, raw_faces.parent / "prepared", crop_size=64, workers=0)
    return raw_faces.parent / "prepared"


def untrained(prepared: Path, run: Path, data: dict | None = None, **changes: object) -> Path:
    """What `train` leaves behind in `run`, with a random network; fold 1 tests F004 of three.

    `data` are other data options, and `changes` model options other than the tiny network's.
    """
    from vlfau_jax.cli.settings import resolve
    from vlfau_jax.train.checkpoint import Checkpoints
    from vlfau_jax.train.experiment import build_experiment
    from vlfau_jax.train.state import initial_state
    from vlfau_jax.train.workdir import claimed

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
            "data": {"data_dir": str(prepared), "image_size": 32} | (data or {}),
            "model": tiny | changes,
            "train": {"batch_size": 8},
            "mesh": {"data": 1},
        }
    )
    config = asdict(settings)
    experiment = build_experiment(settings)
    state = initial_state(
        experiment.model, experiment.optimizer, experiment.spec, experiment.abstract, settings.seed
    )
    with (
        claimed(run, config, resume=False, overwrite=False),
        Checkpoints(run, 1) as checkpoints,
    ):
        checkpoints.save(7, state, {"inference": experiment.inference_record(config)})
    lines = [{"step": k, "total": 1.0 / k, "learning_rate": 1e-3} for k in range(1, 8)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


@pytest.fixture(scope="session")
def workdir(prepared: Path) -> Path:
    """An untrained run of the whole network."""
    return untrained(prepared, prepared.parent / "run")


@pytest.fixture(scope="session")
def silent_workdir(prepared: Path) -> Path:
    """A run of a network without sentences and maps: neither captioner, no spatial attention."""
    return untrained(
        prepared,
        prepared.parent / "silent",
        local_captions=False,
        global_captions=False,
        refinement="channel",
    )


@pytest.fixture(scope="session")
def half_workdir(prepared: Path) -> Path:
    """A run of a network that writes a sentence about the whole face, but none about units."""
    return untrained(prepared, prepared.parent / "half", local_captions=False)


@pytest.fixture(scope="session")
def model_folder(workdir: Path) -> Path:
    """The workdir's network, exported."""
    from vlfau_jax.inference.export import export

    return export(workdir, workdir.parent / "model")


@pytest.fixture(scope="session")
def silent_folder(silent_workdir: Path) -> Path:
    """The silent network, exported."""
    from vlfau_jax.inference.export import export

    return export(silent_workdir, silent_workdir.parent / "silent_model")
