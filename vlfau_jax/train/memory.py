"""Memory: refuses an experiment that no step of can fit, and says how much was in use."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vlfau_jax.errors import UserError


def machine_memory() -> float:
    """Bytes of memory that this machine, or the container around this process, has."""
    memory = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        return min(memory, float(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no container, or "max"
        return memory


def check_pictures(batch_size: int, image_size: int, processes: int = 1) -> None:
    """Refuses a batch whose pictures alone exceed the machine's memory.

    Raises:
        UserError: names the options that set its size.
    """
    needed, there = batch_size / processes * image_size**2 * 3, machine_memory()
    if needed > there:
        raise UserError(
            f"train.batch_size={batch_size}: the pictures of a batch at data.image_size="
            f"{image_size} need {_gigabytes(needed)}, and this machine has {_gigabytes(there)}; "
            "make one of them smaller"
        )


def check_state(abstract: Any) -> None:
    """Refuses a network whose parameters and moments alone exceed a device's memory.

    Args:
        abstract: the train state as shapes, dtypes and shardings.

    Raises:
        UserError: names the options that set its size.
    """
    needed = sum(_bytes_on_a_device(leaf) for leaf in jax.tree.leaves(abstract))
    device = jax.local_devices()[0]
    there = (device.memory_stats() or {}).get("bytes_limit") or machine_memory()
    if needed > there:
        raise UserError(
            f"the network's parameters and the optimizer's moments need {_gigabytes(needed)} a "
            f"device, and each has {_gigabytes(there)}; make model.backbone_width, model.depths or "
            "the other widths of `model` smaller, or split them by mesh.fsdp"
        )


def peak_memory() -> dict[str, Any]:
    """The most memory that was in use: `bytes`, `of` a "device", where devices count it.

    Elsewhere of this "process", with all that it holds besides arrays.
    """
    counts = [(device.memory_stats() or {}) for device in jax.local_devices()]
    peaks = [count["peak_bytes_in_use"] for count in counts if "peak_bytes_in_use" in count]
    if peaks:
        return {"bytes": max(peaks), "of": "device"}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"bytes": peak if sys.platform == "darwin" else 1024 * peak, "of": "process"}


def _bytes_on_a_device(leaf: Any) -> int:
    shape = leaf.shape if leaf.sharding is None else leaf.sharding.shard_shape(leaf.shape)
    # Keys of random streams have a dtype of their own and next to no bytes.
    size = leaf.dtype.itemsize if isinstance(leaf.dtype, np.dtype) else 8
    return int(np.prod(shape, dtype=object)) * size


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.1f} GB"
