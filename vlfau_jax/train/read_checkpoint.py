"""Reading one checkpoint: first its manifest, then the arrays that are wanted, then their values.

A run that goes on restores sharded arrays through orbax. Whoever reads beside a running one
(`read_host_arrays`) must expect that run to remove the checkpoint at any moment. Orbax gathers the
arrays as coroutines of one event loop and, when one of them fails, closes the loop without ending
the others (0.12.8, `asyncio_utils.run_sync`): they are then reported from the garbage collector as
never awaited, or with tracebacks on the screen. So these arrays are read by TensorStore itself, the
library in whose format orbax writes; its futures are plain values and leave nothing behind.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorstore
from flax.traverse_util import unflatten_dict
from orbax.checkpoint import v1 as ocp

from vlfau_jax.errors import UserError
from vlfau_jax.train.manifest import DamagedError, Manifest, last_good, read_manifest

# What orbax and tensorstore raise on files that are missing, cut short or altered, and on those
# that cannot be written.
STORAGE_ERRORS = (OSError, ValueError, KeyError, TypeError, RuntimeError)

_TREES = ("params", "ema", "optimizer")

Record = dict[str, Any]
Loader = Callable[[Path, dict[str, Any]], dict[str, Any]]


def read_checkpoint(
    folder: Path, step: int, wanted: Callable[[Manifest], dict[str, Any]], load: Loader
) -> tuple[dict[str, Any], Record]:
    """Items (trees of arrays by name) and record of the checkpoint of `step` in `folder`.

    Args:
        folder: holds a run's checkpoints.
        step: which of them.
        wanted: from the manifest to the items to read, as shapes and dtypes; it may raise before
            any array is read.
        load: from the checkpoint's path and those items to their values.

    Raises:
        UserError: the checkpoint is damaged, cannot be read, or holds other arrays than wanted.
    """
    path = folder / str(step)
    try:
        manifest = read_manifest(path)
        if not manifest.arrays:  # written by an earlier version
            stored = ocp.checkpointables_metadata(path).metadata
            arrays = describe_arrays({name: stored[name] for name in _TREES if name in stored})
            manifest = manifest._replace(arrays=arrays)
        items = wanted(manifest)
        written = {name: of for name, of in manifest.arrays.items() if name.split("/")[0] in items}
        if difference := _difference(written, describe_arrays(items)):
            raise UserError(
                f"{path} does not fit this network: {difference}; use the config and the version "
                "that wrote it, or train anew"
            )
        return load(path, items), manifest.record
    except DamagedError as error:
        raise UserError(f"{path} {error}; {_advice_without(folder, step)}") from error
    except STORAGE_ERRORS as error:
        raise UserError(
            f"{path} cannot be read ({describe_error(error)}); {_advice_without(folder, step)}"
        ) from error


def read_host_arrays(path: Path, items: dict[str, Any]) -> dict[str, Any]:
    """The values of `items` (see `read_checkpoint`) in the checkpoint `path`, as NumPy arrays."""
    return {name: _read_item(path / name, tree) for name, tree in items.items()}


def _read_item(folder: Path, tree: Any) -> Any:
    """One tree of arrays. Orbax keeps it in one OCDBT store, an array under its keys and dots."""
    base = {"driver": "file", "path": f"{os.path.realpath(folder)}/"}  # it refuses ".." in a path

    def open_array(keys: tuple, _: Any) -> tensorstore.Future:
        name = jax.tree_util.keystr(keys, simple=True, separator=".")
        store = {"driver": "ocdbt", "base": base, "path": f"{name}/"}
        spec = {"driver": "zarr3", "kvstore": store, "fill_missing_data_reads": False}
        return tensorstore.open(spec, open=True, read=True, context=context)

    context = tensorstore.Context()  # of its own: nothing cached from another checkpoint's files
    opening = jax.tree_util.tree_map_with_path(open_array, tree)
    reading = jax.tree.map(lambda future: future.result().read(), opening)
    return jax.tree.map(lambda future: np.asarray(future.result()), reading)


def describe_arrays(items: Mapping[str, Any]) -> dict[str, list[Any]]:
    """[dtype, shape] of every array of `items` by its path, as "params/backbone/norm/scale"."""
    leaves = jax.tree_util.tree_leaves_with_path(items)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): [str(leaf.dtype), [*leaf.shape]]
        for path, leaf in leaves
    }


def abstract_item(arrays: Mapping[str, list[Any]], item: str) -> Any:
    """Shapes and dtypes of an item of nested dicts, undoing `describe_arrays`."""
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

    def describe(arrays: Mapping[str, list[Any]]) -> str:
        if paths[0] not in arrays:
            return "absent"
        dtype, shape = arrays[paths[0]]
        return f"{dtype}{shape}"

    more = f", and {len(paths) - 1} more differ" if len(paths) > 1 else ""
    return f"{paths[0]} is {describe(written)} there, {describe(wanted)} here{more}"


def _advice_without(folder: Path, step: int) -> str:
    """How to go on without a step. Another version, or a mended disk, may yet read its folder."""
    older = last_good(folder, before=step)
    left = "to begin anew" if older is None else f"to go on from step {older}"
    return f"move that folder away {left}"


def describe_error(error: BaseException) -> str:
    """The first line of the error that began a chain of them; a long one ends with the cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = str(error).strip().splitlines()[0]
    return (
        f"{type(error).__name__}: {line if len(line) <= 300 else f'{line[:100]} ... {line[-150:]}'}"
    )


def is_no_orbax_traceback(record: logging.LogRecord) -> bool:
    """A log filter: orbax also logs the traceback of an error that it raises."""
    return not (record.exc_info and "orbax" in Path(record.pathname).parts)
