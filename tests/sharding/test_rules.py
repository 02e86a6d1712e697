import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from vlfau_jax.data.read.batch import spec
from vlfau_jax.model.axes import LOGICAL_AXES
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.model.vlfau import VLFAU
from vlfau_jax.sharding.mesh import MeshOptions, make_mesh
from vlfau_jax.sharding.rules import (
    RULES,
    gathered,
    parameter_shardings,
    partition_spec,
    placements,
)
from vlfau_jax.train.state import abstract_params


def boxed(shape, *names):
    return nn.LogicallyPartitioned(jax.ShapeDtypeStruct(shape, jnp.float32), names)


@pytest.fixture
def mesh():
    return make_mesh(MeshOptions(2, 2, 2))


@pytest.mark.parametrize(
    ("names", "shape", "expected"),
    [
        (("embed", "mlp"), (4, 6), (P("fsdp", "tensor"), ())),
        (("conv", "conv", "in", "embed"), (3, 3, 3, 8), (P(None, None, None, "fsdp"), ())),
        (("au", "embed"), (7, 8), (P(None, "fsdp"), ("au",))),
        (("au", "embed"), (7, 9), (P(None, None), ("au", "embed"))),
        ((), (), (P(), ())),
    ],
)
def test_spec_of_an_array(mesh, names, shape, expected):
    assert partition_spec(names, shape, mesh) == expected


@pytest.mark.parametrize(
    ("names", "shape", "words"),
    [
        (("embed", "nowhere"), (4, 4), "no sharding rule for the logical axis 'nowhere'"),
        (("embed", None), (4, 4), "no sharding rule for the logical axis None"),
        (("heads", "mlp"), (4, 4), "asks for a mesh axis twice"),
        (("embed", "embed"), (4, 4), "asks for a mesh axis twice"),
        (("embed",), (4, 4), "1 axis names"),
    ],
)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 2, 2)])
def test_mistakes_of_the_model_raise_on_every_mesh(sizes, names, shape, words):
    with pytest.raises(ValueError, match=words):
        partition_spec(names, shape, make_mesh(MeshOptions(*sizes)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nowhere": None}, "rules for names that the model does not give: nowhere"),
        ({"embed": "fdsp"}, "rules to no axis of the mesh: fdsp"),
        ({"conv": ...}, "no sharding rule for the logical axes: conv"),
    ],
)
def test_a_table_that_does_not_fit_the_model_is_refused(mesh, change, words):
    rules = {name: axis for name, axis in {**RULES, **change}.items() if axis is not ...}
    tree = {"w": boxed((4, 6), "embed", "mlp")}
    with pytest.raises(ValueError, match=words):
        parameter_shardings(tree, mesh, rules)


def test_a_mistake_names_its_parameter(mesh):
    with pytest.raises(ValueError, match="parameter a/b: no sharding rule"):
        placements({"a": {"b": boxed((2,), "nowhere")}}, mesh)
    with pytest.raises(ValueError, match="parameter a carries no logical axis names"):
        placements({"a": jax.ShapeDtypeStruct((2,), jnp.float32)}, mesh)


def test_bytes_per_device(mesh):
    rows = placements({"w": boxed((4, 6), "embed", "mlp"), "u": boxed((3,), "au")}, mesh)
    assert [(row.path, row.bytes, row.bytes_per_device, row.uneven) for row in rows] == [
        ("u", 12, 12, ("au",)),
        ("w", 96, 24, ()),
    ]


def test_shardings_keep_the_structure(mesh):
    tree = {"b": boxed((8,), "embed"), "a": {"c": boxed((4, 6), "embed", "mlp")}}
    found = parameter_shardings(tree, mesh)
    assert found["b"].spec == P("fsdp")
    assert found["a"]["c"].spec == P("fsdp", "tensor")


def test_gathered_drops_fsdp_only(mesh):
    stored = {"w": NamedSharding(mesh, P("fsdp", "tensor")), "b": NamedSharding(mesh, P())}
    found = gathered(stored)
    assert found["w"].spec == P(None, "tensor")
    assert found["b"].spec == P()


FULL = (
    {"scan_blocks": True, "local_captioner": "per_au", "channel_mlp": "separate"},
    {"stem": "conv", "au_embedding": True, "global_context": True},
)


def test_full_featured_models_give_every_published_name_and_no_other():
    """No rule is idle, and every parameter divides evenly by 8 where a rule splits it."""
    of = spec(batch_size=8, image_size=224, units=8, max_local_tokens=30, max_global_tokens=30)
    names = set()
    for switches in FULL:
        tree = abstract_params(VLFAU(ModelOptions(**switches), 8, 216), of)
        boxes = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, nn.Partitioned))
        names |= {name for box in boxes for name in box.names}
        for mesh in (MeshOptions(1, 8, 1), MeshOptions(1, 1, 4)):
            assert not any(row.uneven for row in placements(tree, make_mesh(mesh)))
    assert names == LOGICAL_AXES.keys() == RULES.keys()
