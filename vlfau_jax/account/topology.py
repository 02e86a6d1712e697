"""Devices that nobody here owns: the name of a topology -> devices that XLA compiles for.

A TPU's compiler is libtpu, a GPU's is JAX's CUDA plugin; neither needs the hardware, a driver or a
network. Names are `v5e:4x4`, chips along the sides of a TPU's torus, and `h100:16`, a number of
GPUs.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jaxlib
from jax.experimental import topologies

from vlfau_jax.errors import UserError

GPUS_PER_HOST = 8


@dataclass(frozen=True)
class TpuFamily:
    """A generation of TPUs.

    Attributes:
        name: what libtpu calls it.
        dimensions: sides of its torus.
        most: chips of its largest slice (cloud.google.com/tpu/docs, page of the generation).
        examples: topologies of it.
        options: for libtpu.
    """

    name: str
    dimensions: int
    most: int
    examples: tuple[str, ...]
    options: Mapping[str, Any]


# To JAX a chip is one device, and of v7x two. libtpu must be told so of v4 ("megacore").
TPUS: Mapping[str, TpuFamily] = {
    "v4": TpuFamily("v4", 3, 4096, ("2x2x1", "4x4x4"), {"chip_config_name": "megacore"}),
    "v5e": TpuFamily("v5e", 2, 256, ("1x1", "2x2", "4x4", "8x8", "16x16"), {}),
    "v5p": TpuFamily("v5p", 3, 6144, ("2x2x1", "4x4x4"), {}),
    "v6e": TpuFamily("v6e", 2, 256, ("1x1", "2x2", "4x4", "8x8", "16x16"), {}),
    "v7x": TpuFamily("tpu7x", 3, 9216, ("2x2x1", "4x4x4"), {}),
}


@dataclass(frozen=True)
class Gpu:
    """What XLA must know of a GPU to compile for it.

    Attributes:
        kind: as CUDA and `jax.Device.device_kind` name it.
        capability: CUDA's compute capability.
        multiprocessors: streaming multiprocessors.
        lanes: float32 units of each.
        shared: bytes of shared memory of each; a block may have 1 KiB less (CUDA C++ Programming
            Guide, technical specifications per compute capability).
        l2: bytes of the second-level cache.
        clock: GHz, boosted.
        memory: bytes.
        bandwidth: bytes a second.
    """

    kind: str
    capability: tuple[int, int]
    multiprocessors: int
    lanes: int
    shared: int
    l2: int
    clock: float
    memory: int
    bandwidth: int

    def target(self) -> str:
        """XLA's GpuTargetConfigProto as text."""
        major, minor = self.capability
        return f"""
            gpu_device_info {{
              threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
              block_dim_limit_x: {2**31 - 1} block_dim_limit_y: 65535 block_dim_limit_z: 65535
              registers_per_core_limit: 65536 registers_per_block_limit: 65536
              shared_memory_per_block: 49152 shared_memory_per_core: {self.shared}
              shared_memory_per_block_optin: {self.shared - 1024}
              core_count: {self.multiprocessors} fpus_per_core: {self.lanes}
              l2_cache_size: {self.l2} clock_rate_ghz: {self.clock}
              device_memory_size: {self.memory} memory_bandwidth: {self.bandwidth}
              cuda_compute_capability {{ major: {major} minor: {minor} }}
            }}
            runtime_version {{ major: 13 }}
            dnn_version_info {{ major: 9 minor: 10 }}
            platform_name: "CUDA"
            device_description_str: "{self.kind}"
        """


_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30
GPUS: Mapping[str, Gpu] = {
    "a100": Gpu(
        "NVIDIA A100-SXM4-80GB",
        (8, 0),
        108,
        64,
        164 * _KIB,
        40 * _MIB,
        1.41,
        79 * _GIB,
        2_039 * 10**9,
    ),
    "h100": Gpu(
        "NVIDIA H100 80GB HBM3",
        (9, 0),
        132,
        128,
        228 * _KIB,
        50 * _MIB,
        1.98,
        79 * _GIB,
        3_350 * 10**9,
    ),
    "h200": Gpu(
        "NVIDIA H200", (9, 0), 132, 128, 228 * _KIB, 50 * _MIB, 1.98, 140 * _GIB, 4_800 * 10**9
    ),
    "b200": Gpu(
        "NVIDIA B200", (10, 0), 148, 128, 228 * _KIB, 126 * _MIB, 1.965, 178 * _GIB, 8_000 * 10**9
    ),
}
_GPUS_AT_MOST = 4096
_ONE_CHIP = {"chips_per_host_bounds": (1, 1, 1)}


def open_topology(topology: str) -> list[jax.Device]:
    """The devices of `--topology`, for `jax.jit(...).lower(...).compile()` and nothing else.

    It sets variables of this process's environment that libtpu reads (`_without_hardware`).

    Raises:
        UserError: no such topology, or its compiler is not installed; the line says what would be
            right.
    """
    name, _, sizes = topology.partition(":")
    if name in GPUS:
        return _open_gpus(topology, GPUS[name], sizes)
    if name in TPUS:
        return _open_tpus(topology, TPUS[name], sizes)
    raise UserError(f"--topology={topology}: unknown; give {known()}")


def known() -> str:
    """The topologies that can be named, with examples."""
    tpus = ", ".join(f"{name}:{one.examples[-1]}" for name, one in TPUS.items())
    gpus = ", ".join(f"{name}:{GPUS_PER_HOST}" for name in GPUS)
    return f"a TPU's chips along each side of its torus ({tpus}) or a number of GPUs ({gpus})"


def _open_tpus(topology: str, family: TpuFamily, sizes: str) -> list[jax.Device]:
    examples = ", ".join(f"{topology.partition(':')[0]}:{one}" for one in family.examples)
    wanted = f"give one such as {examples}"
    pattern = "x".join([r"([1-9]\d{0,3})"] * family.dimensions)
    match = re.fullmatch(pattern, sizes, re.ASCII)
    if match is None:
        raise UserError(f"--topology={topology}: {family.dimensions} sides are needed; {wanted}")
    chips = math.prod(map(int, match.groups()))
    if chips > family.most:
        raise UserError(
            f"--topology={topology}: {chips:,} chips, and no slice has more than {family.most:,}; "
            f"{wanted}"
        )
    if importlib.util.find_spec("libtpu") is None and "TPU_LIBRARY_PATH" not in os.environ:
        raise UserError(
            f"--topology={topology}: libtpu, which compiles for TPUs and needs none, is not "
            f'installed; pip install "jax[tpu]=={jax.__version__}", best into an environment of '
            "its own"
        )
    _without_hardware()
    options = dict(family.options) | (_ONE_CHIP if chips == 1 else {})
    try:
        found = topologies.get_topology_desc(f"{family.name}:{sizes}", "tpu", **options)
    except jax.errors.JaxRuntimeError as error:
        raise UserError(f"--topology={topology}: {_reason(error)}; {wanted}") from None
    return list(found.devices)


def _open_gpus(topology: str, gpu: Gpu, sizes: str) -> list[jax.Device]:
    name = topology.partition(":")[0]
    wanted = f"{name}:1 to {name}:{GPUS_PER_HOST}, or a multiple of {GPUS_PER_HOST}"
    number = int(sizes) if re.fullmatch(r"[1-9]\d{0,4}", sizes, re.ASCII) else 0
    hosts = max(1, number // GPUS_PER_HOST)
    if not number or number > _GPUS_AT_MOST or number % hosts or number // hosts > GPUS_PER_HOST:
        raise UserError(f"--topology={topology}: give {wanted}, at most {name}:{_GPUS_AT_MOST}")
    if importlib.util.find_spec("jax_cuda13_plugin") is None:
        raise UserError(
            f"--topology={topology}: JAX's CUDA plugin, which compiles for GPUs and needs none, is "
            f'not installed; pip install "jax[cuda13-local]=={jaxlib.__version__}", best into an '
            "environment of its own"
        )
    _without_hardware()
    try:
        found = topologies.get_topology_desc(
            "", "cuda", target_config=gpu.target(), topology=f"1x{hosts}x{number // hosts}"
        )
    except (jax.errors.JaxRuntimeError, NotImplementedError) as error:
        raise UserError(f"--topology={topology}: {_reason(error)}; give {wanted}") from None
    return list(found.devices)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _without_hardware() -> None:
    """Prepares this process for compilers without their devices.

    libtpu would ask Google Cloud's metadata server which pod it is in, refuse to be loaded by two
    processes at once (both would want the chip), and complain about both on standard error.
    """
    quiet: Sequence[tuple[str, str]] = (
        ("TPU_SKIP_MDS_QUERY", "1"),
        ("TPU_WORKER_HOSTNAMES", "localhost"),
        ("TPU_ACCELERATOR_TYPE", "v5litepod-1"),
        ("ALLOW_MULTIPLE_LIBTPU_LOAD", "1"),
        ("TPU_LOG_DIR", "disabled"),
        ("TF_CPP_MIN_LOG_LEVEL", "2"),
    )
    for name, value in quiet:
        os.environ.setdefault(name, value)
    jax.config.update("jax_platforms", "cpu")
