"""Runs jobs on a cluster with Apache Beam; shared folders hold pictures and results.

Beam is not among the requirements: `pip install --no-deps -r requirements-beam.txt`.
"""

from __future__ import annotations

import importlib
import io
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any

from vlfau_jax.errors import RunError, UserError


def check(runner: str, options: Sequence[str]) -> None:
    """Raises UserError if Beam is not installed or refuses the runner or an option."""
    _pipeline(_beam(), runner, options)


def run(
    jobs: Sequence[Any],
    function: Callable[[Any], object],
    runner: str,
    options: Sequence[str] = (),
    on_poll: Callable[[], object] = lambda: None,
) -> None:
    """Calls `function` with each of `jobs`, in any order, on a runner's workers, and waits.

    The calls' return values are ignored: they write files to a folder that all workers see.

    Args:
        jobs: pickled for the workers.
        function: from an importable module; this package must be installed on the workers.
        runner: DirectRunner, DataflowRunner, FlinkRunner, or another that Beam knows.
        options: Beam's own, each "name=value", such as "direct_num_workers=4".
        on_poll: called once a second until the runner ends.

    Raises:
        UserError: see `check`.
        RunError: the runner failed, or a job did.
    """
    beam = _beam()
    pipeline = _pipeline(beam, runner, options)
    # Without the reshuffle a runner fuses all jobs into one piece of work.
    _ = pipeline | beam.Create(jobs) | beam.Reshuffle() | beam.Map(function)
    log = logging.getLogger("apache_beam.runners.common")
    log.addFilter(_is_not_ours)
    try:
        with _polled(on_poll):
            pipeline.run().wait_until_finish()
    except (RunError, UserError) as error:
        # Beam appends the place in the pipeline.
        raise type(error)(str(error).partition(" [while running")[0]) from error
    except Exception as error:  # each runner has its own, with the worker's traceback as text
        raise RunError(f"Beam's {runner} failed: {_reason(error)}") from error
    finally:
        log.removeFilter(_is_not_ours)


def _beam() -> Any:
    try:
        with _quiet(logging.WARNING):  # it warns about Google's libraries, even without Dataflow
            return importlib.import_module("apache_beam")
    except ImportError as error:
        raise UserError(
            f"--beam_runner needs Apache Beam ({error}); run: "
            "pip install --no-deps -r requirements-beam.txt"
        ) from error


def _pipeline(beam: Any, runner: str, options: Sequence[str]) -> Any:
    known, parsed = _runner(beam, runner), _pipeline_options(beam, options)
    try:
        with _quiet(logging.WARNING):
            return beam.Pipeline(known, options=parsed)
    except ValueError as error:  # a list of all options that the runner lacks
        reason = "; ".join(line.strip(" .") for line in str(error).splitlines()[1:])
        raise UserError(f"--beam_runner={runner}: {reason or error}; see --beam_options") from error


def _runner(beam: Any, name: str) -> Any:
    if name == "DirectRunner":
        # Beam's own runner of that name first tries Prism, a program that it downloads.
        return importlib.import_module(
            "apache_beam.runners.portability.fn_api_runner"
        ).FnApiRunner()
    try:
        return beam.runners.runner.create_runner(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"--beam_runner={name}: {' '.join(str(error).split())}") from error


def _pipeline_options(beam: Any, options: Sequence[str]) -> Any:
    parsed = beam.options.pipeline_options.PipelineOptions(
        [f"--{option.removeprefix('--')}" for option in options]
    )
    printed = io.StringIO()
    try:
        with redirect_stderr(printed), _quiet(logging.WARNING):
            known = parsed.get_all_options()
            unknown = parsed.get_all_options(retain_unknown_options=True).keys() - known.keys()
    except SystemExit as error:  # from argparse, which prints the reason
        reason = printed.getvalue().strip().rpartition(": error: ")[2]
        raise UserError(f"--beam_options={' '.join(options)}: {reason}") from error
    if unknown:
        raise UserError(f"--beam_options={min(unknown)}: Beam has no such option")
    return parsed


@contextmanager
def _quiet(level: int) -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(level)
    try:
        yield
    finally:
        logging.disable(before)


def _is_not_ours(record: logging.LogRecord) -> bool:
    """Whether a log record is not of our own errors, which are reported in one line."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, (RunError, UserError))


@contextmanager
def _polled(on_poll: Callable[[], object]) -> Iterator[None]:
    ended = threading.Event()

    def poll() -> None:
        while not ended.wait(1):
            on_poll()

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _reason(error: Exception) -> str:
    """The last non-blank line of a message that may hold tracebacks."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
