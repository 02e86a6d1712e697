"""The weights file of a model folder: its precision, and what it holds, read before any array.

Matrices may be kept in bfloat16, or in int8 with one float32 scale for each of their outputs:

    w = round(w / s) * s,   s = max |w| / 127 over the inputs of an output

Biases, norms, tables of positions and vectors are small and stay float32.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import jax.numpy as jnp
import numpy as np

from vlfau_jax.errors import FileError, UserError
from vlfau_jax.train.tensor_files import listed, opened

_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}

Tensors = dict[str, tuple[str, tuple[int, ...]]]  # dtype and shape of every tensor
Precision = Literal["float32", "bfloat16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

SCALE = ".scale"  # ends the name of an int8 tensor's scales
_MATRICES = (
    r"(?!classifier/).*/kernel",
    r"refinement/(average_)?(squeeze|excite)",
    r"\w+_captioner/(words|aus|(words|context|hidden)_to_gates|\w+_to_(attention|hidden|cell|logits))",
)
_LARGEST = 127


def is_matrix(name: str) -> bool:
    """Whether a parameter is kept in the precision that is asked for, by its name in the file."""
    return any(re.fullmatch(pattern, name) for pattern in _MATRICES)


def stored(params: Mapping[str, np.ndarray], precision: Precision) -> dict[str, np.ndarray]:
    """The tensors of a weights file, from float32 parameters by their names in it.

    Raises:
        UserError: no such precision.
    """
    if precision not in PRECISIONS:
        raise UserError(f"--weights={precision}: give {', '.join(PRECISIONS)}")
    tensors = {}
    for name, value in params.items():
        value = np.asarray(value)
        if precision == "float32" or not is_matrix(name):
            tensors[name] = value
        elif precision == "bfloat16":
            tensors[name] = value.astype(jnp.bfloat16)
        else:
            # Convolutions are [h, w, in, out], matrices of several units [n, in, out].
            axes = (0, 1, 2) if value.ndim == 4 else -2
            scale = np.abs(value).max(axes, keepdims=True) / np.float32(_LARGEST)
            scale = np.where(scale > 0, scale, 1).astype(np.float32)
            tensors[name] = np.round(value / scale).astype(np.int8)
            tensors[name + SCALE] = scale
    return tensors


def in_float32(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that the tensors of a weights file stand for; NumPy's stay NumPy's.

    Floats that are no bfloat16 stay as they are.
    """
    params = {}
    for name, value in tensors.items():
        if name.endswith(SCALE):
            continue
        if str(value.dtype) in ("bfloat16", "int8"):
            value = value.astype(np.float32)
        scale = tensors.get(name + SCALE)
        params[name] = value if scale is None else value * scale
    return params


def read_tensors(path: Path) -> Tensors:
    """The names, dtypes and shapes in the header of a safetensors file.

    Raises:
        FileError: no regular file, no whole safetensors file, or tensors that are neither floats
            nor int8 with their scales.
    """
    with opened(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        found = {name: (s.get_dtype(), tuple(s.get_shape())) for name, s in slices.items()}
    dtypes = dict(_DTYPES)
    if scaled := {name for name in found if name + SCALE in found}:
        dtypes["I8"] = "int8"
    others = [
        f"{name} is {dtype}"
        for name, (dtype, _) in found.items()
        if dtype not in dtypes or (dtype == "I8" and name not in scaled)
    ]
    if others:
        raise FileError(path, f"tensors should be floats, but {listed(others)}")
    return {name: (dtypes[dtype], shape) for name, (dtype, shape) in found.items()}


def load_weights(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file.

    Raises:
        FileError: it cannot be read.
    """
    with opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
