"""A tiny experiment on noise pictures held in memory: only the training rooms are tested."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
import pytest

from vlfau_jax.data.pipeline import DataOptions, Dataset
from vlfau_jax.facs import BP4D_AUS
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.objectives.losses import ObjectiveOptions
from vlfau_jax.settings import Settings
from vlfau_jax.sharding.mesh import MeshOptions
from vlfau_jax.train import experiment
from vlfau_jax.train.experiment import TrainOptions
from vlfau_jax.train.optimizer import OptimizerOptions

SUBJECTS = ("F001", "F003", "M001", "M003")
FRAMES = 5
ONE_DEVICE = MeshOptions(1, 1, 1)


@dataclass(frozen=True)
class NoiseDataset(Dataset):
    def source(self, subjects: Sequence[str]) -> Sequence[dict[str, Any]]:
        rng = np.random.default_rng(3)
        pictures = rng.integers(0, 256, (len(subjects) * FRAMES, 20, 20, 3), np.uint8)
        encoded = (cv2.imencode(".png", picture)[1].tobytes() for picture in pictures)
        return [
            {
                "image": next(encoded),
                "occurrence": rng.integers(-1, 2, len(BP4D_AUS)).astype(np.int8),
                "subject": subject.encode(),
                "task": np.int32(1),
                "frame": np.int32(frame),
                "source": b"noise",
            }
            for subject in subjects
            for frame in range(FRAMES)
        ]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Makes settings of a network of 20,000 parameters; keywords replace fields of `train`."""
    n = len(BP4D_AUS)
    counts = {"frames": FRAMES, "positives": [2] * n, "known": [4] * n}
    noise = NoiseDataset(
        name="bp4d",
        folder=Path("noise"),
        aus=BP4D_AUS,
        subjects=SUBJECTS,
        tasks=(1,),
        crop={"name": "none"},
        synthetic=True,
        counts=dict.fromkeys(SUBJECTS, counts),
    )
    monkeypatch.setattr(experiment, "open_prepared", lambda *_: noise)

    def make(mesh: MeshOptions = ONE_DEVICE, **train: Any) -> Settings:
        return Settings(
            seed=3,
            data=DataOptions(fold=0, aus=(1, 2, 4, 12), image_size=16, threads=0),
            model=ModelOptions(
                backbone_width=4,
                depths=(0, 0, 0, 1),
                heads=(1, 1, 1, 2),
                window=2,
                patch=2,
                stem="conv",
                mlp_ratio=1.0,
                drop_path=0.2,
                width=8,
                reduction=4,
                word_embedding=4,
                hidden=4,
                attention=4,
                dropout=0.3,
            ),
            objective=ObjectiveOptions(local_branches=2),
            optimizer=OptimizerOptions(learning_rate=0.01, warmup_steps=1, decay_steps=10),
            mesh=mesh,
            train=TrainOptions(**{"steps": 4, "batch_size": 8, "log_every": 1, **train}),
        )

    return make


@pytest.fixture
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps XLA's programs on disk, so that the runs of one test do not compile the same again."""
    folder = tmp_path_factory.getbasetemp() / "xla"
    changes = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: getattr(jax.config, name) for name in changes}
    for name, value in changes.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
