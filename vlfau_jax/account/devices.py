"""What devices can do at most: FLOP/s, memory, bandwidths, each from a source that is named.

Peaks are dense: NVIDIA's data sheets print twice that, "with sparsity". A figure belongs to one JAX
device: to a whole chip, but on TPU7x, whose two cores are a device each, to half of one.
"""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from vlfau_jax.errors import UserError

_GIB = 2**30
_GOOGLE = "https://docs.cloud.google.com/tpu/docs/"
_JAX = "https://github.com/jax-ml/jax/blob/main/jax/_src/pallas/mosaic/tpu_info.py"
# NVIDIA's sheets as these pages quote them, each with the sheet's own address.
_A100 = "https://glennklockwood.com/garden/processors/A100"
_H100 = "https://glennklockwood.com/garden/processors/h100"
_B200 = "https://glennklockwood.com/garden/processors/B200"
_H200 = (
    "https://aiwiki.ai/wiki/nvidia_h200/raw",
    "https://raw.githubusercontent.com/mlcommons/inference_results_v4.1/main/closed/NVIDIA/systems/"
    "H200-SXM-141GBx8_TRT_MaxQ.json",
)
_B200_MEMORY = (
    "https://raw.githubusercontent.com/mlcommons/inference_results_v6.0/main/closed/Nebius/systems/"
    "nebius_b200_n1.json"
)
# NVIDIA's product brief PB-11133-001 of the H100 PCIe: memory and its bandwidth.
_H100_PCIE = (
    "https://manuals.plus/m/56b0c3ef7d0a1c470c0af8f05a0bd1f29a778007472ba941201fbbb185c9bccd"
)
_LIGHTNING = (
    "https://github.com/Lightning-AI/pytorch-lightning/blob/master/src/lightning/fabric/utilities/"
    "throughput.py"
)


@dataclass(frozen=True)
class Device:
    """One kind of device.

    Attributes:
        name: as people call it.
        kinds: pattern of the whole of `jax.Device.device_kind`.
        peaks: dense FLOP/s by dtype; products of float32 are TF32's on a GPU.
        memory: bytes of main memory.
        bandwidth: bytes/s of main memory.
        interconnect: bytes/s that a device sends to its neighbours at most, half of what a sheet
            calls bidirectional; None where no source says it.
        sources: where the figures stand.
    """

    name: str
    kinds: str
    peaks: Mapping[str, float]
    memory: float
    bandwidth: float
    interconnect: float | None
    sources: tuple[str, ...]

    def peak(self, dtype: str) -> float:
        """FLOP/s of products of `dtype`, "bfloat16" or "float32".

        A TPU multiplies float32 in bfloat16 passes, one as JAX asks for it by default: its peak is
        then that of bfloat16 (https://docs.jax.dev/en/latest/_autosummary/jax.lax.Precision.html).
        """
        return self.peaks.get(dtype, self.peaks["bfloat16"])


def _tpu(
    name: str,
    kinds: str,
    peak: float,
    memory: float,
    bandwidth: float,
    ici: float | None,
    page: str,
) -> Device:
    """`ici` is bidirectional, in GB/s."""
    interconnect = None if ici is None else ici / 2 * 1e9
    sources = (_GOOGLE + page, _JAX)
    return Device(
        name, kinds, {"bfloat16": peak * 1e12}, memory, bandwidth * 1e9, interconnect, sources
    )


def _gpu(
    name: str,
    kinds: str,
    peaks: tuple[float, float],
    memory: float,
    bandwidth: float,
    nvlink: float | None,
    *sources: str,
) -> Device:
    """Peaks of bfloat16 and TF32 in TFLOP/s; memory in GB, its bandwidth in TB/s, NVLink's in GB/s.

    The last is bidirectional.
    """
    rates = {"bfloat16": peaks[0] * 1e12, "float32": peaks[1] * 1e12}
    half = None if nvlink is None else nvlink / 2 * 1e9
    return Device(name, kinds, rates, memory * 1e9, bandwidth * 1e12, half, sources)


# The first whose pattern fits is taken. TF32 of the H100 PCIe is half of bfloat16, as of the SXM.
DEVICES: tuple[Device, ...] = (
    _tpu("TPU v4", "TPU v4", 275, 32 * _GIB, 1200, None, "v4"),
    _tpu("TPU v5e", "TPU v5 lite|TPU v5e", 197, 16 * _GIB, 819, 400, "v5e"),
    _tpu("TPU v5p", "TPU v5p?", 459, 95 * _GIB, 2765, 1200, "v5p"),
    _tpu("TPU v6e", "TPU v6 lite|TPU v6e", 918, 32 * _GIB, 1638, 800, "v6e"),
    _tpu("TPU7x", "TPU7x?", 2307 / 2, 192 * _GIB / 2, 7400 / 2, None, "tpu7x"),
    _gpu("A100 40 GB", r"NVIDIA A100.*40GB.*", (312, 156), 40, 1.555, 600, _A100),
    _gpu("A100 80 GB", r"NVIDIA A100.*", (312, 156), 80, 2.039, 600, _A100),
    _gpu(
        "H100 PCIe",
        r"NVIDIA H100 PCIe.*",
        (1513 / 2, 1513 / 4),
        80,
        2.0,
        None,
        _LIGHTNING,
        _H100_PCIE,
    ),
    _gpu("H100 SXM", r"NVIDIA (H100|GH200).*", (989.4, 494.7), 80, 3.35, 900, _H100),
    _gpu("H200", r"NVIDIA H200.*", (989.4, 494.7), 141, 4.8, 900, _H100, *_H200),
    _gpu("B200", r"NVIDIA B200.*", (2250, 1100), 180, 8.0, 1800, _B200, _B200_MEMORY),
)


def device_for(kind: str) -> Device:
    """The device of a `jax.Device.device_kind`; "cpu" is measured, which takes a second.

    Raises:
        UserError: no figures for this kind.
    """
    if kind == "cpu":
        return measured_cpu()
    for device in DEVICES:
        if re.fullmatch(device.kinds, kind):
            return device
    raise UserError(
        f"no peak FLOP/s known for the device {kind!r}; known are "
        f"{', '.join(device.name for device in DEVICES)} and cpu"
    )


@functools.cache
def measured_cpu() -> Device:
    """This machine's CPU, all cores that the process may use: measured, as no sheet speaks of it.

    Peak: the best of several products of float32 matrices [1536, 1536] by XLA itself. Bandwidth:
    the best copy of 256 MiB, read and written. Busy neighbours lower both.
    """
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        n = 1536
        x = jnp.ones((n, n), jnp.float32)
        product = _best_seconds(lambda: x @ x)
        large = jnp.ones(2**26, jnp.float32)
        copy = _best_seconds(jax.jit(lambda: large + 1.0), calls=4)
    peak = 2 * n**3 / product
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Device(
        "CPU",
        "cpu",
        {"float32": peak, "bfloat16": peak},
        float(memory),
        2 * large.nbytes / copy,
        None,
        ("measured by vlfau_jax.account.devices.measured_cpu",),
    )


def _best_seconds(function: Callable[[], jax.Array], calls: int = 8) -> float:
    """The shortest of some calls, after one that compiles."""
    jax.block_until_ready(function())
    best = float("inf")
    for _ in range(calls):
        start = time.perf_counter()
        jax.block_until_ready(function())
        best = min(best, time.perf_counter() - start)
    return best
