"""Where each parameter lives: logical axis names of the model -> axes of the mesh."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vlfau_jax.model.axes import LOGICAL_AXES

# model/axes.py documents what the names count; here is why each is sharded as it is.
RULES: Mapping[str, str | None] = {
    "au": "tensor",
    "heads": "tensor",
    "mlp": "tensor",
    "embed": "fsdp",  # nearly every array has it, and all widths are multiples of 8
    "vocab": None,  # a few hundred, of no particular divisibility
    "tap": None,
    "refine": None,
    "hidden": None,  # an LSTM's devices would communicate at every word; "au" splits its sentences
    "layers": None,  # every device runs all of them
    "window": None,
    "conv": None,
    "in": None,
}


@dataclass(frozen=True)
class Placement:
    """One parameter's sharding; `uneven` names logical axes that their mesh axis does not divide.

    Uneven axes are replicated: at width 48 a mesh axis of 32 would otherwise rule out the whole
    run.
    """

    path: str
    shape: tuple[int, ...]
    spec: PartitionSpec
    uneven: tuple[str, ...]
    bytes: int
    bytes_per_device: int


def partition_spec(
    names: tuple[str | None, ...],
    shape: tuple[int, ...],
    mesh: Mesh,
    rules: Mapping[str, str | None] = RULES,
) -> tuple[PartitionSpec, tuple[str, ...]]:
    """The spec of one array, and its logical axes that stay whole as they do not divide evenly.

    Raises ValueError for a dimension without a name, a name without a rule, and two dimensions on
    the same mesh axis: all three are mistakes in the model, on every mesh.
    """
    if len(names) != len(shape):
        raise ValueError(f"{len(names)} axis names {names} for shape {shape}")
    missing = [name for name in names if name not in rules]
    if missing:
        raise ValueError(f"no sharding rule for the logical axis {missing[0]!r} in {names}")
    wanted = [rules[name] for name in names]
    used = [axis for axis in wanted if axis is not None]
    if len(used) != len(set(used)):
        raise ValueError(f"{names} asks for a mesh axis twice: {tuple(wanted)}")
    uneven = tuple(
        name
        for name, axis, size in zip(names, wanted, shape, strict=True)
        if axis is not None and size % mesh.shape[axis]
    )
    spec = (
        None if axis is None or name in uneven or mesh.shape[axis] == 1 else axis
        for name, axis in zip(names, wanted, strict=True)
    )
    return PartitionSpec(*spec), uneven


def check_rules(rules: Mapping[str, str | None], mesh: Mesh) -> None:
    """Raises ValueError unless there is one rule for every name the model may give, and no other.

    A rule that no array can use would go unnoticed: its author believes that something is sharded
    that is not.
    """
    for fault, names in (
        ("no sharding rule for the logical axes", LOGICAL_AXES.keys() - rules.keys()),
        (
            "sharding rules for names that the model does not give",
            rules.keys() - LOGICAL_AXES.keys(),
        ),
        ("rules to no axis of the mesh", {*rules.values()} - {*mesh.axis_names, None}),
    ):
        if names:
            raise ValueError(f"{fault}: {', '.join(sorted(names))}")


def placements(boxed: Any, mesh: Mesh, rules: Mapping[str, str | None] = RULES) -> list[Placement]:
    """One row per parameter of an abstract tree boxed with logical names, in path order.

    Raises ValueError, naming the parameter, where rules or names are wrong (`check_rules`,
    `partition_spec`).
    """
    check_rules(rules, mesh)
    return [_place(path, leaf, mesh, rules) for path, leaf in _boxed_leaves(boxed)]


def parameter_shardings(boxed: Any, mesh: Mesh, rules: Mapping[str, str | None] = RULES) -> Any:
    """NamedSharding per parameter, in the structure of the unboxed tree."""
    specs = [row.spec for row in placements(boxed, mesh, rules)]
    structure = jax.tree.structure(nn.meta.unbox(boxed))
    return jax.tree.unflatten(structure, [NamedSharding(mesh, spec) for spec in specs])


def gathered(shardings: Any) -> Any:
    """Shardings of parameters while they are used: as stored, but whole along 'fsdp'.

    Stored shards save memory, and the batch is split over 'fsdp' too. Without this constraint the
    partitioner may split a matrix product over both at once: on a (2, 2, 2) mesh, jax 0.10's gave
    wrong gradients for the captioners' recurrence.
    """
    return jax.tree.map(
        lambda stored: NamedSharding(
            stored.mesh,
            PartitionSpec(*(None if axis == "fsdp" else axis for axis in stored.spec)),
        ),
        shardings,
    )


def _boxed_leaves(boxed: Any) -> list[tuple[str, Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(
        boxed, is_leaf=lambda leaf: isinstance(leaf, nn.meta.AxisMetadata)
    )
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]


def _place(path: str, leaf: Any, mesh: Mesh, rules: Mapping[str, str | None]) -> Placement:
    if not isinstance(leaf, nn.LogicallyPartitioned):
        raise ValueError(f"parameter {path} carries no logical axis names")
    array = leaf.value
    try:
        spec, uneven = partition_spec(leaf.names, array.shape, mesh, rules)
    except ValueError as error:
        raise ValueError(f"parameter {path}: {error}") from None
    size = math.prod(array.shape) * array.dtype.itemsize
    shards = math.prod(mesh.shape[axis] for axis in spec if axis is not None)
    return Placement(path, array.shape, spec, uneven, size, size // shards)
