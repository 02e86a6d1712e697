"""Reading one checkpoint: first its manifest, then the arrays that are wanted, then their values.

The arrays are read by TensorStore itself, the library in whose format orbax writes. Reading may
fail: whoever reads beside a running run must expect it to remove the checkpoint at any moment, and
a stranger's checkpoint may be anything. Orbax gathers arrays as coroutines of one event loop
and, when one of them fails, closes the loop without ending the others (0.12.8,
`asyncio_utils.run_sync`): they are then reported from the garbage collector as never awaited, or
with tracebacks on the screen. TensorStore's futures are plain values and leave nothing behind.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorstore
from flax.traverse_util import unflatten_dict
from orbax.checkpoint import v1 as ocp

from vlfau_jax.errors import UserError
from vlfau_jax.train.manifest import (
    DamagedError,
    Manifest,
    check_files,
    last_good,
    read_manifest,
)

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
            check_files(path, manifest)
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
        check_files(path, manifest)
        return load(path, items), manifest.record
    except DamagedError as error:
        raise UserError(f"{path} {error}; {advice_without(folder, step)}") from error
    except STORAGE_ERRORS as error:
        raise UserError(
            f"{path} cannot be read ({describe_error(error)}); {advice_without(folder, step)}"
        ) from error


def read_device_arrays(path: Path, items: dict[str, Any]) -> dict[str, Any]:
    """The values of `items` in the checkpoint `path`, laid out on the devices as those say.

    Every process reads the parts of the arrays that its own devices hold.
    """
    return {name: _read_item(path / name, tree, _reading_of_shards) for name, tree in items.items()}


def read_host_arrays(path: Path, items: dict[str, Any]) -> dict[str, Any]:
    """The values of `items` (see `read_checkpoint`) in the checkpoint `path`, as NumPy arrays."""
    return {name: _read_item(path / name, tree, _reading_whole) for name, tree in items.items()}


def _reading_whole(store: tensorstore.TensorStore, _: Any) -> Callable[[], np.ndarray]:
    reading = store.read()
    return lambda: np.asarray(reading.result())


def _reading_of_shards(store: tensorstore.TensorStore, wanted: Any) -> Callable[[], jax.Array]:
    indices = wanted.sharding.addressable_devices_indices_map(wanted.shape).values()
    reading = {str(index): store[index].read() for index in indices}
    return lambda: jax.make_array_from_callback(
        wanted.shape, wanted.sharding, lambda index: np.asarray(reading[str(index)].result())
    )


def _read_item(folder: Path, tree: Any, begin: Callable[[Any, Any], Callable[[], Any]]) -> Any:
    """The arrays of one tree: all are opened, then all are read, then each is finished."""
    reading = jax.tree.map(begin, _open_item(folder, tree), tree)
    return jax.tree.map(lambda finish: finish(), reading)


def _open_item(folder: Path, tree: Any) -> Any:
    """The stores of one tree of arrays, which have the shapes and dtypes of `tree`.

    Orbax keeps a tree in one OCDBT store, an array under its keys and dots.

    Raises:
        DamagedError: an array is stored with another shape or dtype, or in chunks larger than it,
            for which memory would be taken.
    """
    base = {"driver": "file", "path": f"{os.path.realpath(folder)}/"}  # it refuses ".." in a path

    def open_array(keys: tuple, _: Any) -> tensorstore.Future:
        name = jax.tree_util.keystr(keys, simple=True, separator=".")
        store = {"driver": "ocdbt", "base": base, "path": f"{name}/"}
        spec = {"driver": "zarr3", "kvstore": store, "fill_missing_data_reads": False}
        return tensorstore.open(spec, open=True, read=True, context=context)

    def check(keys: tuple, wanted: Any, opening: tensorstore.Future) -> tensorstore.TensorStore:
        store = opening.result()
        chunk = store.chunk_layout.read_chunk.shape or ()
        if (store.shape, store.dtype.numpy_dtype) != (wanted.shape, wanted.dtype) or math.prod(
            chunk
        ) > max(math.prod(wanted.shape), 1):
            name = jax.tree_util.keystr(keys, simple=True, separator="/")
            raise DamagedError(
                f"is damaged ({folder.name}/{name} is stored as {store.dtype.name}"
                f"{list(store.shape)} in chunks of {list(chunk)})"
            )
        return store

    context = tensorstore.Context()  # of its own: nothing cached from another checkpoint's files
    opening = jax.tree_util.tree_map_with_path(open_array, tree)
    return jax.tree_util.tree_map_with_path(check, tree, opening)


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


def check_finite(path: Path, items: Mapping[str, Any]) -> None:
    """UserError, which names the array, where a value is infinite or NaN.

    Args:
        path: of the checkpoint that they come from.
        items: trees of arrays by name, of the host.
    """
    for keys, values in jax.tree_util.tree_leaves_with_path(items):
        if jnp.issubdtype(values.dtype, jnp.floating) and not np.isfinite(values).all():
            name = jax.tree_util.keystr(keys, simple=True, separator="/")
            bad = int(np.size(values) - np.isfinite(values).sum())
            raise UserError(
                f"{path}: {name} is not finite ({bad} of {np.size(values)} values), so it answers "
                "nothing; choose an earlier step with --checkpoint, or train anew"
            )


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


def advice_without(folder: Path, step: int) -> str:
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
