"""The collectives of a training step, read from the compiled program."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from tests.sharding.collectives import KINDS, Instruction, bare, instructions, strays
from tests.tiny import noise_set
from vlfau_jax.cli.settings import Settings
from vlfau_jax.data.read import dataset
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.sharding.mesh import MeshOptions, make_mesh
from vlfau_jax.sharding.rules import gathered
from vlfau_jax.train.experiment import TrainOptions, build_experiment
from vlfau_jax.train.state import TrainState
from vlfau_jax.train.step import abstract_batch

pytestmark = pytest.mark.slow

WIDTH, HEADS, UNITS = 16, 4, (1, 2, 4, 12)
BLOCK = "stage2_block1"  # of width 64, whose windows are shifted
# 40 images are 5, 10 or 40 on a device: no parameter has a dimension that is a multiple of 5, every
# array with a batch or with windows in it has.
IMAGES = 40


@dataclass(frozen=True)
class Program:
    """A compiled step: its text, the bytes it writes in place, the state that it takes."""

    text: str
    alias_bytes: int
    state: TrainState


@pytest.fixture(scope="module")
def program() -> Callable[..., Program]:
    """Compiles, once for each mesh, the step of a small network with all its parts."""

    @functools.cache
    def compiled(*mesh: int) -> Program:
        model = ModelOptions(
            backbone_width=WIDTH,
            depths=(0, 1, 2, 0),
            heads=(2, 2, HEADS, HEADS),
            window=2,
            patch=2,
            width=32,
            reduction=4,
            word_embedding=16,
            hidden=24,
            attention=8,
        )
        e = build_experiment(
            Settings(
                data=DataOptions(fold=0, aus=UNITS, image_size=16, threads=0),
                model=model,
                train=TrainOptions(batch_size=IMAGES),
                mesh=MeshOptions(*mesh),
            )
        )
        step = e.train_step().compile(e.abstract, abstract_batch(e.spec, e.mesh)).program
        return Program(step.as_text(), step.memory_analysis().alias_size_in_bytes, e.abstract)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "open_set", lambda name, *_: noise_set(name))
        yield compiled


def computed_with(params):
    """Shapes of what a device holds of the parameters while it computes."""
    whole = gathered(jax.tree.map(lambda leaf: leaf.sharding, params))
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(whole), strict=True)
    return [at.shard_shape(leaf.shape) for leaf, at in pairs]


@pytest.mark.parametrize("mesh", [(8, 1, 1), (1, 8, 1), (2, 2, 2)])
def test_a_step_reuses_its_state_and_moves_nothing_but_parameters(program, mesh):
    step = program(*mesh)
    assert step.alias_bytes == sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(step.state)
    )
    whole = computed_with(step.state.params)
    assert not [size for shape in whole for size in shape if size % 5 == 0]
    assert strays(step.text, {*whole}) == []


def found(step, *kinds):
    """Bare shapes of all that instructions of these kinds give."""
    return {bare(shape) for one in instructions(step.text, kinds) for shape in one.shapes}


def kernels(step):
    """Shapes of weights of linear layers and convolutions: their gradients are summed as they are.

    That of the patches is of their product, a matrix. (Those of position biases, words and spatial
    attention are summed in an earlier shape.)
    """
    leaves = jax.tree_util.tree_leaves_with_path(step.state.params)
    shapes = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in leaves
        if path[-1].key == "kernel"
    }
    *square, channels, width = shapes["backbone/embedding/project/kernel"]
    shapes["backbone/embedding/project/kernel"] = (math.prod(square) * channels, width)
    return {bare(shape) for shape in shapes.values()}


def test_gradients_are_summed_over_data(program):
    step = program(8, 1, 1)
    assert {one.kind for one in instructions(step.text)} <= {"all-reduce", "reduce-scatter"}
    assert kernels(step) <= found(step, "all-reduce", "reduce-scatter")


def test_parameters_are_gathered_over_fsdp_and_their_gradients_summed(program):
    step = program(1, 8, 1)
    split = [leaf for leaf in jax.tree.leaves(step.state.params) if "fsdp" in leaf.sharding.spec]
    assert len(split) > 50
    assert {bare(leaf.shape) for leaf in split} <= found(step, "all-gather")
    assert kernels(step) <= found(step, "all-reduce", "reduce-scatter")


def test_blocks_are_summed_over_tensor(program):
    sums = [one.operation for one in instructions(program(2, 2, 2).text, ("all-reduce",))]
    for part in ("attention/output", "mlp_out"):
        assert any(
            f"jvp(VLFAU)/VLFAU._encode/backbone/backbone._stage/{BLOCK}/{part}" in operation
            for operation in sums
        ), part


@pytest.mark.parametrize(
    ("part", "axis", "whole"),
    [
        (f"{BLOCK}/attention/wqhd,wkhd->whqk/dot_general", 1, HEADS),
        (f"{BLOCK}/mlp_in/dot_general", -1, 4 * 4 * WIDTH),
        ("refinement._mlp/pbnr,nrd->bnd/dot_general", 0, len(UNITS)),
    ],
    ids=["heads", "MLP", "action units"],
)
def test_tensor_splits_products(program, part, axis, whole):
    def sizes(step):
        """Along the axis, of the products on the way forward."""
        return {
            one.shapes[0][axis]
            for one in instructions(step.text, ("dot",))
            if one.operation.endswith(part) and "transpose" not in one.operation
        }

    assert sizes(program(8, 1, 1)) == {whole}
    assert sizes(program(2, 2, 2)) == {whole // 2}


def test_a_shared_captioners_sentences_are_split_and_no_device_waits_for_another(program):
    """The recurrence communicates nothing, forward or backward: gradients are summed after it."""
    inside = [
        one
        for one in instructions(program(2, 2, 2).text, (*KINDS, "dot"))
        if "local_captioner" in one.operation and "while/body" in one.operation
    ]
    backward = [one for one in inside if "transpose" in one.operation]
    forward = [one for one in inside if one not in backward]
    assert {one.kind for one in forward} == {one.kind for one in backward} == {"dot"}
    assert max(math.prod(one.shapes[0]) for one in forward) <= IMAGES // 4 * len(UNITS) // 2 * 96


@pytest.mark.parametrize(
    ("spec", "kind"),
    [(P(), "all-gather"), (P(None, ("data", "fsdp")), "all-to-all")],
    ids=["gathered", "turned"],
)
def test_a_batch_that_is_communicated_is_found(spec, kind):
    """A program that is sharded badly on purpose."""
    mesh = make_mesh(MeshOptions(8, 1, 1))
    rows, whole = (NamedSharding(mesh, s) for s in (P(("data", "fsdp")), P()))

    @functools.partial(jax.jit, in_shardings=(rows, whole), out_shardings=rows)
    def bad(batch, weights):
        sharded = jax.lax.with_sharding_constraint(jnp.sin(batch), NamedSharding(mesh, spec))
        return jnp.cos(sharded) @ weights

    text = bad.lower(jnp.ones((40, 16)), jnp.ones((16, 8))).compile().as_text()
    assert kind in {one.kind for one in strays(text, {(16, 8)})}
    assert (
        strays(text, {(16, 8), (40, 16), (5, 16), (1, 5, 2), (8, 5, 2), (40, 2), (5, 8, 2)}) == []
    )


def test_instructions_are_read_as_xla_writes_them():
    text = """
  %all-gather.3 = f32[2,8,32]{1,0,2} all-gather(%x), dimensions={2}, metadata={op_name="a/b"}
  ROOT %r = (bf16[4]{0}, /*index=1*/f32[]) all-reduce-start(%y, %all-gather.3), to_apply=%sum
  %d = f32[4,96]{1,0} dot(%p, %q), lhs_contracting_dims={1}
"""
    assert instructions(text, (*KINDS, "dot")) == [
        Instruction("all-gather", ((2, 8, 32),), "a/b"),
        Instruction("all-reduce", ((4,), ()), ""),
        Instruction("dot", ((4, 96),), ""),
    ]
