"""Checkpoints: state, clock and data position, and the little that inference needs.

Every checkpoint holds two trees of arrays, `params` and `optimizer`, a third, `ema`, where the run
averages its parameters, and in its manifest a JSON record with `progress` (next batch, seconds) and
`inference` (all that turns parameters into answers: units, vocabulary, crop rule, sizes).
Evaluation and export read the average, or `params` where there is none, and the record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from vlfau_jax.errors import UserError
from vlfau_jax.train.manifest import DamagedError, read_manifest, write_manifest
from vlfau_jax.train.state import TrainState
from vlfau_jax.train.workdir import CHECKPOINTS

# What orbax and tensorstore raise on files that are missing, cut short or altered.
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError)


class Checkpoints(AbstractContextManager):
    """The checkpoints of a run; saving returns at once and is written in the background."""

    def __init__(self, workdir: Path, keep: int) -> None:
        self._folder = (workdir / CHECKPOINTS).absolute()
        self._saving: tuple[int, dict[str, Any]] = 0, {}  # step and record
        context = ocp.Context()
        # Orbax calls it before it renames the finished checkpoint into place. A function, not a
        # bound method: orbax deep-copies its context, and would copy `self` with it.
        context.asynchronous.post_finalization_callback = lambda: self._finalise()
        self._checkpointer = ocp.training.Checkpointer(
            self._folder,
            context=context,
            preservation_policy=ocp.training.preservation_policies.LatestN(keep),
            cleanup_tmp_directories=True,  # what a killed run had not finished
        )

    @property
    def latest(self) -> int | None:
        """Steps taken at the newest finished checkpoint."""
        newest = self._checkpointer.latest
        return newest.step if newest else None

    def save(self, step: int, state: TrainState, record: Mapping[str, Any]) -> None:
        """Copies the state, which may then be donated, and starts writing it."""
        self._checkpointer.wait()  # for the checkpoint before, whose manifest `_saving` fills
        self._saving = step, dict(record)
        self._checkpointer.save_checkpointables_async(step, _items(state), force=True)

    def restore(self, abstract: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The newest state, laid out as `abstract` says, and its record; what is saved counts.

        Raises UserError where the newest checkpoint cannot be read.
        """
        self._checkpointer.wait()
        items, record = _read(self._checkpointer, _items(abstract))
        optimizer = items.pop("optimizer")
        return TrainState(**items, **optimizer), record

    def wait(self) -> None:
        """Returns when all that was saved is on disk."""
        self._checkpointer.wait()

    def _finalise(self) -> None:
        step, record = self._saving
        (draft,) = self._folder.glob(f"{step}.orbax-checkpoint-tmp*")
        write_manifest(draft, record)

    def __exit__(self, *_: object) -> None:
        self._checkpointer.close()  # waits for what is being written


def load_inference(workdir: Path) -> tuple[Any, dict[str, Any], int]:
    """Parameters (NumPy), the `inference` record and the step of a run's newest checkpoint.

    The parameters are the averaged ones where the run averages them (`ema_decay` of the record).
    Raises UserError where the workdir has no checkpoint or an unreadable one.
    """
    folder = (Path(workdir) / CHECKPOINTS).absolute()
    if not folder.is_dir():
        raise UserError(f"{folder} is missing; expected the workdir of `python -m vlfau_jax train`")
    with ocp.training.Checkpointer(folder) as checkpointer:
        if checkpointer.latest is None:
            raise UserError(f"{folder} holds no finished checkpoint; train to the first one")
        step = checkpointer.latest.step
        items, record = _read(checkpointer, None)
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
    counts = {"step": state.step, "skipped": state.skipped}
    rest = {"optimizer": {**counts, "opt_state": state.opt_state}}
    return {"params": state.params, **rest} | ({} if state.ema is None else {"ema": state.ema})


def _read(
    checkpointer: ocp.training.Checkpointer, abstract: dict[str, Any] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The newest checkpoint's items laid out as `abstract`, and its record.

    None stands for the parameters that answer, the average or else `params`, on one device.
    """
    newest, *older = reversed(checkpointer.checkpoints)
    folder = Path(checkpointer.directory) / str(newest.step)
    remedy = f"to go on from step {older[0].step}" if older else "to begin anew"
    try:
        record = read_manifest(folder)
        metadata = checkpointer.checkpointables_metadata(newest.step)
        if abstract is None:
            answering = "ema" if "ema" in metadata.metadata else "params"
            here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
            abstract = {
                answering: jax.tree.map(
                    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here),
                    metadata.metadata[answering],
                )
            }
        return checkpointer.load_checkpointables(newest.step, abstract), record
    except DamagedError as error:
        raise UserError(f"{folder} {error}; remove that folder {remedy}") from error
    except _UNREADABLE as error:
        root = error
        while root.__cause__ is not None:
            root = root.__cause__
        reason = str(root).strip().split("\n")[0][:200]
        raise UserError(
            f"{folder} cannot be read ({type(root).__name__}: {reason}); "
            f"remove that folder {remedy}"
        ) from error
