"""Real processes for tests: the command line, on virtual CPU devices, always ended again."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.kill_train import session

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 120  # seconds, after which a process counts as hanging


class Process:
    """`python -m vlfau_jax ARGV...` on so many CPU devices, its output in files of `folder`.

    `program` is what Python runs with ARGV instead.
    """

    def __init__(
        self,
        argv: Sequence[str],
        devices: int,
        folder: Path,
        program: Sequence[str] = ("-m", "tests.member"),
        **env: str,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.iterdir()))
        self._log = folder / f"{number}.log"
        with self._log.open("w") as log:
            self._popen = subprocess.Popen(
                [sys.executable, *program, *argv],
                cwd=ROOT,
                env=_environment(devices, folder.parent / "xla", env),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait(self) -> int:
        """The exit code; fails where there is none in time."""
        try:
            return self._popen.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {TIMEOUT} s:\n{self.log}") from None

    def wait_for(self, path: Path, text: str = "") -> None:
        """Returns once a file is there and holds `text`."""
        until = time.monotonic() + TIMEOUT
        while not (path.exists() and text in path.read_text()):
            assert self._popen.poll() is None, f"ended before {path} had {text!r}:\n{self.log}"
            assert time.monotonic() < until, f"{path} never had {text!r}:\n{self.log}"
            time.sleep(0.05)

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def left(self) -> list[int]:
        """Processes that it started and that outlive it, though they had time to notice."""
        until = time.monotonic() + TIMEOUT / 4
        while (found := session(self._popen.pid)) and time.monotonic() < until:
            time.sleep(0.1)
        return found

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait()
        for process in session(self._popen.pid):
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _environment(devices: int, cache: Path, changes: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    return kept | {
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_COMPILATION_CACHE_DIR": str(cache),  # shared by processes and runs, see tests.member
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "OMP_NUM_THREADS": "1",
        **changes,
    }
