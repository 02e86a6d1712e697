"""Initial parameters from a safetensors file, and the file itself."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from vlfau_jax.distributed.processes import is_first_process
from vlfau_jax.errors import FileError, UserError
from vlfau_jax.files import new_file, open_regular, written_whole
from vlfau_jax.model.swin import laid_out_like, looped_shapes

WEIGHTS_LIMIT = 1 << 40  # bytes; tensors are read one by one
_FLOATS = ("F64", "F32", "F16", "BF16")
_KINDS = {"I": "int", "U": "uint", "F": "float"}
_MOST_NAMED = 10  # faults that a message lists


def save_warm_start(
    params: Any,
    path: Path,
    metadata: Mapping[str, str],
    dtype: str = "float16",
    *,
    new: bool = False,
) -> None:
    """Writes parameters as tensors named by their path ("backbone/norm/scale"), with metadata.

    float16 halves the file; the values are rounded to 11 bits, and one beyond 65504 raises. With
    `new`, UserError where the file is there.
    """
    with np.errstate(over="ignore"):  # refused below, by name
        tensors = {
            name: np.asarray(jax.device_get(value)).astype(dtype)
            for name, value in flatten_dict(params, sep="/").items()
        }
    infinite = [name for name, value in tensors.items() if not np.isfinite(value).all()]
    if infinite:
        raise ValueError(f"{infinite[0]} is not finite as {dtype}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        if new:  # asked again under the lock: another process may have just written it
            new_file("--out", path)
        save_file(tensors, partial, dict(metadata))


def open_weights(path: Path, key: str) -> AbstractContextManager[safe_open]:
    """Opens a safetensors file, whose tensors are read only when they are asked for.

    Args:
        path: the file.
        key: of the config that names it, for the message.

    Raises:
        UserError: it is no regular file, or no safetensors file that is whole.
    """
    try:
        open_regular(path, WEIGHTS_LIMIT).close()
        return safe_open(path, framework="numpy")
    except FileError as error:
        raise UserError(
            f"{key}={path} cannot be read as safetensors: {error.reason}; give a file"
        ) from error
    except (OSError, SafetensorError) as error:
        raise UserError(f"{key}={path} cannot be read as safetensors: {error}") from error


def load_warm_start(path: Path, abstract: Any, key: str = "train.warm_start") -> Any:
    """Loads parameters in the structure and dtypes of `abstract` (shapes, dtypes), as NumPy arrays.

    Files hold the blocks one by one (`model.swin`); for a scanned backbone they are stacked here.
    Relative position tables for windows of another size are interpolated, and a line is printed.
    Raises UserError, which names the config's `key` and lists the tensors, where some are missing,
    unknown, of another shape, not floating point or not finite.
    """
    wanted = flatten_dict(looped_shapes(abstract), sep="/")
    with open_weights(path, key) as file:
        names = file.keys()
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
        dtypes = {name: file.get_slice(name).get_dtype() for name in shapes}
        tables = _other_windows(shapes, {name: leaf.shape for name, leaf in wanted.items()})
        common = sorted(wanted.keys() & shapes.keys())
        faults = [f"{name} is missing" for name in sorted(wanted.keys() - shapes.keys())]
        faults += [f"{name} is unknown" for name in sorted(shapes.keys() - wanted.keys())]
        faults += [
            f"{name} is {shapes[name]}, not {wanted[name].shape}"
            for name in common
            if shapes[name] != wanted[name].shape and name not in tables
        ]
        found = {}
        for name in common:
            if dtypes[name] not in _FLOATS:
                faults.append(f"{name} is {_spelt(dtypes[name])}, not floating point")
            elif name in tables or math.prod(shapes[name]) <= math.prod(wanted[name].shape):
                # Only what may fit is read: a foreign file can be as large as a disk.
                found[name] = file.get_tensor(name)
    faults += [f"{name} is not finite" for name, values in found.items() if not _is_finite(values)]
    if faults:
        more = len(faults) - _MOST_NAMED
        named = "; ".join(faults[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")
        raise UserError(
            f"{key}={path} does not fit this model (--config.{key}= starts from random "
            f"parameters): {named}"
        )
    resized = Counter(tables.values())
    for name in tables:
        found[name] = _resized(found[name], wanted[name].shape)
    if resized and is_first_process():
        windows = ", ".join(f"{old} to {new} in {n} blocks" for (old, new), n in resized.items())
        print(f"{key}={path}: relative positions interpolated, window {windows}")
    params = {name: found[name].astype(wanted[name].dtype) for name in wanted}
    return laid_out_like(unflatten_dict(params, sep="/"), abstract)


def _spelt(dtype: str) -> str:
    """A dtype of safetensors as NumPy spells it, where it has it."""
    found = re.fullmatch(r"([IUF])(\d+)", dtype)
    return f"{_KINDS[found[1]]}{found[2]}" if found else dtype


def _is_finite(values: np.ndarray) -> bool:
    with np.errstate(over="ignore"):  # what exceeds float32, as parameters are, is infinite
        return bool(np.isfinite(values.astype(np.float32)).all())


def _other_windows(
    found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, int]]:
    """The tables for windows of another size, as (window found, window wanted), by their names.

    A table's (2 window - 1)^2 rows are a square of offsets; its columns are heads.
    """
    tables = {}
    for name, shape in wanted.items():
        rows, *columns = found.get(name, ()) or (0,)
        if not name.endswith("relative_position_bias") or len(columns) != 1:
            continue
        old, new = math.isqrt(rows), math.isqrt(shape[0])
        if old != new and (rows, *columns) == (old * old, shape[1]) and old % 2:
            tables[name] = ((old + 1) // 2, (new + 1) // 2)
    return tables


def _resized(table: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A table interpolated for another window: bicubic, as Swin's own code does.

    (microsoft/Swin-Transformer:utils.py, load_pretrained)
    """
    old, new = math.isqrt(len(table)), math.isqrt(shape[0])
    grid = table.astype(np.float32).reshape(old, old, -1)
    return cv2.resize(grid, (new, new), interpolation=cv2.INTER_CUBIC).reshape(shape)
