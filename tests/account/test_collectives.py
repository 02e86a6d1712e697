"""What devices send each other: read from programs, and by hand."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from vlfau_jax.account.collectives import by_kind, collectives, expected, sent_bytes
from vlfau_jax.account.traffic import traffic
from vlfau_jax.sharding.mesh import MeshOptions, make_mesh
from vlfau_jax.train.accumulate import (
    merge_micro_batches,
    split_micro_batches,
    sum_over_micro_batches,
)

ARRAY = "f32[6,4]{1,0:T(8,128)}"  # 96 bytes; 4 KB as it lies in memory


def program(*lines):
    body = "\n  ".join(lines)
    return f"""
HloModule m

%wrapped (w: f32[6,4]) -> f32[12,4] {{
  %w = {ARRAY} parameter(0)
  ROOT %g = f32[12,4]{{1,0}} all-gather(%w), replica_groups={{{{0,1}}}}, dimensions={{0}}
}}

ENTRY %e (a: f32[6,4], b: f32[6,4]) -> f32[6,4] {{
  %a = {ARRAY} parameter(0)
  %b = {ARRAY} parameter(1)
  {body}
}}
"""


NAME = 'metadata={op_name="jit(step)/transpose(jvp(VLFAU))/VLFAU._encode/fusion/fuse/dot"}'
GROUPS = {
    "{{0,1,2,3},{4,5,6,7}}": 4,
    "[2,4]<=[8]": 4,
    "[4,2]<=[2,4]T(1,0)": 2,
    "mesh['x'=2,'y'=4] {'y'}": 4,
    "mesh['x'=2,'y'=4] {'x','y'}": 8,
    "mesh['x'=4,'y'=2], device_ids=([2,4]T(1,0)) {'x'}": 4,
    "mesh['x'=2,'y'=8] {'y':(1)2}": 2,
}


@pytest.mark.parametrize("groups", GROUPS)
def test_groups(groups):
    text = program(f"ROOT %r = {ARRAY} all-reduce(%a), replica_groups={groups}, {NAME}")
    (found,) = collectives(text)
    assert (found.kind, found.payload, found.group) == ("all-reduce", 96, GROUPS[groups])
    assert found.address == ("MSC", "backward")
    assert found.sent == 2 * 96 * (found.group - 1) / found.group


@pytest.mark.parametrize(
    ("lines", "kind", "payload", "sent"),
    [
        ((f"ROOT %r = ({ARRAY}, {ARRAY}) all-reduce(%a, %b), replica_groups={{{{0,1}}}}",),
         "all-reduce", 192, 192),
        ((f"%s = {ARRAY} all-reduce-start(%a), replica_groups=[1,4]<=[4]",
          f"ROOT %r = {ARRAY} all-reduce-done(%s)"), "all-reduce", 96, 144),
        (("ROOT %r = f32[24,4]{1,0} all-gather(%a), replica_groups=[1,4]<=[4], dimensions={0}",),
         "all-gather", 384, 288),
        ((f"%s = ({ARRAY}, f32[24,4]{{1,0}}) all-gather-start(%a), replica_groups=[1,4]<=[4]",
          "ROOT %r = f32[24,4]{1,0} all-gather-done(%s)"), "all-gather", 384, 288),
        (("ROOT %r = f32[3,4]{1,0} reduce-scatter(%a), replica_groups={{0,1}}, dimensions={0}",),
         "reduce-scatter", 96, 48),
        ((f"ROOT %r = {ARRAY} all-to-all(%a), replica_groups={{{{0,1}}}}, dimensions={{0}}",),
         "all-to-all", 96, 48),
        ((f"%s = ({ARRAY}, {ARRAY}, u32[], u32[]) collective-permute-start(%a), "
          "source_target_pairs={{0,1},{1,0}}",
          f"ROOT %r = {ARRAY} collective-permute-done(%s)"), "collective-permute", 96, 96),
        ((f"%s = (({ARRAY}), f32[12,4]{{1,0}}, u32[]) async-start(%a), calls=%wrapped",
          "ROOT %r = f32[12,4]{1,0} async-done(%s)"), "all-gather", 192, 96),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_kinds(lines, kind, payload, sent):
    found = collectives(program(*lines))
    assert by_kind(found) == {kind: payload}
    assert sent_bytes(found) == sent


SPREAD = """
HloModule m

%begin (p: f32[6,4]) -> (f32[6,4], f32[24,4], u32[]) {
  %p = f32[6,4]{1,0} parameter(0)
  %g1 = f32[24,4]{1,0} all-gather(%p), channel_id=7, replica_groups=[1,4]<=[4], dimensions={0}
  ROOT %c1 = (f32[6,4]{1,0}, f32[24,4]{1,0}, u32[]{:S(2)}) custom-call(%p, %g1)
}

%beside (p: f32[6,4], q: f32[24,4], x: f32[8]) -> (f32[8], f32[6,4], f32[24,4]) {
  %p2 = f32[6,4]{1,0} parameter(0)
  %q2 = f32[24,4]{1,0} parameter(1)
  %x = f32[8]{0} parameter(2)
  %g2 = f32[24,4]{1,0} all-gather(%p2), channel_id=7, replica_groups=[1,4]<=[4], dimensions={0}
  %y = f32[8]{0} negate(%x)
  ROOT %t = (f32[8]{0}, f32[6,4]{1,0}, f32[24,4]{1,0}) tuple(%y, %p2, %g2)
}

%end (p: f32[6,4], q: f32[24,4]) -> f32[24,4] {
  %p3 = f32[6,4]{1,0} parameter(0)
  %q3 = f32[24,4]{1,0} parameter(1)
  %g3 = f32[24,4]{1,0} all-gather(%p3), channel_id=7, replica_groups=[1,4]<=[4], dimensions={0}
  ROOT %c3 = f32[24,4]{1,0} custom-call(%p3, %q3, %g3)
}

ENTRY %e (a: f32[6,4], z: f32[8]) -> f32[24,4] {
  %a = f32[6,4]{1,0} parameter(0)
  %z = f32[8]{0} parameter(1)
  %s = (f32[6,4]{1,0}, f32[24,4]{1,0}, u32[]{:S(2)}) fusion(%a), kind=kCustom, calls=%begin
  %s0 = f32[6,4]{1,0} get-tuple-element(%s), index=0
  %s1 = f32[24,4]{1,0} get-tuple-element(%s), index=1
  %m = (f32[8]{0}, f32[6,4]{1,0}, f32[24,4]{1,0}) fusion(%s0, %s1, %z), calls=%beside
  %m1 = f32[6,4]{1,0} get-tuple-element(%m), index=1
  %m2 = f32[24,4]{1,0} get-tuple-element(%m), index=2
  ROOT %d = f32[24,4]{1,0} fusion(%m1, %m2), kind=kCustom, calls=%end
}
"""


def test_a_collective_that_proceeds_beside_other_work_counts_once():
    """As TPUs gather: begun, continued and ended by fusions of one channel."""
    (found,) = collectives(SPREAD)
    assert (found.kind, found.payload, found.name) == ("all-gather", 24 * 4 * 4, "s")
    moved = traffic(SPREAD)
    # The shard is read and the whole written once; the work beside reads and writes 32 bytes.
    assert (moved.read, moved.bytes) == (96 + 32, 96 + 32 + 384 + 32)


def test_all_devices_and_a_device_alone():
    text = program(f"ROOT %r = {ARRAY} all-reduce(%a), replica_groups={{}}")
    assert collectives(text, devices=8)[0].group == 8
    with pytest.raises(ValueError, match="groups of devices"):
        collectives(text)
    alone = program(f"ROOT %r = {ARRAY} all-reduce(%a), replica_groups={{{{0}},{{1}}}}")
    assert collectives(alone) == []


def step(mesh, module="dense", dtype=jnp.float32):
    """Text of a step of gradient descent on one layer [64, 16], and its parameters as shapes."""
    sharding = NamedSharding(mesh, P("fsdp" if mesh.shape["fsdp"] > 1 else None, None))
    whole, rows = NamedSharding(mesh, P()), NamedSharding(mesh, P(("data", "fsdp")))
    params = {module: {"kernel": jax.ShapeDtypeStruct((64, 16), jnp.float32, sharding=sharding)}}
    shardings = jax.tree.map(lambda leaf: leaf.sharding, params)

    @functools.partial(jax.jit, in_shardings=(shardings, rows), out_shardings=shardings)
    def train(params, x):
        def loss(params):
            kernel = jax.lax.with_sharding_constraint(params[module]["kernel"], whole)
            return jnp.tanh(x.astype(dtype) @ kernel.astype(dtype)).astype(jnp.float32).sum()

        return jax.tree.map(lambda p, g: p - g, params, jax.grad(loss)(params))

    shapes = (params, jax.ShapeDtypeStruct((40, 64), jnp.float32))
    return train.lower(*shapes).compile().as_text(), params


@pytest.mark.parametrize("mesh", [(8, 1, 1), (1, 8, 1), (2, 4, 1)])
def test_a_layers_step_sends_what_the_formula_says(mesh):
    mesh = make_mesh(MeshOptions(*mesh))
    text, params = step(mesh)
    found, by_hand = by_kind(collectives(text)), expected(params, mesh.shape)
    size = 4 * 64 * 16
    assert by_hand == {
        "all-gather": size * (mesh.shape["fsdp"] > 1),
        "all-reduce": size,
    }
    # XLA may sum into shards at once, or sum within and then across groups.
    found["all-reduce"] = found.get("all-reduce", 0) + found.pop("reduce-scatter", 0)
    assert found.get("all-gather", 0) == pytest.approx(by_hand["all-gather"], rel=0.1)
    assert found["all-reduce"] == pytest.approx(by_hand["all-reduce"], rel=0.1)


def leaf(*shape, platform="tpu", split=False):
    """A parameter in float32 on eight devices of a kind that need not be here."""
    devices = np.array([SimpleNamespace(platform=platform)] * 8)
    sharding = SimpleNamespace(
        spec=P("fsdp" if split else None), mesh=SimpleNamespace(devices=devices)
    )
    return SimpleNamespace(shape=shape, dtype=np.dtype("float32"), sharding=sharding)


@pytest.mark.parametrize(
    ("platform", "effort", "compute_bytes", "matrix", "bias"),
    [
        ("tpu", 0.0, 2, 2, 2),
        ("tpu", 0.0, 4, 2, 4),  # it multiplies float32 in bfloat16
        ("tpu", -0.4, 2, 2, 2),
        ("tpu", -0.5, 2, 4, 4),
        ("tpu", -1.0, 4, 4, 4),
        ("gpu", 0.0, 2, 4, 4),  # as they are stored, and cast afterwards
        ("gpu", 0.0, 4, 4, 4),
        ("cpu", 0.0, 2, 4, 4),  # it computes bfloat16 in float32
    ],
)
def test_the_dtype_of_a_gather(platform, effort, compute_bytes, matrix, bias):
    own = {"platform": platform, "split": True}
    block = {
        "mlp_in": {"kernel": leaf(8, 3, **own), "bias": leaf(8, **own)},
        "norm_mlp": {"scale": leaf(16, **own)},
    }
    found = expected(
        {"backbone": block},
        {"data": 1, "fsdp": 8, "tensor": 1},
        compute_bytes=compute_bytes,
        compile_effort=effort,
    )
    assert found["all-gather"] == 24 * matrix + 8 * bias + 16 * 4
    gradient = 4 if platform == "cpu" else compute_bytes
    assert found["all-reduce"] == (24 + 8) * gradient + 16 * 4


@pytest.mark.parametrize(
    ("platform", "gathered"),
    [("tpu", 24 * 2), ("gpu", 3 * 24 * (4 + 2)), ("cpu", 24 * (4 + 4))],
)
def test_micro_batches_gather_in_their_loops_or_before(platform, gathered):
    kernel = {"kernel": leaf(8, 3, platform=platform, split=True)}
    options = {"compute_bytes": 2, "parts": 3, "scored": ("backbone",)}
    mesh = {"data": 1, "fsdp": 8, "tensor": 1}
    assert expected({"backbone": kernel}, mesh, **options)["all-gather"] == gathered
    captions = expected({"global_captioner": kernel}, mesh, **options)["all-gather"]
    assert captions == {"tpu": 24 * 2, "gpu": 3 * 24 * 4, "cpu": 24 * 4}[platform]


@pytest.mark.parametrize("scored", [(), ("dense",)])
def test_xla_for_cpu_gathers_before_each_loop_over_micro_batches(scored):
    """The loops of `train.accumulate`: gradients, and before them the scores of Dice."""
    mesh, parts = make_mesh(MeshOptions(1, 8, 1)), 4
    split, whole = NamedSharding(mesh, P("fsdp")), NamedSharding(mesh, P())
    kernel = jax.ShapeDtypeStruct((64, 16), jnp.float32, sharding=split)

    def outputs(kernel, x):
        return jnp.tanh(x @ jax.lax.with_sharding_constraint(kernel, whole))

    @functools.partial(jax.jit, out_shardings=split)
    def step(kernel, x):
        rows, total = split_micro_batches(x, parts, mesh), 1.0
        if scored:
            total = merge_micro_batches(jax.lax.map(lambda x: outputs(kernel, x), rows), mesh).sum()
        gradient = jax.grad(lambda kernel, x: (outputs(kernel, x) / total).sum())
        return kernel - sum_over_micro_batches(lambda x: gradient(kernel, x), rows)

    x = jax.ShapeDtypeStruct((64, 64), jnp.float32, sharding=NamedSharding(mesh, P("fsdp")))
    found = by_kind(collectives(step.lower(kernel, x).compile().as_text()))
    by_hand = expected({"dense": {"kernel": kernel}}, mesh.shape, parts=parts, scored=scored)
    assert found["all-gather"] == by_hand["all-gather"] == 4 * 64 * 16 * (1 + len(scored))
    summed = found.get("all-reduce", 0) + found.get("reduce-scatter", 0)
    assert summed == pytest.approx(by_hand["all-reduce"], rel=0.01)


def test_the_formula_by_hand():
    mesh = {"data": 2, "fsdp": 4, "tensor": 1}
    params = {
        "backbone": {"norm": {"scale": leaf(8, split=True)}, "out": {"kernel": leaf(8, 3)}},
        "global_captioner": {
            "words": leaf(5, 8, split=True),
            "words_to_gates": leaf(8, 12),
            "gates_bias": leaf(12),
        },
    }
    assert expected(params, mesh, compute_bytes=2) == {
        "all-gather": 8 * 4 + 5 * 8 * 2,
        # The norm in float32; kernel, bias and the table of words by gates in bfloat16.
        "all-reduce": 8 * 4 + (8 * 3 + 12 + 5 * 12) * 2,
    }
    # A frozen backbone is gathered, and has no gradient; micro-batches are summed one by one.
    assert expected(params, mesh, compute_bytes=2, frozen=("backbone",), parts=3) == {
        "all-gather": 8 * 4 + 5 * 8 * 2,
        "all-reduce": 3 * (12 + 5 * 12) * 2,
    }
    alone = {"data": 1, "fsdp": 1, "tensor": 1}
    assert expected(params, alone) == {"all-gather": 0, "all-reduce": 0}
