"""Real processes, started as a user or a launcher would: they train as one, and end as one."""

import json
import shutil
import signal

import numpy as np
import pytest

from tests.data.sets import coded, write_set
from tests.processes import Process, free_port, run, together
from vlfau_jax.cli.main import main
from vlfau_jax.distributed.coordinator import expects_several_processes
from vlfau_jax.train.checkpoint import load_inference, params_digest

pytestmark = pytest.mark.slow

STEPS = 12  # more than the faults below leave time for
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
    """Makes the command line of a run in a folder of `base`: parameters are split over all.

    The network has no captioners: the processes would trace them for half of each run's time.
    """

    def argv(name, *more, steps=STEPS):
        return [
            "train",
            "--config=tests/tiny.py",
            f"--workdir={base / name}",
            f"--config.data.data_dir={base / 'data'}",
            f"--config.train.steps={steps}",
            "--config.train.eval_every=3",
            "--config.train.checkpoint_every=1",
            "--config.mesh.data=1",
            "--config.mesh.fsdp=8",
            "--config.model.depths=(0,0,0,2)",  # a lone one drops no path by its row
            "--config.model.local_captions=False",
            "--config.model.global_captions=False",
            "--lost_after=10",
            *more,
        ]

    return argv


@pytest.fixture(scope="module")
def alone(base, train):
    """The workdir of one process with eight devices: this one. Every step is kept."""
    assert main(train("alone", f"--config.train.keep={STEPS}")) == 0
    return base / "alone"


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def final(workdir):
    return json.loads((workdir / "final.json").read_text())


def flat(tree, prefix=""):
    for key, value in tree.items():
        yield from flat(value, f"{prefix}/{key}") if isinstance(value, dict) else ((key, value),)


def same_as_alone(workdir, alone, steps=STEPS):
    """A run's metrics of every step, once each, and the parameters at the end."""
    logged = lines(workdir)
    assert [line["step"] for line in logged] == list(range(1, steps + 1))
    for line, other in zip(logged, lines(alone), strict=False):
        assert line.keys() == other.keys()
        for name in line.keys() - {"images_per_second"}:
            np.testing.assert_allclose(line[name], other[name], rtol=1e-5, err_msg=name)
    assert sum("test_mean_f1" in line for line in logged) == steps // 3
    params, _, step = load_inference(workdir)
    assert (step, params_digest(params)) == (steps, final(workdir)["params_digest"])
    others = load_inference(alone, str(steps))[0]
    for (name, value), (_, other) in zip(flat(params), flat(others), strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-5, atol=1e-6, err_msg=name)


def test_four_processes_train_what_one_would(base, train, alone):
    """From a checkpoint of one, between two scores: each process compiles nothing but the step."""
    shutil.copytree(alone, base / "four")
    (base / "four" / "final.json").unlink()
    for step in range(10, STEPS + 1):
        shutil.rmtree(base / "four" / "checkpoints" / str(step))
    ended = run(train("four", "--resume", steps=11), *LAYOUTS["four"], base / "logs_four")
    same_as_alone(base / "four", alone, 11)
    assert "going on from step 9" in ended[0].log
    assert "trained to step" in ended[0].log
    for process in ended[1:]:
        assert not any(word in process.log for word in ("trained", "compiling", "step/s"))


def interrupted(argv, workdir, victim, number):
    """Signals one of two processes once a step is logged: exit codes and last lines."""
    newest = lines(workdir)[-1]["step"] if workdir.exists() else 0
    with together(argv, *LAYOUTS["two"], workdir.parent / "logs_faults") as started:
        started[0].wait_for(workdir / "metrics.jsonl", f'"step": {newest + 1},')
        started[victim].send(number)
        codes = [process.wait() for process in started]
        assert not any(process.left() for process in started)
        return codes, [last_line(process.log) for process in started]


def last_line(log):
    """The line with which a process ends; a page about the memory of its loaders may follow."""
    return "".join(line for line in log.splitlines() if line.startswith("failed: "))


def test_what_a_lost_process_and_sigterm_interrupt_goes_on(base, train, alone):
    """One run through three faults, and the end is that of a run without any."""
    workdir, argv = base / "faults", train("faults", "--resume", steps=1000)
    loaded = [*argv, "--config.data.workers=1"]  # a process each, which must not outlive its own
    codes, messages = interrupted(loaded, workdir, 1, signal.SIGKILL)
    assert codes == [75, -signal.SIGKILL]
    assert messages[0].startswith("failed: process 1 (")
    assert "no heartbeat for 10 s" in messages[0]
    assert messages[0].endswith("start all processes again with --resume")

    codes, messages = interrupted(argv, workdir, 0, signal.SIGKILL)
    assert codes == [-signal.SIGKILL, 75]
    assert (
        messages[1].startswith("failed: process 0 (") and "the last checkpoint is of" in messages[1]
    )

    codes, messages = interrupted(argv, workdir, 1, signal.SIGTERM)
    assert codes == [75, 75] and messages[0] == messages[1]
    step = load_inference(workdir)[2]
    assert messages[0] == f"failed: ended by SIGTERM after step {step}, saved; go on with --resume"

    run(train("faults", "--resume", steps=step + 1), *LAYOUTS["two"], base / "logs_faults")
    same_as_alone(workdir, alone, step + 1)


def test_one_process_saves_and_two_restore(base, train, alone):
    shutil.copytree(alone, base / "resumed")
    (base / "resumed" / "final.json").unlink()
    run(train("resumed", "--resume"), *LAYOUTS["two"], base / "logs_resumed")
    assert final(base / "resumed")["params_digest"] == final(alone)["params_digest"]


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
        messages = [process.log.strip().splitlines()[-1] for process in started]
    assert messages[0] == messages[1]
    assert messages[0].startswith("error: --workdir=") and "is in use" in messages[0]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--processes=2",), "--coordinator, --process must be given, too"),
        (("--coordinator=h:1", "--processes=0", "--process=0"), "--processes=0: give 1 to 1048576"),
        (("--coordinator=h:1", "--processes=2", "--process=2"), "--process=2: give 0 to 1"),
        (("--coordinator=h", "--processes=2", "--process=0"), "--coordinator=h: give HOST:PORT"),
        (("--lost_after=0",), "--lost_after=0.0: give 1 to 86400"),
    ],
)
def test_flags_that_cannot_be(capsys, train, flags, message):
    assert main([*train("refused"), *flags]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and message in err


def test_a_coordinator_out_of_reach_is_one_line(capsys, train):
    address = f"127.0.0.1:{free_port()}"
    flags = [f"--coordinator={address}", "--processes=2", "--process=1", "--lost_after=1"]
    assert main([*train("refused"), *flags]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and f"--coordinator={address}: no answer from 127.0.0.1 in 1" in err


@pytest.mark.parametrize("call", ["run_on_first('it', lambda: end())", "check_same('it', end())"])
def test_the_first_process_lost_in_what_others_wait_for(call, tmp_path):
    """The others wait for it without a time limit of their own: the heartbeat ends them."""
    code = f"""
import os, signal, sys
from vlfau_jax.distributed.processes import check_same, process_group, run_on_first
from vlfau_jax.distributed.processes import is_first_process
end = lambda: is_first_process() and os.kill(os.getpid(), signal.SIGKILL)
with process_group(sys.argv[1], 2, int(sys.argv[2]), lost_after=30, preemptible=True):
    {call}
"""
    address, program = f"127.0.0.1:{free_port()}", ("-c", code)
    with (
        Process([address, "0"], 1, tmp_path / "logs", program) as first,
        Process([address, "1"], 1, tmp_path / "logs", program) as second,
    ):
        assert (second.wait(), first.wait()) == (75, -signal.SIGKILL), second.log
    assert second.log.strip().splitlines()[-1].startswith("failed: process 0 (")


SLURM = {"JOB_ID": "7", "STEP_NODELIST": "localhost", "NTASKS": "2", "PROCID": "0", "LOCALID": "0"}


@pytest.mark.parametrize("by", ["flags", "slurm"])
def test_a_process_to_which_no_other_connects_ends_with_one_line(base, by):
    """By flags, and by an environment like Slurm's."""
    argv, env, port = ["evaluate", f"--workdir={base}", "--lost_after=1"], {}, free_port()
    if by == "flags":
        argv += ["--processes=2", "--process=0", f"--coordinator=127.0.0.1:{port}"]
    else:
        env = {f"SLURM_{name}": value for name, value in SLURM.items()}
        env["JAX_COORDINATOR_PORT"] = str(port)
    with together(argv, 1, 1, base / f"logs_single_{by}", **env) as (process,):
        assert process.wait() == 75
        assert "not all processes were started within 1 s" in process.log.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("variables", "asked"),
    [
        ({}, True),
        ({"SLURM_NTASKS": "1"}, False),
        ({"SLURM_NTASKS": "4"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, False),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}, True),
    ],
)
def test_an_environment_of_one_process_starts_no_group(monkeypatch, variables, asked):
    for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert expects_several_processes(None) is asked
    assert expects_several_processes(1) is False
