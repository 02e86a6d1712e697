"""Real processes, started as a user or a launcher would: they train as one, and end as one."""

import json
import shutil
import signal

import numpy as np
import pytest

from tests.data.sets import coded, write_set
from tests.processes import free_port, run, together
from vlfau_jax.__main__ import main
from vlfau_jax.sharding import processes
from vlfau_jax.train.checkpoint import load_inference, params_digest

STEPS = 6
LAYOUTS = {"two": (2, 4), "four": (4, 2)}  # processes, devices each


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with a prepared set of four people, six frames each, for all runs of this file."""
    folder = tmp_path_factory.mktemp("processes")
    people = coded(np.random.default_rng(0), "bp4d", ("F001", "F003", "M001", "M003"), 6)
    write_set(folder / "data", "bp4d", people)
    return folder


@pytest.fixture(scope="module")
def train(base):
    """Makes the command line of a run in a folder of `base`: parameters are split over all."""

    def argv(name, *more, steps=STEPS):
        return [
            "train",
            "--config=tests/train/tiny_experiment.py",
            f"--workdir={base / name}",
            f"--config.data.data_dir={base / 'data'}",
            f"--config.train.steps={steps}",
            "--config.train.eval_every=3",
            "--config.train.checkpoint_every=1",
            "--config.mesh.data=1",
            "--config.mesh.fsdp=8",
            "--lost_after=10",
            *more,
        ]

    return argv


@pytest.fixture(scope="module")
def alone(base, train):
    """The workdir of one process with eight devices: this one."""
    assert main(train("alone")) == 0
    return base / "alone"


@pytest.fixture(scope="module")
def runs(base, train):
    """Trains in a layout, once: the workdir and the processes that ended."""
    ended = {}

    def trained(layout):
        if layout not in ended:
            ended[layout] = run(train(layout), *LAYOUTS[layout], base / f"logs_{layout}")
        return base / layout, ended[layout]

    return trained


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def without_speed(told):
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in told]


def final(workdir):
    return json.loads((workdir / "final.json").read_text())


def flat(tree, prefix=""):
    for key, value in tree.items():
        yield from flat(value, f"{prefix}/{key}") if isinstance(value, dict) else ((key, value),)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_several_processes_train_what_one_would(alone, runs, layout):
    workdir, ended = runs(layout)
    told = lines(workdir)
    assert [line["step"] for line in told] == list(range(1, STEPS + 1))
    for line, other in zip(told, lines(alone), strict=True):
        assert line.keys() == other.keys()
        for name in line.keys() - {"images_per_second"}:
            np.testing.assert_allclose(line[name], other[name], rtol=1e-5, err_msg=name)
    assert sum("test_mean_f1" in line for line in told) == STEPS // 3
    params, _, step = load_inference(workdir)
    assert (step, params_digest(params)) == (STEPS, final(workdir)["params_digest"])
    for (name, value), (_, other) in zip(flat(params), flat(load_inference(alone)[0]), strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-5, atol=1e-6, err_msg=name)
    assert "trained to step" in ended[0].log
    assert not any(word in ended[1].log for word in ("trained", "compiling", "step/s"))


@pytest.fixture
def ended(base, train):
    """Signals one of two processes in a long run once a step is told: exit codes and last lines."""

    def end(name, step, victim, number):
        argv = train(name, "--resume", steps=1000)
        with together(argv, *LAYOUTS["two"], base / f"logs_{name}") as started:
            started[0].wait_for(base / name / "metrics.jsonl", f'"step": {step},')
            started[victim].send(number)
            codes = [process.wait() for process in started]
            return codes, [process.log.strip().splitlines()[-1] for process in started]

    return end


def test_a_lost_process_ends_all_and_what_was_saved_goes_on(base, train, runs, ended):
    codes, said = ended("faults", 2, 1, signal.SIGKILL)
    assert codes == [75, -signal.SIGKILL]
    assert said[0].startswith("failed: process 1 (")
    assert "no sign of life for 10 s" in said[0] and "the last checkpoint is of step" in said[0]
    assert said[0].endswith("start all processes again with --resume")

    codes, said = ended("faults", 3, 0, signal.SIGKILL)
    assert codes == [-signal.SIGKILL, 75]
    assert said[1].startswith("failed: process 0 (") and "start all processes" in said[1]

    run(train("faults", "--resume"), *LAYOUTS["two"], base / "logs_faults")
    whole, _ = runs("two")
    assert final(base / "faults")["params_digest"] == final(whole)["params_digest"]
    assert without_speed(lines(base / "faults")) == without_speed(lines(whole))


def test_sigterm_of_one_process_saves_the_same_step_in_all(base, ended):
    codes, said = ended("told", 1, 1, signal.SIGTERM)
    assert codes == [75, 75] and said[0] == said[1]
    step = load_inference(base / "told")[2]
    assert said[0] == f"failed: ended by SIGTERM after step {step}, saved; go on with --resume"


def test_one_process_saves_and_two_restore(base, train, alone):
    shutil.copytree(alone, base / "moved")
    (base / "moved" / "final.json").unlink()
    run(train("moved", "--resume"), *LAYOUTS["two"], base / "logs_moved")
    assert final(base / "moved")["params_digest"] == final(alone)["params_digest"]


def test_two_processes_score_as_one_does(base, alone):
    found = []
    for count in (1, 2):
        argv = ["evaluate", f"--workdir={alone}"]
        if count == 1:
            assert main(argv) == 0
        else:
            run([*argv, "--lost_after=30"], 2, 4, base / "logs_evaluate")
        found.append([(alone / name).read_text() for name in ("scores.json", "predictions.jsonl")])
    assert found[0] == found[1]


def test_what_one_process_refuses_ends_all_in_the_same_line(base, train, alone):
    with together(train("alone"), *LAYOUTS["two"], base / "logs_refused") as started:
        assert [process.wait() for process in started] == [2, 2]
        said = [process.log.strip().splitlines()[-1] for process in started]
    assert said[0] == said[1]
    assert said[0].startswith("error: --workdir=") and "is in use" in said[0]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--processes=2",), "--coordinator, --process must be given, too"),
        (("--coordinator=h:1", "--processes=0", "--process=0"), "--processes=0: give 1 or more"),
        (("--coordinator=h:1", "--processes=2", "--process=2"), "--process=2: give 0 to 1"),
        (("--coordinator=h", "--processes=2", "--process=0"), "--coordinator=h: give HOST:PORT"),
        (("--lost_after=0",), "--lost_after=0: give 1 second or more"),
    ],
)
def test_flags_that_cannot_be(capsys, train, flags, said):
    assert main([*train("refused"), *flags]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and said in err


def test_a_coordinator_out_of_reach_is_one_line(capsys, train):
    address = f"127.0.0.1:{free_port()}"
    flags = [f"--coordinator={address}", "--processes=2", "--process=1", "--lost_after=1"]
    assert main([*train("refused"), *flags]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and f"--coordinator={address}: no answer from 127.0.0.1 in 1" in err


SLURM = {"JOB_ID": "7", "STEP_NODELIST": "localhost", "NTASKS": "2", "PROCID": "0", "LOCALID": "0"}


@pytest.mark.parametrize("by", ["flags", "slurm"])
def test_a_process_whom_nobody_joins_says_so(base, by):
    """By flags, and by what an environment like Slurm's says: it waits for its like."""
    argv, env, port = ["evaluate", f"--workdir={base}", "--lost_after=1"], {}, free_port()
    if by == "flags":
        argv += ["--processes=2", "--process=0", f"--coordinator=127.0.0.1:{port}"]
    else:
        env = {f"SLURM_{name}": value for name, value in SLURM.items()}
        env["JAX_COORDINATOR_PORT"] = str(port)
    with together(argv, 1, 1, base / f"logs_lonely_{by}", **env) as (process,):
        assert process.wait() == 75
        assert "not all processes came together in 1 s" in process.log.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("told", "asked"),
    [
        ({}, True),
        ({"SLURM_NTASKS": "1"}, False),
        ({"SLURM_NTASKS": "4"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, False),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}, True),
    ],
)
def test_an_environment_of_one_process_is_not_joined(monkeypatch, told, asked):
    for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert processes._several(None) is asked
    assert processes._several(1) is False
