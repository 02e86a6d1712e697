"""Several real processes check that they have the same inputs, and connect before they compute.

Each runs in a folder of its own, which /proc/self/cwd names: one path, as on two machines.
"""

import json
import re
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest

from tests.data.sets import coded, write_set
from tests.processes import ROOT, Process, free_port
from tests.tiny import noise_set
from vlfau_jax.distributed import processes
from vlfau_jax.errors import UserError
from vlfau_jax.evaluation import evaluate as evaluation
from vlfau_jax.train.loop import train

pytestmark = pytest.mark.slow

CODE = """
from tests.member import main
from vlfau_jax.distributed import agreement
agreement._DELAY = 1.0
main()
"""
HERE = "/proc/self/cwd"
TRAIN = [
    "train",
    f"--config={ROOT}/tests/tiny.py",
    "--config.train.steps=2",
    "--config.train.eval_every=2",
    "--config.train.checkpoint_every=1",
    "--config.model.local_captions=False",
    "--config.model.global_captions=False",
]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with a prepared set."""
    base = tmp_path_factory.mktemp("together")
    people = coded(np.random.default_rng(0), "bp4d", ("F001", "F003", "M001", "M003"), 3)
    write_set(base / "data", "bp4d", people)
    return base


@pytest.fixture(scope="module")
def trained(base):
    """A workdir of two processes on four devices, and their logs."""
    mesh = [f"--config.mesh.{axis}=2" for axis in ("data", "fsdp")]
    argv = [*TRAIN, f"--workdir={base / 'run'}", f"--config.data.data_dir={base / 'data'}", *mesh]
    codes, logs = both([argv, argv], [base, base], 2)
    assert codes == [0, 0], logs
    return base / "run", logs


def both(argvs, folders, devices):
    """Exit codes and logs of two processes, each with its own flags in its own folder."""
    address, started = f"127.0.0.1:{free_port()}", []
    try:
        for k, (argv, folder) in enumerate(zip(argvs, folders, strict=True)):
            flags = [f"--coordinator={address}", "--processes=2", f"--process={k}"]
            process = Process([*argv, *flags], devices, folder / "logs", ("-c", CODE), folder)
            started.append(process)
        return [process.wait() for process in started], [process.log for process in started]
    finally:
        for process in started:
            process.kill()


def last(log):
    return log.strip().splitlines()[-1]


def test_a_workdir_that_not_all_see_ends_all_before_training(base, tmp_path):
    folders = [tmp_path / "0", tmp_path / "1"]
    for folder in folders:
        (folder / "run").mkdir(parents=True)
    argv = [*TRAIN, f"--workdir={HERE}/run", f"--config.data.data_dir={base / 'data'}"]
    codes, logs = both([argv, argv], folders, 1)
    assert codes == [2, 2], logs
    assert last(logs[0]) == last(logs[1])
    assert re.search(f"process 1 on .* cannot see --workdir={HERE}/run of process 0", last(logs[0]))
    left = {path.name for path in (folders[0] / "run").iterdir()}
    assert left == {"config.json", "run.lock"}


def test_all_connections_are_open_before_anything_compiles(trained):
    """Or else whoever compiles for 30 s longer than another finds it gone, and the run fails."""
    before, after = trained[1][0].split("compiling")
    assert "[Gloo]" in before  # it logs every connection that it opens
    assert "[Gloo]" not in after


class StoreOfFirst:
    """A key-value store that holds these values of the first process and no others."""

    def __init__(self, values):
        self.values = values

    def blocking_key_value_get(self, key, _):
        return json.dumps(self.values[key.removeprefix("vlfau_jax/same/")])


@pytest.fixture
def first_has(monkeypatch):
    """Makes this process another than the first, whose values are given by name."""

    def set_values(**values):
        heartbeat = SimpleNamespace(client=StoreOfFirst(values))
        monkeypatch.setattr(processes, "_heartbeat", heartbeat)
        monkeypatch.setattr(processes, "is_first_process", lambda: False)

    return set_values


def test_configs_that_differ_are_refused_by_key(tiny, tmp_path, first_has):
    first_has(**{"--config": asdict(tiny(steps=5))})
    with pytest.raises(
        UserError, match=r"--config\.train\.steps: process .* has 4, process 0 has 5"
    ):
        train(tiny(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_data_that_differ_behind_one_path(tiny, tmp_path, first_has):
    identity = noise_set(seed=4).identity
    first_has(**{"--config": asdict(tiny()), "data": {"bp4d": identity}})
    with pytest.raises(UserError, match=r"data\.bp4d\.labels: process "):
        train(tiny(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("flag", "key"), [("checkpoint", "step"), ("batch_size", "batch_size")])
def test_evaluations_that_differ(trained, first_has, monkeypatch, flag, key):
    values = []
    with monkeypatch.context() as patch, pytest.raises(StopIteration):
        patch.setattr(
            evaluation, "check_same", lambda *value: values.append(value) or next(iter(()))
        )
        evaluation.evaluate(trained[0])
    first_has(**dict(values))
    with pytest.raises(UserError, match=rf"evaluate\.{key}: process .* has 1, process 0 has "):
        evaluation.evaluate(trained[0], **{flag: {"checkpoint": "1", "batch_size": 1}[flag]})
