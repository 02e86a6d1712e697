"""The one tiny network of the tests, and an experiment with it.

Tests that only need some network take it from here, so that they compile the same programs: XLA's
cache is shared by the whole session. A test of the network itself states its own sizes. As a file
this is also the experiment of the processes that tests start: `--config=tests/tiny.py`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ml_collections import ConfigDict

from tests.data.sets import CODED
from vlfau_jax.cli.settings import Settings
from vlfau_jax.data.crop.alignment import EYE_POSITIONS
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.data.read.prepared_set import PreparedSet
from vlfau_jax.losses.joint import ObjectiveOptions
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.sharding.mesh import MeshOptions
from vlfau_jax.train.experiment import TrainOptions
from vlfau_jax.train.optimizer import OptimizerOptions

# 20,000 parameters. All parts are there: a block with attention, dropout and drop path, both
# captioners, and both attentions of the refinement.
TINY_MODEL = ModelOptions(
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
)
ONE_DEVICE = MeshOptions(1, 1, 1)
SUBJECTS = ("F001", "F003", "M001", "M003")
FRAMES = 5


def tiny_settings(mesh: MeshOptions = ONE_DEVICE, **train: Any) -> Settings:
    """An experiment of four action units; keywords replace fields of `train`."""
    return Settings(
        seed=3,
        data=DataOptions(fold=0, aus=(1, 2, 4, 12), image_size=16, threads=0),
        model=TINY_MODEL,
        objective=ObjectiveOptions(local_branches=2),
        optimizer=OptimizerOptions(learning_rate=0.01, warmup_steps=1, decay_steps=10),
        mesh=mesh,
        train=TrainOptions(**{"steps": 4, "batch_size": 8, "log_every": 1, **train}),
    )


def get_config() -> ConfigDict:
    """The same experiment for the command line: all units of the set, fold 1, any devices."""
    config = ConfigDict(asdict(tiny_settings(MeshOptions())))
    config.data.aus = ()
    config.data.fold = 1
    return config


@dataclass(frozen=True)
class NoiseSet(PreparedSet):
    """A prepared set held in memory: pictures of noise, made when they are asked for."""

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
    content = repr((name, subjects, codes.tolist())).encode()
    return NoiseSet(
        name=name,
        folder=Path(f"noise_{name}"),
        aus=aus,
        benchmark=benchmark,
        subjects=tuple(subjects),
        subject_facts=dict.fromkeys(subjects, person),
        crop={"name": "cascade", "size": 20, "digest": "0" * 16, "parameters": EYE_POSITIONS},
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
        shards=(),
        digest=hashlib.sha256(content).hexdigest(),
    )
