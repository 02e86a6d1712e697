"""A tiny experiment on noise pictures held in memory: only the training rooms are tested."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
import pytest

from tests.data.sets import CODED
from vlfau_jax.cli.settings import Settings
from vlfau_jax.data.read import dataset
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.data.read.prepared_set import PreparedSet
from vlfau_jax.losses.joint import ObjectiveOptions
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.sharding.mesh import MeshOptions
from vlfau_jax.train.experiment import TrainOptions
from vlfau_jax.train.optimizer import OptimizerOptions

SUBJECTS = ("F001", "F003", "M001", "M003")
FRAMES = 5
ONE_DEVICE = MeshOptions(1, 1, 1)


@dataclass(frozen=True)
class NoiseSet(PreparedSet):
    """Pictures of noise, made when they are asked for."""

    def source(self) -> Sequence[dict[str, Any]]:
        rng = np.random.default_rng(3)
        pictures = rng.integers(0, 256, (len(self.codes["frame"]), 20, 20, 3), np.uint8)
        encoded = (cv2.imencode(".png", picture)[1].tobytes() for picture in pictures)
        return [{"image": image, "source": b"noise"} for image in encoded]


def noise_set(name: str = "bp4d", subjects: Sequence[str] = SUBJECTS, seed: int = 3) -> NoiseSet:
    """A set held in memory, `FRAMES` frames a subject; a third of its labels are unknown."""
    rng = np.random.default_rng(seed)
    aus, benchmark = CODED[name]
    m = len(subjects) * FRAMES
    unknown = np.full((m, len(aus)), -1, np.int8)
    codes = rng.integers(-1, 2, unknown.shape).astype(np.int8)
    person = {"frames": FRAMES, "sex": "", "fold": 0}
    return NoiseSet(
        name=name,
        folder=Path(f"noise_{name}"),
        aus=aus,
        benchmark=benchmark,
        subjects=tuple(subjects),
        subject_facts=dict.fromkeys(subjects, person),
        crop={"name": "none", "digest": "0" * 16},
        synthetic=True,
        layout="raw",
        camera="",
        frame_offset=0,
        codes={
            "subject": np.repeat(np.arange(len(subjects), dtype=np.int32), FRAMES),
            "task": np.ones(m, np.int32),
            "frame": np.tile(np.arange(1, FRAMES + 1, dtype=np.int32), len(subjects)),
            "occurrence": unknown if name == "disfa" else codes,
            "intensity": codes * 2 if name == "disfa" else unknown,
        },
    )


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Makes settings of a network of 20,000 parameters; keywords replace fields of `train`."""
    people = {"bp4d": SUBJECTS, "disfa": ("SN001", "SN003")}
    monkeypatch.setattr(dataset, "open_set", lambda name, *_: noise_set(name, people[name]))

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
