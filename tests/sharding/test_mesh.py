import jax
import pytest
from jax.sharding import AxisType

from vlfau_jax.errors import UserError
from vlfau_jax.sharding.mesh import AXES, MeshOptions, make_mesh


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


def test_devices_given():
    devices = jax.devices()[4:6]
    assert list(make_mesh(MeshOptions(), devices).devices.flat) == devices


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (MeshOptions(3, 2, 1), "product 6 does not divide the 8 devices"),
        (MeshOptions(16, 1, 1), "product 16 does not divide"),
        (MeshOptions(-1, 3, 1), "product 3 does not divide"),
        (MeshOptions(-1, -1, 1), "one of them may be -1"),
        (MeshOptions(0, 1, 1), "mesh.data=0"),
        (MeshOptions(1, -2, 1), "mesh.fsdp=-2"),
    ],
)
def test_impossible_sizes_are_refused(asked, words):
    with pytest.raises(UserError, match=words):
        make_mesh(asked)
