from dataclasses import dataclass

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from vlfau_jax.errors import UserError
from vlfau_jax.sharding.mesh import AXES, MeshOptions, make_mesh


@dataclass(frozen=True)
class Chip:
    """As much of a device as its place in a mesh depends on; so test JAX's own mesh_utils, too."""

    id: int
    process_index: int
    slice_index: int = 0
    platform: str = "gpu"
    device_kind: str = "NVIDIA H100 80GB HBM3"
    coords: tuple[int, int, int] = (0, 0, 0)
    core_on_chip: int = 0


def gpus(processes, each, slices=1):
    """Processes of `each` devices; slices take turns, so that ids do not tell them apart."""
    return [
        Chip(id=p * each + k, process_index=p, slice_index=p % slices)
        for p in range(processes)
        for k in range(each)
    ]


def torus(x, y, slices=1, kind="TPU v4"):
    """Slices of x * y TPU chips each, a process for every 2 x 2 of them."""
    return [
        Chip(
            id=(s * y + j) * x + i,
            process_index=(s * y // 2 + j // 2) * (x // 2) + i // 2,
            slice_index=s,
            platform="tpu",
            device_kind=kind,
            coords=(i, j, 0),
        )
        for s in range(slices)
        for j in range(y)
        for i in range(x)
    ]


def slices(mesh):
    return np.vectorize(lambda device: device.slice_index)(mesh.devices)


@pytest.mark.parametrize(
    ("asked", "shape"),
    [
        (MeshOptions(), (8, 1, 1)),
        (MeshOptions(1, 1, 1), (1, 1, 1)),
        (MeshOptions(-1, 2, 2), (2, 2, 2)),
        (MeshOptions(2, -1, 1), (2, 4, 1)),
        (MeshOptions(1, 1, -1), (1, 1, 8)),
        (MeshOptions(4, 1, 1), (4, 1, 1)),
    ],
)
def test_shape(asked, shape):
    mesh = make_mesh(asked)
    assert tuple(mesh.shape[axis] for axis in AXES) == shape
    assert mesh.axis_types == (AxisType.Auto,) * 3
    assert list(mesh.devices.flat) == jax.devices()[: mesh.size]


def test_devices_given():
    devices = jax.devices()[4:6]
    assert list(make_mesh(MeshOptions(), devices).devices.flat) == devices


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 4, 1), (2, 2, 2), (4, 1, 2)])
def test_rows_of_a_process_are_consecutive(shape):
    """Processes of 4 devices on one slice: the grid counts them one after the other."""
    mesh = make_mesh(MeshOptions(*shape), gpus(processes=2, each=4))
    assert [device.process_index for device in mesh.devices.flat] == [0] * 4 + [1] * 4


@pytest.mark.parametrize(
    "devices",
    [gpus(4, 4, slices=2), gpus(4, 4, slices=2)[::-1], torus(4, 2, slices=2)],
    ids=["hosts", "hosts in another order", "TPU slices"],
)
@pytest.mark.parametrize("asked", [(2, 4, 2), (2, 8, 1), (4, 2, 2), (-1, 1, 1), (-1, 1, 8)])
def test_only_data_crosses_slices(asked, devices):
    mesh = make_mesh(MeshOptions(*asked), devices)
    assert mesh.axis_types == (AxisType.Auto,) * 3
    assert {device.id for device in mesh.devices.flat} == set(range(16))
    of = slices(mesh)
    assert (of == of[:, :1, :1]).all(), "neighbours along fsdp or tensor are in two slices"
    assert of[:, 0, 0].tolist() == sorted(of[:, 0, 0]), "data counts the slices outermost"
    assert {*of.flat} == {0, 1}


def test_a_torus_axis_is_split_where_whole_ones_do_not_fit():
    mesh = make_mesh(MeshOptions(2, 4, 2), torus(4, 4))
    assert {device.id for device in mesh.devices.flat} == set(range(16))


@pytest.mark.parametrize(
    ("asked", "devices", "words"),
    [
        ((1, 16, 1), gpus(4, 4, slices=2), r"mesh.data=1: the devices are in slices of 8, 8, .* 2"),
        ((1, 4, 4), gpus(4, 4, slices=4), r"fsdp \* mesh.tensor = 16 must .* a multiple of 4"),
        ((2, 2, 3), gpus(3, 4, slices=3), r"make mesh.data a multiple of 3"),
        ((2, 1, 3), gpus(3, 2, slices=2), "in slices of 4, 2"),
    ],
)
def test_slices_that_cannot_be_kept_apart_are_refused(asked, devices, words):
    with pytest.raises(UserError, match=words) as error:
        make_mesh(MeshOptions(*asked), devices)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (MeshOptions(3, 2, 1), "product 6 does not divide the 8 devices"),
        (MeshOptions(16, 1, 1), "product 16 does not divide"),
        (MeshOptions(-1, 3, 1), "product 3 does not divide"),
        (MeshOptions(-1, -1, 1), "one of them may be -1"),
        (MeshOptions(0, 1, 1), "mesh.data=0"),
    ],
)
def test_impossible_sizes_are_refused(asked, words):
    with pytest.raises(UserError, match=words):
        make_mesh(asked)
