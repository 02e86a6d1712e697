"""What the last digits of a run depend on besides its program: its devices and CPU threads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import jax
from jax.sharding import Mesh


def cpu_cores() -> int:
    """Cores that this process may use: its affinity (`taskset`, Slurm, `docker --cpuset-cpus`)."""
    return len(os.sched_getaffinity(0))


def stated_threads() -> int | None:
    """The number of threads that PJRT_NPROC, or else NPROC, states to XLA; None where none does."""
    for name in ("PJRT_NPROC", "NPROC"):
        with suppress(ValueError):
            return max(0, int(os.environ.get(name, "")))
    return None


def cpu_threads() -> int:
    """Threads among which XLA's CPU client divides loops and sums; every device has one at least.

    As XLA counts them: DefaultThreadPoolSize (openxla/xla, xla/pjrt/utils.cc) and GetPjRtCpuClient.
    """
    stated = stated_threads()
    return max(cpu_cores() if stated is None else stated, jax.local_device_count())


def computed_on(mesh: Mesh) -> str:
    """The devices of a mesh as one text: "8 x NVIDIA H100", or "1 x cpu, 2 threads"."""
    device = mesh.devices.flat[0]
    threads = f", {cpu_threads()} threads" if device.platform == "cpu" else ""
    return f"{mesh.size} x {device.device_kind}{threads}"


def other_rounding(progress: Mapping[str, Any], now: str) -> str:
    """A warning where a checkpoint was computed on something else than `now`; else "".

    Args:
        progress: of the checkpoint's record; an earlier version did not say `computed_on`.
        now: what the rest of the run is `computed_on`.
    """
    before = progress.get("computed_on") or now
    if before == now:
        return ""
    return (
        f"warning: trained on {before} so far, now on {now}: sums are divided otherwise, and the "
        "run does not go on to the bit as it would have there"
    )
