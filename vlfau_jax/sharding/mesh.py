"""The device mesh: three named axes, any of size one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import jax
from jax.sharding import AxisType, Mesh

from vlfau_jax.errors import UserError

AXES = ("data", "fsdp", "tensor")


@dataclass(frozen=True)
class MeshOptions:
    """Devices along each axis; -1, at most once, stands for all that the others leave.

    `data` and `fsdp` split the batch, `fsdp` also splits parameters and optimizer state, `tensor`
    splits attention heads, hidden layers and action-unit branches.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1


def make_mesh(options: MeshOptions, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Lays devices (all of JAX's when None) out as ('data', 'fsdp', 'tensor').

    Fewer devices than there are may be asked for, if their number divides what is there and one
    process owns them all: the first ones are taken. Raises UserError where the sizes do not fit.
    """
    devices = list(jax.devices() if devices is None else devices)
    shape = _sizes(options, len(devices))
    # Explicit axes, the default of jax.make_mesh, refuse the reshapes of window attention.
    return jax.make_mesh(
        shape,
        AXES,
        axis_types=(AxisType.Auto,) * len(AXES),
        devices=devices[: math.prod(shape)],
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
