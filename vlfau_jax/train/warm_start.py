"""Initial parameters from a safetensors file, and the file itself."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save_file

from vlfau_jax.distributed.processes import is_first_process
from vlfau_jax.errors import UserError
from vlfau_jax.files import new_file, written_whole
from vlfau_jax.model.layouts import laid_out_like, looped_shapes
from vlfau_jax.train.other_units import Arrangement
from vlfau_jax.train.tensor_files import listed, naming, opened

_LARGEST_SIDE = 255  # of a table of relative positions: windows of 128

_FLOATS = ("F64", "F32", "F16", "BF16")
_KINDS = {"I": "int", "U": "uint", "F": "float"}


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


def load_warm_start(
    path: Path,
    abstract: Any,
    key: str = "train.warm_start",
    arrangement: Arrangement | None = None,
) -> Any:
    """Loads parameters in the structure and dtypes of `abstract` (shapes, dtypes), as NumPy arrays.

    Files hold the blocks one by one (`model.swin`); for a scanned backbone they are stacked here.
    Relative position tables for windows of another size are interpolated, and a line is printed.
    With an `arrangement` the file holds other units or words; its lines are printed as well.
    Raises UserError, which names the config's `key` and lists ten tensors, where some are missing,
    unknown, of another shape, not floating point or not finite.
    """
    wanted = flatten_dict(looped_shapes(abstract), sep="/")
    with opened(path, key=key) as file:
        names = list(file.keys())
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
        dtypes = {name: file.get_slice(name).get_dtype() for name in names}
        _check_naming(path, key, names)
        fitting = {name: leaf.shape for name, leaf in wanted.items()}
        if arrangement:
            fitting = {n: arrangement.shape_in_file(n, shape) for n, shape in fitting.items()}
        tables = _other_windows(shapes, fitting)
        common = sorted(wanted.keys() & shapes.keys())
        faults = [f"{name} is missing" for name in sorted(wanted.keys() - shapes.keys())]
        faults += [f"{name} is unknown" for name in sorted(shapes.keys() - wanted.keys())]
        faults += [
            f"{name} is {shapes[name]}, not {fitting[name]}"
            for name in common
            if shapes[name] != fitting[name] and name not in tables
        ]
        found = {}
        for name in common:
            if dtypes[name] not in _FLOATS:
                faults.append(f"{name} is {_spelt(dtypes[name])}, not floating point")
            elif name in tables or math.prod(shapes[name]) <= math.prod(fitting[name]):
                # Only what may fit is read: a foreign file can be as large as a disk.
                found[name] = file.get_tensor(name)
    faults += [f"{name} is not finite" for name, values in found.items() if not _is_finite(values)]
    if faults:
        raise UserError(
            f"{key}={path} does not fit this model (--config.{key}= starts from random "
            f"parameters): {listed(faults)}"
        )
    resized = Counter(tables.values())
    for name in tables:
        found[name] = _resized(found[name], wanted[name].shape)
    if resized and is_first_process():
        windows = ", ".join(f"{old} to {new} in {n} blocks" for (old, new), n in resized.items())
        print(f"{key}={path}: relative positions interpolated, window {windows}")
    if arrangement:
        found = {name: arrangement.arranged(name, found[name]) for name in wanted}
        for line in arrangement.lines if is_first_process() else ():
            print(f"{key}={path}: {line}")
    params = {name: found[name].astype(wanted[name].dtype) for name in wanted}
    return laid_out_like(unflatten_dict(params, sep="/"), abstract)


def _spelt(dtype: str) -> str:
    """A dtype of safetensors as NumPy spells it, where it has it."""
    found = re.fullmatch(r"([IUF])(\d+)", dtype)
    return f"{_KINDS[found[1]]}{found[2]}" if found else dtype


def _check_naming(path: Path, key: str, names: Collection[str]) -> None:
    """Refuses a backbone that was downloaded and not imported."""
    whose = naming(names)
    if whose and whose != "import_backbone":
        raise UserError(
            f"{key}={path}: its tensors are named as by {whose} ({min(names)}, ...); give a file "
            "that `python -m vlfau_jax import_backbone` made"
        )


def _is_finite(values: np.ndarray) -> bool:
    with np.errstate(over="ignore"):  # what exceeds float32, as parameters are, is infinite
        return bool(np.isfinite(values.astype(np.float32)).all())


def _other_windows(
    found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, int]]:
    """Tables of relative positions for another window: name -> (window found, window wanted).

    A table's (2 window - 1)^2 rows are a square of offsets; its columns are heads.
    """
    tables = {}
    for name, shape in wanted.items():
        there = found.get(name, ())
        if not name.endswith("relative_position_bias") or len(there) != 2:
            continue
        old, new = math.isqrt(there[0]), math.isqrt(shape[0])
        if old == new or there != (old * old, shape[1]) or old % 2 == 0 or old > _LARGEST_SIDE:
            continue  # it fits, or is no such table, which the caller reports
        tables[name] = (old + 1) // 2, (new + 1) // 2
    return tables


def _resized(table: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The table interpolated, bicubic, as Swin's own code does.

    See microsoft/Swin-Transformer:utils.py, load_pretrained.
    """
    old, new = math.isqrt(len(table)), math.isqrt(shape[0])
    grid = table.astype(np.float32).reshape(old, old, -1)
    return cv2.resize(grid, (new, new), interpolation=cv2.INTER_CUBIC).reshape(shape)
