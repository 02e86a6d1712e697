"""launch/slurm.sh under a real Slurm of two nodes, both of them this machine."""

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from tests.data.sets import coded, write_set
from tests.processes import ROOT, TIMEOUT, environment, free_port, wait_until

STEPS = 10
# The first node bears the machine's name, by which JAX's processes look for the first of them.
HOST = socket.gethostname().partition(".")[0]
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=8
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool_%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SchedulerType=sched/builtin
MailProg=/bin/true
SlurmdTimeout=30
NodeName={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1
NodeName={host}z NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1
PartitionName=all Nodes=ALL Default=YES State=UP
"""

missing = [name for name in ("slurmctld", "slurmd", "munged", "sbatch") if not shutil.which(name)]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(missing),
        reason="no Slurm: apt-get install slurm-wlm munge, or bash launch/test.sh --with-slurm",
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="slurmd starts tasks as root only"),
    pytest.mark.skipif(
        not (ROOT / ".venv/bin/activate").exists(), reason="slurm.sh enters .venv: launch/setup.sh"
    ),
]


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Runs a command of Slurm in a cluster that lives as long as the test; returns its output."""
    conf = tmp_path / "slurm.conf"
    conf.write_text(CONF.format(folder=tmp_path, host=HOST, ports=[free_port() for _ in range(3)]))
    for name in ("munge", "state", f"spool_{HOST}", f"spool_{HOST}z"):
        (tmp_path / name).mkdir()
    key = tmp_path / "munge" / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    env = environment(2, tmp_path / "xla") | {"SLURM_CONF": str(conf)}

    def slurm(*command: str, **more: str) -> str:
        done = subprocess.run(
            command, env=env | more, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    munge = [
        f"--{name}={tmp_path}/munge/{name.removesuffix('-file')}"
        for name in ("key-file", "socket", "pid-file", "log-file", "seed-file")
    ]
    with daemons(
        tmp_path, env, ["munged", "--foreground", "--force", "--num-threads=10", *munge]
    ) as start:
        wait_until((tmp_path / "munge" / "socket").exists, "munged does not start")
        start(["slurmctld", "-D"])
        for node in (HOST, f"{HOST}z"):
            start(["slurmd", "-D", "-N", node])
        wait_until(lambda: ready(slurm), "the two nodes do not become idle")
        yield slurm


def ready(slurm: Callable[..., str]) -> bool:
    """Whether both nodes wait for work; while the daemons start, the question itself fails."""
    with suppress(AssertionError):
        return slurm("sinfo", "--noheader", "--format=%D %t") == "2 idle"
    return False


def processes(belongs: Callable[[Path, list[str], bytes], bool]) -> list[int]:
    """The processes of this cluster of which that is true of /proc/PID, arguments, environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            argv = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if belongs(entry, argv, (entry / "environ").read_bytes()):
                found.append(int(entry.name))
    return found


def kill_node(folder: Path, node: str) -> None:
    """Ends a node's daemon, and all that it has started, as a power cut does."""
    mine = f"SLURM_CONF={folder}/slurm.conf\0".encode()
    here = f"SLURMD_NODENAME={node}\0".encode()

    def parent(pid: int) -> int:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

    doomed = set(processes(lambda _, argv, env: mine in env and argv[1:4] == ["-D", "-N", node]))
    for task in processes(lambda _, __, env: mine in env and here in env):
        while task > 1 and "slurmd" not in Path(f"/proc/{task}/comm").read_text():
            doomed.add(task)
            with suppress(OSError):
                task = parent(task)
                continue
            break
    for pid in doomed:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def daemons(folder: Path, env: dict[str, str], first: list[str]) -> Iterator[Callable]:
    """Starts `first`, and more; ends them all, and the tasks that they left to themselves."""

    started = []

    def start(command: list[str]) -> None:
        with (folder / "daemons.log").open("a") as log:
            started.append(subprocess.Popen(command, env=env, stdout=log, stderr=log))

    try:
        start(first)
        yield start
    finally:
        mine = f"SLURM_CONF={folder}/slurm.conf\0".encode()
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mine in (entry / "environ").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)
        for process in started:
            process.wait()


def test_a_job_told_to_end_is_queued_again_and_goes_on(slurm, tmp_path):
    people = coded(np.random.default_rng(0), "bp4d", ("F001", "F003", "M001", "M003"), 6)
    write_set(tmp_path / "data", "bp4d", people)
    workdir, log = tmp_path / "run", tmp_path / "job.log"
    job = slurm(
        *("sbatch", "--parsable", "--nodes=2", f"--output={log}", "launch/slurm.sh"),
        *("tests/tiny.py", str(workdir)),
        f"--config.data.data_dir={tmp_path / 'data'}",
        f"--config.train.steps={STEPS}",
        "--config.train.checkpoint_every=1",
        *("--config.mesh.data=1", "--config.mesh.fsdp=4"),
        *("--config.model.local_captions=False", "--config.model.global_captions=False"),
        JAX_COORDINATOR_PORT=str(free_port()),
    )
    try:
        metrics = workdir / "metrics.jsonl"
        wait_until(lambda: metrics.exists() and '"step": 1,' in metrics.read_text(), "no step")
        slurm("scancel", "--signal=TERM", job)
        wait_until(lambda: "queued again" in log.read_text(), "the job is not queued again")
        # Slurm lets it wait until its old credentials have expired, see CONF.
        wait_until((workdir / "final.json").exists, "the run does not end")
    finally:
        print(log.read_text() if log.exists() else "no log")
    assert json.loads((workdir / "final.json").read_text())["step"] == STEPS
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    told = [json.loads(line)["step"] for line in lines]
    assert told == list(range(1, STEPS + 1))
    said = log.read_text()
    assert "ended by SIGTERM after step" in said and "going on from step" in said


def test_an_array_of_three_folds_ends_though_a_node_is_killed(slurm, tmp_path):
    people = ("F001", "F002", "F003", "F004", "F005", "F006")
    write_set(tmp_path / "data", "bp4d", coded(np.random.default_rng(0), "bp4d", people, 4))
    workdir, log = tmp_path / "study", tmp_path / "job.%a.log"
    study = [
        *("crossval", "--config=tests/tiny.py", f"--workdir={workdir}", "--folds=1,2,3"),
        f"--config.data.data_dir={tmp_path / 'data'}",
        *("--config.train.steps=60", "--config.train.checkpoint_every=5"),
        *("--config.mesh.data=1", "--config.mesh.fsdp=1", "--config.train.batch_size=4"),
        *("--config.model.local_captions=False", "--config.model.global_captions=False"),
    ]
    slurm("sbatch", "--array=1-3", f"--output={log}", "launch/slurm_study.sh", *study)
    logs = [tmp_path / f"job.{fold}.log" for fold in (1, 2, 3)]
    try:
        wait_until(lambda: where(slurm, f"{HOST}z") and saved(workdir), "nothing is saved")
        kill_node(tmp_path, f"{HOST}z")
        finals = [workdir / f"fold{fold}/final.json" for fold in (1, 2, 3)]
        wait_until(lambda: all(path.exists() for path in finals), "the folds do not end")
        wait_until(lambda: not slurm("squeue", "--noheader"), "the queue does not empty")
    finally:
        for path in logs:
            print(path.read_text()[-3000:] if path.exists() else f"no {path}")
        print(slurm("sinfo", "--noheader", "--format=%n %t"))
    assert (workdir / "crossval.json").exists()
    assert all(json.loads(path.read_text())["step"] == 60 for path in finals)


def where(slurm: Callable[..., str], node: str) -> str:
    """The jobs that run on a node."""
    return slurm("squeue", "--noheader", "--states=RUNNING", f"--nodelist={node}")


def saved(workdir: Path) -> list[Path]:
    """Finished checkpoints of all folds."""
    return [path for path in workdir.glob("*/checkpoints/*") if path.name.isdecimal()]
