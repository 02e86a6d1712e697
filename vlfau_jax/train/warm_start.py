"""Initial parameters from a safetensors file, and the file itself."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from vlfau_jax.distributed.processes import is_first_process
from vlfau_jax.errors import UserError
from vlfau_jax.files import written_whole
from vlfau_jax.model.swin import laid_out_like, looped_shapes


def save_warm_start(
    params: Any, path: Path, metadata: Mapping[str, str], dtype: str = "float16"
) -> None:
    """Writes parameters as tensors named by their path ("backbone/norm/scale"), with metadata.

    float16 halves the file; the values are rounded to 11 bits, and one beyond 65504 raises.
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
        save_file(tensors, partial, dict(metadata))


def load_warm_start(path: Path, abstract: Any, key: str = "train.warm_start") -> Any:
    """Loads parameters in the structure and dtypes of `abstract` (shapes, dtypes), as NumPy arrays.

    Files hold the blocks one by one (`model.swin`); for a scanned backbone they are stacked here.
    Relative position tables for windows of another size are interpolated, and a line is printed.
    Raises UserError, which names the config's `key` and lists the tensors, where some are missing,
    unknown, of another shape, not floating point or not finite.
    """
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{key}={path} cannot be read as safetensors: {error}") from error
    wanted = flatten_dict(looped_shapes(abstract), sep="/")
    bad_values = _bad_values({name: found[name] for name in sorted(wanted.keys() & found.keys())})
    resized = _fit_tables(found, {name: leaf.shape for name, leaf in wanted.items()})
    faults = [f"{name} is missing" for name in sorted(wanted.keys() - found.keys())]
    faults += [f"{name} is unknown" for name in sorted(found.keys() - wanted.keys())]
    faults += [
        f"{name} is {found[name].shape}, not {wanted[name].shape}"
        for name in sorted(wanted.keys() & found.keys())
        if found[name].shape != wanted[name].shape
    ]
    faults += bad_values
    if faults:
        raise UserError(
            f"{key}={path} does not fit this model (--config.{key}= starts from random "
            f"parameters): {'; '.join(faults)}"
        )
    if resized and is_first_process():
        windows = ", ".join(f"{old} to {new} in {n} blocks" for (old, new), n in resized.items())
        print(f"{key}={path}: relative positions interpolated, window {windows}")
    params = {name: found[name].astype(wanted[name].dtype) for name in wanted}
    return laid_out_like(unflatten_dict(params, sep="/"), abstract)


def _bad_values(tensors: Mapping[str, np.ndarray]) -> list[str]:
    """Faults of the values, whatever their shape."""
    faults = []
    for name, values in tensors.items():
        if not jnp.issubdtype(values.dtype, jnp.floating):
            faults.append(f"{name} is {values.dtype}, not floating point")
            continue
        with np.errstate(over="ignore"):  # what exceeds float32, as parameters are, is infinite
            finite = np.isfinite(values.astype(np.float32)).all()
        if not finite:
            faults.append(f"{name} is not finite")
    return faults


def _fit_tables(found: dict[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> Counter:
    """Interpolates tables in place; counts them by (window found, window wanted).

    A table's (2 window - 1)^2 rows are a square of offsets; its columns are heads. Bicubic, as
    Swin's own code does (microsoft/Swin-Transformer:utils.py, load_pretrained).
    """
    resized = Counter()
    for name, shape in shapes.items():
        table = found.get(name)
        if not name.endswith("relative_position_bias") or table is None or table.ndim != 2:
            continue
        old, new = math.isqrt(len(table)), math.isqrt(shape[0])
        if old == new or table.shape != (old * old, shape[1]) or old % 2 == 0:
            continue  # it fits, or is no such table, which the caller reports
        grid = table.astype(np.float32).reshape(old, old, -1)
        grid = cv2.resize(grid, (new, new), interpolation=cv2.INTER_CUBIC)
        found[name] = grid.reshape(shape)
        resized[(old + 1) // 2, (new + 1) // 2] += 1
    return resized
