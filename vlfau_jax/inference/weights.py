"""The weights file of a model folder: what it holds, read before any of its arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vlfau_jax.errors import FileError
from vlfau_jax.train.tensor_files import listed, opened

_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}

Tensors = dict[str, tuple[str, tuple[int, ...]]]  # dtype and shape of every tensor


def read_tensors(path: Path) -> Tensors:
    """The names, dtypes and shapes in the header of a safetensors file.

    Raises:
        FileError: no regular file, no whole safetensors file, or tensors that are no floats.
    """
    with opened(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        found = {name: (s.get_dtype(), tuple(s.get_shape())) for name, s in slices.items()}
    others = [f"{name} is {dtype}" for name, (dtype, _) in found.items() if dtype not in _DTYPES]
    if others:
        raise FileError(path, f"tensors should be floats, but {listed(others)}")
    return {name: (_DTYPES[dtype], shape) for name, (dtype, shape) in found.items()}


def load_weights(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file.

    Raises:
        FileError: it cannot be read.
    """
    with opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
