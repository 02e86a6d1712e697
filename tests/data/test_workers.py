"""Worker processes and threads: ordered results, reported steps, and no process left behind."""

import builtins
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from tests.processes import TIMEOUT
from vlfau_jax.data.workers import Workers, advance, in_threads
from vlfau_jax.errors import RunError


@pytest.mark.parametrize("count", [0, 2])
def test_results_come_in_order(count):
    with Workers(count) as workers:
        assert list(workers.starmap(pow, [(k, 2) for k in range(9)])) == [k * k for k in range(9)]


def steps(count):
    for _ in range(count):
        advance()
    return count


@pytest.mark.parametrize("count", [0, 2])
def test_steps_are_heard_from_every_process(count):
    reported = []
    with Workers(count, reported.append) as workers:
        assert list(workers.starmap(steps, [(k,) for k in range(9)])) == list(range(9))
    assert sum(reported) == 36
    advance()  # outside the context it does nothing
    assert sum(reported) == 36


def test_a_killed_process_ends_the_wait():
    with Workers(1) as workers, pytest.raises(RunError, match="was killed"):
        list(workers.starmap(os._exit, [(9,)] * 4))


def sleep_and_write(seconds, file):
    time.sleep(seconds)
    file.touch()
    return os.getpid()


def test_ctrl_c_reaches_no_worker_but_ends_it(tmp_path):
    """The terminal sends SIGINT to all of them; only this process answers, and quickly."""
    with pytest.raises(KeyboardInterrupt), Workers(1) as workers:
        calls = [(0, tmp_path / "a"), (0, tmp_path / "b"), (600, tmp_path / "c")]
        results = workers.starmap(sleep_and_write, calls)
        pid = next(results)
        os.kill(pid, signal.SIGINT)
        assert next(results) == pid
        raise KeyboardInterrupt
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not (tmp_path / "c").exists()


def is_watched_while_imports_are_replaced():
    """tfds does so in the seconds in which it is imported."""
    original = builtins.__import__
    builtins.__import__ = lambda *_, **__: SimpleNamespace(wait=None)
    try:
        time.sleep(0.5)  # two looks at the parent
    finally:
        builtins.__import__ = original
    return any("watch" in thread.name for thread in threading.enumerate())


def test_a_worker_that_imports_goes_on_watching_its_parent():
    with Workers(1) as workers:
        assert list(workers.starmap(is_watched_while_imports_are_replaced, [()])) == [True]


def is_deaf():
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_worker_is_born_ctrl_c_blocked():
    """It inherits that: what it did itself would come after a second of imports."""
    with Workers(1) as workers:
        assert list(workers.starmap(is_deaf, [()])) == [True]
    assert not is_deaf()


def test_deafness_outlives_the_start_of_the_resource_tracker():
    """Which unblocks SIGINT, in a process that had none yet."""
    code = (
        "import multiprocessing, signal; from vlfau_jax.data.workers import ctrl_c_blocked\n"
        "with ctrl_c_blocked():\n"
        "    multiprocessing.get_context('spawn').Semaphore()\n"
        "    print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert finished.stdout == "True\n"


def test_results_of_threads_come_in_order_and_errors_when_they_are_due():
    first = threading.Event()

    def work(item):
        if item == 0:
            assert first.wait(TIMEOUT)  # the second one is ready before it
        if item == 1:
            first.set()
        return 10 // (3 - item)

    results = in_threads(work, range(9), ahead=2)
    assert [next(results) for _ in range(3)] == [3, 5, 10]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_what_items_raise_comes_after_the_results_before():
    def items():
        yield from range(3)
        raise KeyboardInterrupt

    results = in_threads(str, items(), ahead=4)
    assert [next(results) for _ in range(3)] == ["0", "1", "2"]
    with pytest.raises(KeyboardInterrupt):
        next(results)


def test_threads_run_ahead_as_far_as_told_and_stop_when_closed():
    taken, done = [], []

    def items():
        for k in range(100):
            taken.append(k)
            yield k

    results = in_threads(done.append, items(), ahead=4)
    assert not taken
    next(results)
    assert taken == list(range(5))
    next(results)
    assert taken == list(range(6))
    results.close()
    count = len(done)
    assert count <= 6
    assert not [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor")]
    assert list(in_threads(done.append, [], ahead=4)) == [] and len(done) == count
