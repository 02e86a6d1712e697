"""The weights file of a model folder: what it holds, read before any of its arrays."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from vlfau_jax.errors import FileError
from vlfau_jax.files import open_regular
from vlfau_jax.inference.model_folder import FILE_LIMIT

HEADER_LIMIT = 16 << 20
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}

Tensors = dict[str, tuple[str, tuple[int, ...]]]  # dtype and shape of every tensor


def read_tensors(path: Path) -> Tensors:
    """The names, dtypes and shapes in the header of a safetensors file.

    Raises:
        FileError: no regular file, no whole safetensors file, or tensors that are no floats.
    """
    with open_regular(path, FILE_LIMIT) as file:
        length = int.from_bytes(file.read(8), "little")
    if length > HEADER_LIMIT:
        raise FileError(path, f"is no safetensors file: its header would have {length} bytes")
    try:
        with safe_open(path, "numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            found = {name: (s.get_dtype(), tuple(s.get_shape())) for name, s in slices.items()}
    except (SafetensorError, OSError, ValueError, OverflowError) as error:
        raise FileError(path, f"is no whole safetensors file ({error})") from error
    others = [f"{name} is {dtype}" for name, (dtype, _) in found.items() if dtype not in _DTYPES]
    if others:
        raise FileError(path, f"tensors should be floats, but {listed(others)}")
    return {name: (_DTYPES[dtype], shape) for name, (dtype, shape) in found.items()}


def load_weights(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file.

    Raises:
        FileError: it cannot be read.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise FileError(path, f"is no whole safetensors file ({error})") from error


def listed(names: Iterable[str]) -> str:
    """The first ten of `names`, sorted, and how many more there are."""
    names = sorted(names)
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(name[:100] for name in names[:10]) + more
