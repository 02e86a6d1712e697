"""Checkpoints: state, clock and data position, and the little that inference needs.

Every checkpoint holds two trees of arrays, `params` and `optimizer`, a third, `ema`, where the run
averages its parameters, and in its manifest a JSON record with `progress` (next batch, seconds),
`mean_f1` where its step was scored, and `inference` (all that turns parameters into answers: units,
vocabulary, crop rule, sizes, config). Evaluation and export read the average, or `params` where
there is none, and the record. They may do so while the run goes on.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import fields
from operator import itemgetter
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import unflatten_dict
from orbax.checkpoint import v1 as ocp

from vlfau_jax.errors import DataError, RunError, UserError
from vlfau_jax.train.manifest import (
    DamagedError,
    Manifest,
    finished_steps,
    last_good,
    read_manifest,
    read_record,
    what_is_left,
    write_manifest,
)
from vlfau_jax.train.state import TrainState
from vlfau_jax.train.workdir import CHECKPOINTS

LAST, BEST = "last", "best"  # which checkpoint answers; a step's number is the third way to say it
MEAN_F1 = "mean_f1"

# What orbax and tensorstore raise on files that are missing, cut short or altered, and on those
# that cannot be written.
_FAILED = (OSError, ValueError, KeyError, TypeError, RuntimeError)

_TREES = ("params", "ema", "optimizer")

Record = dict[str, Any]


class Checkpoints(AbstractContextManager):
    """The checkpoints of a run; saving returns at once and is written in the background.

    The newest `keep` stay, and the best `keep_best` of those that were scored.
    """

    def __init__(self, workdir: Path, keep: int, keep_best: int = 0) -> None:
        """Removes what a killed run had not finished: one process (or job) at a time may train.

        Raises UserError where the folder cannot be written to.
        """
        self._folder = (workdir / CHECKPOINTS).absolute()
        _check_writable(self._folder)
        self._draft: tuple[int, Record, dict[str, list[Any]]] = 0, {}, {}  # of the manifest
        self._writing: Any = None  # orbax's handle of the checkpoint under way
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
        logging.getLogger("absl").addFilter(_not_told_again)  # its threads may outlive the run
        self._checkpointer = ocp.training.Checkpointer(
            self._folder,
            context=context,
            preservation_policy=policies.AnyPreservationPolicy(kept),
            cleanup_tmp_directories=True,
        )

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
        self.wait()  # for the checkpoint before, whose manifest `_draft` fills
        scored = mean_f1 is not None and math.isfinite(mean_f1)
        metrics = {MEAN_F1: mean_f1} if scored else None
        items = _items(state)
        self._draft = step, dict(record) | (metrics or {}), _arrays(items)
        with self._translate_os_errors(step):
            self._writing = self._checkpointer.save_checkpointables_async(
                step, items, force=True, metrics=metrics
            )

    def restore(
        self, abstract: TrainState, accept: Callable[[Record], None] = lambda record: None
    ) -> tuple[TrainState, Record]:
        """The newest state, laid out as `abstract` says, and its record; what is saved counts.

        One of an earlier version, which skipped no step, gets `skipped` 0.
        `accept` may raise, once it has seen the record, before any array is read. Raises UserError
        where the newest checkpoint cannot be read, or holds other arrays than `abstract`.
        """
        self.wait()

        def wanted(manifest: Manifest) -> dict[str, Any]:
            accept(manifest.record)
            items = _items(abstract)
            if "optimizer/skipped" not in manifest.arrays:
                del items["optimizer"]["skipped"]
            return items

        items, record = _read(self._folder, self.latest, wanted)
        optimizer = items.pop("optimizer")
        if "skipped" not in optimizer:
            optimizer["skipped"] = jax.device_put(np.int32(0), abstract.skipped.sharding)
        return TrainState(**items, **optimizer), record

    def check(self) -> None:
        """Raises what went wrong in the background since: nobody trains on for nothing."""
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
        except _FAILED as error:
            raise RunError(
                f"{self._folder / str(step)} cannot be written ({_reason(error)}); "
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
            print(f"note: {error}", file=sys.stderr)  # what ends the run already goes on
        finally:
            with suppress(*_FAILED):  # told already
                self._checkpointer.close()


@contextmanager
def translate_errors(workdir: Path) -> Iterator[None]:
    """RunError for what the system refuses while a run goes on, such as room on a disk, or data."""
    try:
        yield
    except DataError as error:
        raise RunError(f"{error}; {what_is_left(workdir / CHECKPOINTS)}") from error
    except OSError as error:
        raise RunError(
            f"{error.filename or workdir}: {error.strerror or _reason(error)}; "
            f"{what_is_left(workdir / CHECKPOINTS)}"
        ) from error


def load_inference(
    workdir: Path,
    checkpoint: str = LAST,
    shapes: Callable[[Record], Any] | None = None,
) -> tuple[Any, Record, int]:
    """Parameters (NumPy), the `inference` record and the step of a run's checkpoint.

    The parameters are the averaged ones where the run averages them (`ema_decay` of the record).
    Nothing is written or removed, so that the run may go on meanwhile; where it removes the
    checkpoint that is being read, the choice is made again.

    Args:
        workdir: what `train` wrote.
        checkpoint: "last", "best" (by mean F1, of those that were scored) or a step's number.
        shapes: from the record to shapes and dtypes of the parameters, as it describes the network;
            it may raise before any array is read.

    Raises:
        UserError: there is no such checkpoint, or it cannot be read, or it holds other parameters
            than `shapes` says.
    """
    folder = (Path(workdir) / CHECKPOINTS).absolute()
    if not folder.is_dir():
        raise UserError(f"{folder} is missing; expected the workdir of `python -m vlfau_jax train`")
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    step = _choose(folder, checkpoint)

    def wanted(manifest: Manifest) -> dict[str, Any]:
        # Not by what the folder holds: it may be on its way out.
        answering = "ema" if "ema" in manifest.items else "params"
        if shapes is not None:
            tree = shapes(manifest.record["inference"])
        else:
            tree = _tree(manifest.arrays, answering)
        return {
            answering: jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), tree
            )
        }

    while True:
        try:
            items, record = _read(folder, step, wanted)
            break
        except UserError:
            before, step = step, _choose(folder, checkpoint)
            if step == before:  # else the run has gone on, and removed what was being read
                raise
    (params,) = items.values()
    return jax.tree.map(np.asarray, params), record["inference"], step


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


def _arrays(items: Mapping[str, Any]) -> dict[str, list[Any]]:
    """[dtype, shape] of every array by its path."""
    leaves = jax.tree_util.tree_leaves_with_path(items)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): [str(leaf.dtype), [*leaf.shape]]
        for path, leaf in leaves
    }


def _tree(arrays: Mapping[str, list[Any]], item: str) -> Any:
    """Shapes and dtypes of an item of nested dicts, as its manifest lists them."""
    found = {
        path.removeprefix(f"{item}/"): jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))
        for path, (dtype, shape) in arrays.items()
        if path.startswith(f"{item}/")
    }
    return unflatten_dict(found, sep="/")


def _difference(written: Mapping[str, list[Any]], wanted: Mapping[str, list[Any]]) -> str:
    """The first array that is not as wanted, and how many are not; "" where all are."""
    paths = sorted(
        path for path in written.keys() | wanted.keys() if written.get(path) != wanted.get(path)
    )
    if not paths:
        return ""

    def said(arrays: Mapping[str, list[Any]]) -> str:
        if paths[0] not in arrays:
            return "absent"
        dtype, shape = arrays[paths[0]]
        return f"{dtype}{shape}"

    more = f", and {len(paths) - 1} more differ" if len(paths) > 1 else ""
    return f"{paths[0]} is {said(written)} there, {said(wanted)} here{more}"


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


def _read(
    folder: Path, step: int, wanted: Callable[[Manifest], dict[str, Any]]
) -> tuple[dict[str, Any], Record]:
    """A checkpoint's items, laid out as `wanted` says once it has seen the manifest; its record."""
    path = folder / str(step)
    try:
        manifest = read_manifest(path)
        if not manifest.arrays:  # of an earlier version
            there = ocp.checkpointables_metadata(path).metadata
            arrays = _arrays({name: there[name] for name in _TREES if name in there})
            manifest = manifest._replace(arrays=arrays)
        items = wanted(manifest)
        stored = {name: of for name, of in manifest.arrays.items() if name.split("/")[0] in items}
        if difference := _difference(stored, _arrays(items)):
            raise UserError(
                f"{path} does not fit this network: {difference}; use the config and the version "
                "that wrote it, or train anew"
            )
        return ocp.load_checkpointables(path, items), manifest.record
    except DamagedError as error:
        raise UserError(f"{path} {error}; {_without(folder, step)}") from error
    except _FAILED as error:
        raise UserError(
            f"{path} cannot be read ({_reason(error)}); {_without(folder, step)}"
        ) from error


def _without(folder: Path, step: int) -> str:
    """What is left without a step, which another version, or a mended disk, may yet read."""
    older = last_good(folder, before=step)
    left = "to begin anew" if older is None else f"to go on from step {older}"
    return f"move that folder away {left}"


def _check_writable(folder: Path) -> None:
    """Before hours of training, not after."""
    if folder.exists() and not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        reason = "may not be written to" if folder.is_dir() else "is not a folder"
        raise UserError(f"{folder} {reason}; {what_is_left(folder)}")


def _reason(error: BaseException) -> str:
    """The first line of the error that began a chain of them; a long one ends with the cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = str(error).strip().splitlines()[0]
    return (
        f"{type(error).__name__}: {line if len(line) <= 300 else f'{line[:100]} ... {line[-150:]}'}"
    )


def _not_told_again(record: logging.LogRecord) -> bool:
    """Whether a line of the log is news: orbax logs the traceback of an error that it raises."""
    return not (record.exc_info and "orbax" in Path(record.pathname).parts)
