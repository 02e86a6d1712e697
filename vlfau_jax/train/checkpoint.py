"""Checkpoints: state, clock and data position, and the little that inference needs.

Every checkpoint holds two trees of arrays, `params` and `optimizer`, a third, `ema`, where the run
averages its parameters, and in its manifest a JSON record with `progress` (next batch, seconds,
devices), `mean_f1` where its step was scored, and `inference` (all that turns parameters into
predictions: action units, vocabulary, crop rule, sizes, config). Evaluation and export read the
average, or `params` where there is none, and the record. They may do so while the run goes on.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import fields
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from vlfau_jax.distributed.processes import is_first_process
from vlfau_jax.errors import DataError, FileError, RunError, UserError, is_exhausted
from vlfau_jax.files import locked
from vlfau_jax.sharding.arrays import fetch
from vlfau_jax.train.manifest import (
    MANIFEST,
    DamagedError,
    Manifest,
    finished_steps,
    read_record,
    what_is_left,
    write_manifest,
)
from vlfau_jax.train.orbax_records import check_orbax
from vlfau_jax.train.read_checkpoint import (
    STORAGE_ERRORS,
    Record,
    abstract_item,
    advice_without,
    check_finite,
    describe_arrays,
    describe_error,
    is_no_orbax_traceback,
    read_checkpoint,
    read_device_arrays,
    read_host_arrays,
)
from vlfau_jax.train.state import TrainState
from vlfau_jax.train.workdir import CHECKPOINTS

LAST, BEST = "last", "best"  # names of a checkpoint; a step's number is the third kind
MEAN_F1 = "mean_f1"
_DESCRIPTORS = 16  # files and sockets that a save needs beside those of TensorStore's threads


class Checkpoints(AbstractContextManager):
    """The checkpoints of a run; saving returns at once and is written in the background.

    The newest `keep` stay, and the best `keep_best` of those that were scored. Where each process
    has a `workdir` of its own (`shared=False`), all gather the arrays whole, as NumPy, of which
    orbax writes those of the first process.
    """

    def __init__(self, workdir: Path, keep: int, keep_best: int = 0, shared: bool = True) -> None:
        """Removes what a killed run had not finished: one process (or job) at a time may train.

        Raises UserError where the folder cannot be written to, holds what orbax must not read, or
        is another run's, which is going on: it may be reached by several links.
        """
        self._folder = (workdir / CHECKPOINTS).absolute()
        _check_writable(self._folder)
        self._draft: tuple[int, Record, dict[str, list[Any]]] = 0, {}, {}  # of the manifest
        self._writing: Any = None  # orbax's handle of the checkpoint being written
        self._gathers = not shared and jax.process_count() > 1
        context = ocp.Context()
        # Orbax calls it once all processes have written, in the first one alone, before it renames
        # the finished checkpoint into place. A function, not a bound method: orbax deep-copies its
        # context, and would copy `self` with it.
        context.asynchronous.post_finalization_callback = lambda: self._finalise()
        # In the background, a folder that cannot be made is noticed after a time-out of minutes.
        context.asynchronous.create_directories_asynchronously = False
        policies = ocp.training.preservation_policies
        kept = [policies.LatestN(keep)]
        if keep_best:
            # A killed run may leave a removed checkpoint in part, without its score.
            by_score = {"get_metric_fn": itemgetter(MEAN_F1), "n": keep_best}
            kept.append(policies.BestN(**by_score, keep_checkpoints_without_metrics=False))
        logging.getLogger("absl").addFilter(is_no_orbax_traceback)  # its threads may outlive us
        _mute_abandoned_writes()
        with ExitStack() as held:
            if is_first_process() or self._gathers:
                self._folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(self._folder))
            _check_readable(self._folder)
            with _translate_opening(self._folder):
                self._checkpointer = ocp.training.Checkpointer(
                    self._folder,
                    context=context,
                    preservation_policy=policies.AnyPreservationPolicy(kept),
                    cleanup_tmp_directories=True,
                )
            self._held = held.pop_all()

    @property
    def latest(self) -> int | None:
        """Steps taken at the newest finished checkpoint."""
        newest = self._checkpointer.latest
        return newest.step if newest else None

    def save(
        self, step: int, state: TrainState, record: Mapping[str, Any], mean_f1: float | None = None
    ) -> None:
        """Copies the state, which may then be donated, and starts writing it.

        `mean_f1` is the step's score, by which the best are kept; None or NaN where it has none.
        Raises RunError, as `check` and `wait` do, where this or the last one cannot be written.
        """
        self.wait()  # for the checkpoint before, whose manifest is still in `_draft`
        scored = mean_f1 is not None and math.isfinite(mean_f1)
        metrics = {MEAN_F1: mean_f1} if scored else None
        items = _items(state)
        if self._gathers:
            items = jax.tree.map(np.array, fetch(items))  # copies: the state may be donated
        self._draft = step, dict(record) | (metrics or {}), describe_arrays(items)
        with self._translate_os_errors(step):
            _check_descriptors()
            self._writing = self._checkpointer.save_checkpointables_async(
                step, items, force=True, metrics=metrics
            )

    def restore(
        self, abstract: TrainState, accept: Callable[[Record], None] = lambda record: None
    ) -> tuple[TrainState, Record]:
        """The newest state and its record. Values are those saved; the layout is `abstract`'s.

        A checkpoint of an earlier version, which skipped no step, gets `skipped` 0.
        `accept` gets the record and may raise before any array is read. Raises UserError where the
        newest checkpoint cannot be read, or holds other arrays than `abstract`.
        """
        self.wait()

        def wanted(manifest: Manifest) -> dict[str, Any]:
            step = (manifest.record.get("progress") or {}).get("next_batch")
            if step != self.latest:
                raise DamagedError(f"is damaged (its record is of step {step})")
            accept(manifest.record)
            items = _items(abstract)
            if "optimizer/skipped" not in manifest.arrays:
                del items["optimizer"]["skipped"]
            return items

        items, record = read_checkpoint(self._folder, self.latest, wanted, read_device_arrays)
        optimizer = items.pop("optimizer")
        if "skipped" not in optimizer:
            optimizer["skipped"] = jax.device_put(np.int32(0), abstract.skipped.sharding)
        return TrainState(**items, **optimizer), record

    def check(self) -> None:
        """Raises what went wrong in the background since, so that no run goes on unsaved."""
        if self._writing is not None and not self._checkpointer.is_saving_in_progress():
            self.wait()

    def wait(self) -> None:
        """Returns when all that was saved is on disk."""
        writing, self._writing = self._writing, None
        if writing is not None:
            with self._translate_os_errors(self._draft[0]):
                writing.result()

    @contextmanager
    def _translate_os_errors(self, step: int) -> Iterator[None]:
        """One line for what orbax raises while it writes."""
        try:
            yield
        except STORAGE_ERRORS as error:
            raise RunError(
                f"{self._folder / str(step)} cannot be written ({describe_error(error)}); "
                f"{what_is_left(self._folder)}"
            ) from error

    def _finalise(self) -> None:
        step, record, arrays = self._draft
        (draft,) = self._folder.glob(f"{step}.orbax-checkpoint-tmp*")
        write_manifest(draft, record, arrays)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.wait()
        except RunError as error:
            if kind is None:
                raise
            print(f"warning: {error}", file=sys.stderr)  # beside the exception that ends the run
        finally:
            with self._held, suppress(*STORAGE_ERRORS):  # raised above already
                self._checkpointer.close()


@cache
def _mute_abandoned_writes() -> None:
    """Prints nothing about what orbax abandons where a part of a checkpoint cannot be written.

    It closes its event loop: parts that end later raise in threads of C++, which Python can only
    print, and those that have not begun are never awaited. The failure itself is raised.
    """
    abandoned = re.compile(r"Event loop is closed|coroutine 'async_serialize.*' was never awaited")
    warnings.filterwarnings("ignore", abandoned.pattern, RuntimeWarning)
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if not abandoned.fullmatch(str(unraisable.exc_value)):
            before(unraisable)

    sys.unraisablehook = hook


@contextmanager
def _translate_opening(folder: Path) -> Iterator[None]:
    """One line for what orbax raises while it opens a folder of checkpoints."""
    try:
        yield
    except STORAGE_ERRORS as error:
        full = isinstance(error, OSError) and is_exhausted(error)
        raise (RunError if full else UserError)(
            f"{folder} cannot be opened ({describe_error(error)}); {what_is_left(folder)}"
        ) from error


@contextmanager
def translate_errors(workdir: Path) -> Iterator[None]:
    """RunError for what the system refuses while a run goes on, such as room on a disk, or data."""
    try:
        yield
    except DataError as error:
        raise RunError(f"{error}; {what_is_left(workdir / CHECKPOINTS)}") from error
    except OSError as error:
        raise RunError(
            f"{error.filename or workdir}: {error.strerror or describe_error(error)}; "
            f"{what_is_left(workdir / CHECKPOINTS)}"
        ) from error


def load_inference(
    workdir: Path,
    checkpoint: str = LAST,
    shapes: Callable[[Record], Any] | None = None,
) -> tuple[Any, Record, int]:
    """Parameters (NumPy), the `inference` record and the step of a run's checkpoint.

    The parameters are the averaged ones where the run averages them (`ema_decay` of the record).
    Nothing is written or removed, so the run may go on at the same time. Where it removes the
    checkpoint that is being read, the choice is made again.

    Args:
        workdir: what `train` wrote.
        checkpoint: "last", "best" (by mean F1, of those that were scored) or a step's number.
        shapes: from the record to shapes and dtypes of the parameters, as it describes the network;
            it may raise before any array is read.

    Raises:
        UserError: there is no such checkpoint, or it cannot be read, or it holds other parameters
            than `shapes` describes.
    """
    folder = (Path(workdir) / CHECKPOINTS).absolute()
    if not folder.is_dir():
        raise UserError(f"{folder} is missing; expected the workdir of `python -m vlfau_jax train`")
    step = _choose(folder, checkpoint)

    def wanted(manifest: Manifest) -> dict[str, Any]:
        # By the manifest, not by what the folder holds: it may be about to be removed.
        if manifest.record.get("inference") is None:
            raise DamagedError(f"is damaged ({MANIFEST}: record.inference is missing)")
        item = "ema" if "ema" in manifest.items else "params"
        if shapes is None:
            return {item: abstract_item(manifest.arrays, item)}
        return {item: shapes(manifest.record["inference"])}

    while True:
        try:
            items, record = read_checkpoint(folder, step, wanted, read_host_arrays)
            break
        except UserError:
            before, step = step, _choose(folder, checkpoint)
            if step == before:  # else the run has gone on, and removed what was being read
                raise
    check_finite(folder / str(step), items)
    (params,) = items.values()
    return params, record["inference"], step


def params_digest(params: Any) -> str:
    """sha256 hex over the parameters' bytes in path order."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    by_path = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    digest = hashlib.sha256()
    for path in sorted(by_path):
        digest.update(np.ascontiguousarray(jax.device_get(by_path[path])).tobytes())
    return digest.hexdigest()


def _items(state: TrainState) -> dict[str, Any]:
    """A state as orbax keeps it: trees by the name of their folder."""
    parts = {field.name: getattr(state, field.name) for field in fields(state)}
    params, ema = parts.pop("params"), parts.pop("ema")
    return {"params": params, "optimizer": parts} | ({} if ema is None else {"ema": ema})


def _choose(folder: Path, checkpoint: str) -> int:
    """The step that `checkpoint` names, of those that are finished."""
    steps = finished_steps(folder)
    if not steps:
        raise UserError(f"{folder} holds no finished checkpoint; train to the first one")
    there = f"{folder} holds step {', '.join(map(str, steps))}"
    if checkpoint == LAST:
        return steps[-1]
    if checkpoint == BEST:
        scores = {}
        for step in steps:
            with suppress(DamagedError):  # such as one that is being removed
                scores[step] = read_record(folder / str(step)).get(MEAN_F1)
        scores = {step: score for step, score in scores.items() if score is not None}
        if scores:
            return max(scores, key=lambda step: (scores[step], step))
        raise UserError(
            f"--checkpoint=best: {there}, none of them scored; train with train.eval_every and "
            "train.keep_best, or give last or a step"
        )
    if checkpoint not in map(str, steps):
        raise UserError(f"--checkpoint={checkpoint}: {there}; give one of them, last or best")
    return int(checkpoint)


def _check_writable(folder: Path) -> None:
    """Refuses a folder before hours of training, not after."""
    if folder.exists() and not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        reason = "may not be written to" if folder.is_dir() else "is not a folder"
        raise UserError(f"{folder} {reason}; {what_is_left(folder)}")


def _check_descriptors() -> None:
    """Raises OSError where few more files can be opened: orbax would leave coroutines behind."""
    opened = []
    try:
        opened.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(_DESCRIPTORS))
    finally:
        for handle in opened:
            os.close(handle)


def _check_readable(folder: Path) -> None:
    """Refuses what orbax would read as it comes."""
    try:
        check_orbax(folder)
    except FileError as error:
        step = error.path.relative_to(folder).parts[0]
        raise UserError(f"{error}; {advice_without(folder, int(step))}") from error
