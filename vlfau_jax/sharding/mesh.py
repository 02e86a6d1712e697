"""The device mesh: three named axes, any of size one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Annotated, ClassVar

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh
from pydantic import Field

from vlfau_jax.errors import UserError
from vlfau_jax.options import Options

AXES = ("data", "fsdp", "tensor")
_Devices = Annotated[int, Field(ge=-1, le=2**20)]


@dataclass(frozen=True)
class MeshOptions(Options):
    """Devices along each axis; -1, at most once, takes all devices that the others leave.

    Attributes:
        data: devices that split the batch. Where they lie on several slices, this axis spans the
            slices and the other two stay inside one.
        fsdp: devices that split the batch, and parameters and optimizer state, which are gathered
            while they compute.
        tensor: devices that split attention heads, hidden layers of a block, action-unit branches
            and their sentences.
    """

    group: ClassVar[str] = "mesh"

    data: _Devices = -1
    fsdp: _Devices = 1
    tensor: _Devices = 1


def make_mesh(options: MeshOptions, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Arranges devices (all of JAX's when None) as ('data', 'fsdp', 'tensor').

    Where devices belong to several slices (`slice_index`: TPU pods, or GPU hosts, connected by an
    ordinary network), 'data' counts the slices outermost. 'fsdp' and 'tensor', which communicate in
    every layer, stay inside one: hybrid sharding (HSDP, arXiv 2304.11277). Elsewhere the order is
    that of the devices, process after process, except for TPUs, where it follows their torus: a
    process's rows of the batch need not be consecutive there.

    Fewer devices than available may be requested, if their number divides that of the available
    ones and one process owns them all: the first ones are taken. Raises UserError where the sizes
    do not fit.
    """
    devices = list(jax.devices() if devices is None else devices)
    shape = _sizes(options, len(devices))
    # Explicit axes, the default of jax.make_mesh, refuse the reshapes of window attention.
    return Mesh(
        _grid(shape, devices[: math.prod(shape)]), AXES, axis_types=(AxisType.Auto,) * len(AXES)
    )


def _grid(shape: tuple[int, ...], devices: Sequence[jax.Device]) -> np.ndarray:
    """Devices in the mesh's shape; neighbours along the last axes have the fastest connections.

    The axes of a torus are split where no assignment of whole ones has the shape.
    """
    slices = Counter(getattr(device, "slice_index", 0) for device in devices)
    if len(slices) == 1:
        return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    data, *inside = shape
    if data % len(slices) or len({*slices.values()}) > 1:
        raise UserError(
            f"mesh.data={data}: the devices are in slices of {', '.join(map(str, slices.values()))}"
            f", and mesh.fsdp * mesh.tensor = {math.prod(inside)} must stay inside one; make "
            f"mesh.data a multiple of {len(slices)}, and every slice as large as the others"
        )
    return mesh_utils.create_hybrid_device_mesh(
        (data // len(slices), *inside),
        (len(slices), 1, 1),
        devices,
        allow_split_physical_axes=True,
    )


def _sizes(options: MeshOptions, available: int) -> tuple[int, ...]:
    sizes = astuple(options)
    written = ", ".join(f"mesh.{axis}={size}" for axis, size in zip(AXES, sizes, strict=True))
    if any(size == 0 or size < -1 for size in sizes) or sizes.count(-1) > 1:
        raise UserError(f"{written}: sizes are 1 or more, and one of them may be -1 for the rest")
    fixed = math.prod(size for size in sizes if size != -1)
    if available % fixed:
        raise UserError(
            f"{written}: their product {fixed} does not divide the {available} devices; "
            f"choose sizes whose product does, or -1 for the rest"
        )
    if fixed < available and -1 not in sizes and jax.process_count() > 1:
        raise UserError(
            f"{written}: their product {fixed} leaves some of the {available} devices of "
            f"{jax.process_count()} processes idle; make one of them -1"
        )
    return tuple(available // fixed if size == -1 else size for size in sizes)
