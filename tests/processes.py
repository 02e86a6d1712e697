"""The one way in which tests start processes: with their environment, a log, and a certain end."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Seconds after which something counts as hanging. It is never waited for where a test passes, and
# it is long because other work may load the machine.
TIMEOUT = 600

# Tests run tiny programs once: compiling them is nearly all of their time. jaxlib 0.12 no longer
# knows the second flag, and aborts on what it does not know.
XLA_FLAGS = "--xla_backend_optimization_level=0"
if version("jaxlib").startswith("0.10."):
    XLA_FLAGS += " --xla_cpu_use_fusion_emitters=false"


class Process:
    """`python -m vlfau_jax ARGV...`, its output in a file of `folder`."""

    def __init__(
        self,
        argv: Sequence[str],
        devices: int,
        folder: Path,
        program: Sequence[str] = ("-m", "tests.member"),
        cwd: Path = ROOT,
        **env: str,
    ) -> None:
        """Starts the process in a session of its own.

        Args:
            argv: its arguments.
            devices: virtual CPU devices that JAX finds.
            folder: of the log; XLA's cache is beside it.
            program: what Python runs with `argv`; by default the command line, see tests.member.
            cwd: the working directory; the checkout is imported from everywhere.
            env: more variables of the environment.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / f"{len(list(folder.iterdir()))}.log"
        with self._log.open("w") as log:
            self._popen = subprocess.Popen(
                [sys.executable, *program, *argv],
                cwd=cwd,
                env=environment(devices, folder.parent / "xla") | env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def log(self) -> str:
        """What it wrote so far, to stdout and stderr."""
        return self._log.read_text()

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def wait(self) -> int:
        """The exit code; fails where there is none in time."""
        try:
            return self._popen.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {TIMEOUT} s:\n{self.log}") from None

    def wait_for(self, path: Path, text: str = "") -> None:
        """Returns once a file is there and holds `text`; fails where the process ends before."""

        def found() -> bool:
            # In this order: what was written before the end is found after it.
            alive = self.alive
            if path.exists() and text in path.read_text():
                return True
            assert alive, f"ended before {path} had {text!r}:\n{self.log}"
            return False

        wait_until(found, f"{path} never had {text!r}", self)

    def wait_for_log(self, text: str) -> None:
        """Returns once its own output holds `text`."""
        self.wait_for(self._log, text)

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def left(self) -> list[int]:
        """Processes that it started and that outlive it, though they had time to end."""
        until = time.monotonic() + TIMEOUT / 4
        while (found := session(self.pid)) and time.monotonic() < until:
            time.sleep(0.1)
        return found

    def kill(self) -> None:
        """Ends it and all that it started."""
        self._popen.kill()
        self._popen.wait(TIMEOUT)  # one that waits for a file system that hangs does not end
        for process in session(self.pid):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


@contextmanager
def together(
    argv: Sequence[str], processes: int, devices: int, folder: Path, **env: str
) -> Iterator[list[Process]]:
    """So many processes with so many devices each; one alone gets no flags of the others."""
    started = []
    try:
        flags = [f"--coordinator=127.0.0.1:{free_port()}", f"--processes={processes}"]
        for k in range(processes):
            mine = [*flags, f"--process={k}"] if processes > 1 else []
            started.append(Process([*argv, *mine], devices, folder, **env))
        yield started
    finally:
        for process in started:
            process.kill()


def run(argv: Sequence[str], processes: int, devices: int, folder: Path) -> list[Process]:
    """Starts them and waits for success."""
    with together(argv, processes, devices, folder) as started:
        for process in started:
            code = process.wait()
            assert code == 0, f"exit code {code}:\n{process.log}"
    return started


def wait_until(
    condition: Callable[[], object],
    message: str,
    process: Process | None = None,
    every: float = 0.05,
) -> None:
    """Returns once `condition()` is true; fails where it does not become true in time.

    Args:
        condition: is called again and again.
        message: of the failure; the log of `process` is added.
        process: whose log explains the failure.
        every: seconds between two calls.
    """
    end = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{message}\n{process.log if process else ''}")
        time.sleep(every)


def session(leader: int) -> list[int]:
    """Living processes of a session, by /proc; zombies are dead."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                state, _, _, of = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(of) == leader and state != "Z":
                    found.append(int(entry.name))
    return found


def free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(devices: int, cache: Path) -> dict[str, str]:
    """The variables of a process: CPU only, no proxy, and XLA's programs kept in `cache`."""
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    return kept | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_COMPILATION_CACHE_DIR": str(cache),  # shared by processes and runs, see tests.member
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": XLA_FLAGS,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }
