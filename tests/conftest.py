"""Strict surroundings for every test, and what many tests share.

Eight virtual devices, no silent rank promotion, and one cache of XLA's programs for all workers of
a session: most of the suite's time is compiling, and many tests compile the same.
"""

import fcntl
import gc
import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from tests.processes import XLA_FLAGS

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("XLA_FLAGS", XLA_FLAGS)
# PyTorch's and BLAS's threads, which mostly wait for each other beside a second worker's.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import hypothesis
import jax
import numpy as np
import pytest

from tests.photographs import photograph
from tests.tiny import ONE_DEVICE, SUBJECTS, TINY_MODEL, noise_set, tiny_settings
from vlfau_jax.cli.settings import Settings
from vlfau_jax.sharding.mesh import MeshOptions

# A shell's background job, as this suite may be, ignores Ctrl-C, and what it starts inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test is timed, and none fails for examples that nobody else gets: a loaded machine is no fault.
hypothesis.settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("suite")

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts files with slow tests first: a worker that began one last would end alone."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Spares the collector what lives as long as the session: a twentieth of the suite's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def session_folder(factory: pytest.TempPathFactory) -> Path:
    """The folder that all workers of a session see."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first worker to ask for it makes, whole; the others wait for it.

    It is shared: tests read it, and copy it where they write.
    """
    folder = session_folder(factory) / "shared" / name
    folder.parent.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder.with_suffix(".done")
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed half-way
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps XLA's programs on disk; JAX's key holds the program, its options and the versions."""
    folder = session_folder(tmp_path_factory) / "xla"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)  # of processes: not the user's own
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """`tests.tiny.tiny_settings`; the sets that it names are noise, held in memory."""
    from vlfau_jax.data.read import dataset

    people = {"bp4d": SUBJECTS, "disfa": ("SN001", "SN003")}
    monkeypatch.setattr(dataset, "open_set", lambda name, *_: noise_set(name, people[name]))
    return tiny_settings


@pytest.fixture
def silent(tiny: Callable[..., Settings]) -> Callable[..., Settings]:
    """`tiny` without captioners, which are half of what tracing and compiling a step takes.

    For tests of what happens around the steps, whatever they compute.
    """

    def make(mesh: MeshOptions = ONE_DEVICE, **train: object) -> Settings:
        settings = tiny(mesh, **train)
        model = replace(settings.model, local_captions=False, global_captions=False)
        return replace(settings, model=model)

    return make


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """scikit-image's portrait, RGB [512, 512, 3]."""
    return cv2.imread(str(photograph("astronaut")), cv2.IMREAD_COLOR_RGB)


@pytest.fixture(scope="session")
def raw_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw BP4D tree of three rendered people; the cascade finds them."""
    from vlfau_jax.data.synthetic.bp4d import BP4D_LAYOUT
    from vlfau_jax.data.synthetic.trees import write_tree

    def make(folder: Path) -> None:
        write_tree(BP4D_LAYOUT, folder, subjects=3, frames=4, seed=0, size=96, workers=1)

    return once(tmp_path_factory, "raw", make)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, raw_faces: Path) -> Path:
    """The raw tree as `prepare` leaves it."""
    from vlfau_jax.data.prepare.prepare import prepare

    def make(folder: Path) -> None:
        prepare("bp4d", raw_faces, folder, crop_size=64, workers=0)

    return once(tmp_path_factory, "prepared", make)


def untrained(
    prepared: Path, run: Path, data: dict | None = None, seed: int = 0, **changes: object
) -> Path:
    """What `train` leaves behind in `run`, with a random network; fold 1 tests F004 of three.

    `data` are other data options, and `changes` model options other than the tiny network's.
    `seed` is that of the network.
    """
    from vlfau_jax.cli.settings import default_config, resolve
    from vlfau_jax.train.checkpoint import Checkpoints
    from vlfau_jax.train.experiment import build_experiment
    from vlfau_jax.train.state import initial_state
    from vlfau_jax.train.workdir import claimed

    config = default_config()
    config.data.update({"data_dir": str(prepared), "image_size": 32} | (data or {}))
    config.model.update(asdict(replace(TINY_MODEL, **changes)))
    config.train.batch_size = 8
    config.mesh.data = 1
    config.seed = seed
    settings = resolve(config)
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


def own_copy(factory: pytest.TempPathFactory, folder: Path) -> Path:
    """A worker's own copy of a shared folder, in which runs may leave files."""
    return shutil.copytree(folder, factory.mktemp(folder.name) / folder.name)


@pytest.fixture(scope="session")
def workdir(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Path:
    """An untrained run of the whole network."""
    made = once(tmp_path_factory, "run", lambda folder: untrained(prepared, folder))
    return own_copy(tmp_path_factory, made)


@pytest.fixture(scope="session")
def silent_workdir(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Path:
    """A run of a network without sentences and maps: neither captioner, no spatial attention."""
    options = {"local_captions": False, "global_captions": False, "refinement": "channel"}
    made = once(tmp_path_factory, "silent", lambda folder: untrained(prepared, folder, **options))
    return own_copy(tmp_path_factory, made)


@pytest.fixture(scope="session")
def half_workdir(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Path:
    """A run of a network that writes a sentence about the whole face, but none about units."""
    made = once(
        tmp_path_factory,
        "half",
        lambda folder: untrained(prepared, folder, local_captions=False),
    )
    return own_copy(tmp_path_factory, made)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, workdir: Path) -> Path:
    """The workdir's network, exported."""
    from vlfau_jax.inference.export import export

    return once(tmp_path_factory, "model", lambda folder: export(workdir, folder))


@pytest.fixture(scope="session")
def silent_folder(tmp_path_factory: pytest.TempPathFactory, silent_workdir: Path) -> Path:
    """The silent network, exported."""
    from vlfau_jax.inference.export import export

    return once(tmp_path_factory, "silent_model", lambda folder: export(silent_workdir, folder))
