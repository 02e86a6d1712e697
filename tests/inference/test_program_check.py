"""What a stranger's program may not do, each tried; and that our own of every switch may run."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from jax._src.lib import _jax
from jax.interpreters import mlir
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

from tests.inference import programs
from tests.inference.programs import (
    CALLS,
    SIZE,
    SWITCHES,
    exported,
    foreign_call,
    forged,
    network,
    stranger,
)
from vlfau_jax.inference import program_check
from vlfau_jax.inference.program_check import check
from vlfau_jax.inference.program_cost import Refused
from vlfau_jax.model.options import ModelOptions

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_limits_on_this_process(monkeypatch):
    monkeypatch.setattr(program_check, "_limit_memory", lambda: None)
    monkeypatch.setattr(program_check, "_seconds", lambda _: contextlib.nullcontext())


@pytest.fixture(scope="module")
def silent():
    """The network without sentences, whose results and loops a stranger must imitate."""
    return network(**SWITCHES["silent"])


@pytest.fixture(scope="module")
def speaking():
    return network()


@pytest.mark.parametrize("beams", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("switch", SWITCHES)
def test_our_own_programs_may_run(switch, beams):
    if switch == "silent" and beams > 1:
        return
    weights, run, request = network(beams, **SWITCHES[switch])
    program = exported(run, weights)
    for platform in ("cpu", "cuda", "tpu") if switch == "all" else ("cpu",):
        check(request.model_copy(update={"platform": platform}), program)


@pytest.mark.slow
def test_a_program_of_the_papers_size_may_run(monkeypatch):
    """What grows with the sizes, such as what loops fill, is not what a tiny network is full of."""
    for name, value in (("SIZE", 224), ("UNITS", 12), ("WORDS", 166), ("MAX_WORDS", (29, 42))):
        monkeypatch.setattr(programs, name, value)
    monkeypatch.setattr(programs, "TINY_MODEL", ModelOptions())
    weights, run, request = network(beams=5)
    check(request.model_copy(update={"batch_size": 32}), exported(run, weights))


def checked(network, run, **facts):
    """Checks what a stranger exports in the place of a network, and says of it."""
    weights, _, request = network
    checks = [export.DisabledSafetyCheck.custom_call(name) for name in CALLS]
    program = exported(run, weights, ("cpu",), checks)
    check(request, forged(program, disabled_safety_checks=(), unordered_effects=(), **facts))


def loop(going_on, count, start=0):
    """A loop over (counter, x), in which x changes, or JAX would leave the loop out."""

    def extra(p):
        state = (jnp.asarray(start), p.sum())
        return lax.while_loop(lambda c: going_on(*c), lambda c: (count(*c), jnp.tanh(c[1])), state)[
            1
        ]

    return extra


def forever(p):
    return lax.while_loop(lambda x: x > -1, lambda x: x + 1.0, p.sum())


def exchanged(p):
    body = lambda c: (c[1], c[0] + 1, jnp.tanh(c[2]))  # noqa: E731
    return lax.while_loop(lambda c: c[0] < 9, body, (0, 0, p.sum()))[2]


def moving_limit(p):
    body = lambda c: (c[0] + 1, c[1] + 1, jnp.tanh(c[2]))  # noqa: E731
    return lax.while_loop(lambda c: c[0] < c[1], body, (0, 9, p.sum()))[2]


def data_limit(p):
    limit = (p.sum() * 1e9).astype(jnp.int32)
    return loop(lambda i, x: i < limit, lambda i, x: i + 1)(p)


def data_start(p):
    start = (p.sum() * -1e9).astype(jnp.int32)
    return loop(lambda i, x: i < 9, lambda i, x: i + 1, start)(p)


def data_step(p):
    step = p.sum().astype(jnp.int32)
    return loop(lambda i, x: i < 9, lambda i, x: i + step)(p)


def add(i, x):
    return i + 1


ENDLESS = {
    "no counter": forever,
    "the limit moves": moving_limit,
    "counters change places": exchanged,
    "the limit is a result": data_limit,
    "the start is a result": data_start,
    "the step is a result": data_step,
    "or": loop(lambda i, x: (i < 9) | (x > -2), add),
    "any": loop(lambda i, x: jnp.any(jnp.stack([i < 9, x > -2])), add),
    "not": loop(lambda i, x: ~(i < 9), add, 10),
    "not equal": loop(lambda i, x: i != 9, lambda i, x: i + 2),
    "above": loop(lambda i, x: i > -9, add),
    "select": loop(lambda i, x: jnp.where(x > -2, True, i < 9), add),
    "it stands": loop(lambda i, x: i < 9, lambda i, x: jnp.where(i > 5, i, i + 1)),
    "it is set back": loop(lambda i, x: i < 9, lambda i, x: (i + 1) % 5),
    "it counts down": loop(lambda i, x: i < 9, lambda i, x: i - 1),
    "zeros": loop(lambda i, x: i < 9, lambda i, x: i + 0 * (x > 0)),
    "fractions": loop(lambda i, x: i < 9.0, lambda i, x: i + 1e-9, 0.0),
    "8 bits": loop(lambda i, x: i <= np.int8(127), lambda i, x: i + np.int8(1), np.int8(0)),
    "unsigned": loop(
        lambda i, x: i <= np.uint32(2**32 - 1), lambda i, x: i + np.uint32(1), np.uint32(0)
    ),
    "32 bits": loop(lambda i, x: i <= 2**31 - 1, add),
}


def times(n, inner):
    return lambda p: lax.fori_loop(0, n, lambda _, x: inner(x), p)


@pytest.mark.parametrize("name", ENDLESS)
def test_a_loop_without_a_bound_is_refused(silent, name):
    with pytest.raises(Refused, match=r"a loop without a bound|tensor<i8>"):
        checked(silent, stranger(ENDLESS[name]))


def huge_product(p):
    x = jnp.broadcast_to(p.sum(), (2000, 2000))
    return (x @ x)[0]


def huge_kernel(p):
    x = jnp.broadcast_to(p.sum(), (1, 1, 1500, 1500))
    return lax.conv_general_dilated(x, x, (1, 1), [(700, 700)] * 2)[0, 0, 0]


def huge_window(p):
    x = jnp.broadcast_to(p.sum(), (1_000_000,))
    return lax.reduce_window(x, -jnp.inf, lax.max, (500_000,), (1,), "VALID")


def huge_padding(p):
    x = jnp.broadcast_to(p.sum(), (1, 1, 9))
    return lax.conv_general_dilated(x, x[..., :3], (10**8,), [(10**9, 10**9)])[0]


def huge_dilation(p):
    x, one = jnp.broadcast_to(p.sum(), (1, 1, 9)), jnp.ones((1, 1, 1))
    return lax.conv_general_dilated(x, one, (10**8,), [(0, 0)], lhs_dilation=(10**8,))[0]


def huge_padding_of_windows(p):
    x = jnp.broadcast_to(p.sum(), (9,))
    return lax.reduce_window(x, -jnp.inf, lax.max, (3,), (10**8,), [(10**9, 10**9)])


def many_operations(p):
    for k in range(1500):
        p = p * k + 1
    return p


def much_alive(p):
    parts = [jnp.broadcast_to(p.sum() + k, (3_000_000,)) for k in range(20)]
    return sum(part[0] for part in [lax.optimization_barrier(tuple(parts))][0])


def computed_by_the_compiler(_):
    x = lax.iota(jnp.float32, 1000).reshape(10, 100)
    return jnp.cumsum(jnp.sort(jnp.tile(x, (1, 100)), -1)[:, :9], -1)


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        (lambda p: jnp.broadcast_to(p.sum(), (10**9,)), "largest"),
        (lambda p: jnp.full((10**9,), 7.0) * p.sum(), "largest"),
        (lambda p: jnp.pad(p.sum()[None], (0, 10**9)), "largest"),
        (lambda p: lax.iota(jnp.float32, 2 * 10**9) * p.sum(), "largest"),
        (lambda p: jnp.sort(jnp.broadcast_to(p.sum(), (3_000_000,))), "work"),
        (times(10**9, lambda x: x + 1), "executed"),
        (times(5, times(5, lambda x: x + 1)), "loop"),
        (huge_product, "work"),
        (huge_kernel, "(work|largest)"),
        (huge_window, "work"),
        (huge_padding, "largest"),
        (huge_dilation, "largest"),
        (huge_padding_of_windows, "largest"),
        (many_operations, "operations"),
        (much_alive, "live"),
    ],
)
def test_more_than_the_network_takes_is_refused(silent, extra, what):
    with pytest.raises(Refused, match=rf"takes more than a network of these options: {what}"):
        checked(silent, stranger(extra))


@pytest.mark.parametrize(
    "extra", [times(1000, lambda x: x + 1), times(60, times(60, times(60, lambda x: jnp.tanh(x))))]
)
def test_loops_are_no_longer_than_the_sentences(extra):
    """Those of a network with sentences; its options let the stranger have loops."""
    speaking = network(**SWITCHES["global"])

    def run(weights, image):
        found = speaking[1](weights, image)
        p = found["au_probabilities"]
        return found | {"au_probabilities": p + 0 * extra(p).sum()}

    with pytest.raises(Refused, match="takes more"):
        checked(speaking, run)


def in_a_function(p):
    return jax.jit(lambda x: foreign_call("xla_ffi_python_cpu_callback", x))(p)


def in_a_branch(p):
    return lax.cond(p.sum() > 0, in_a_function, lambda x: x, p)


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        (lambda p: foreign_call("xla_ffi_python_cpu_callback", p), "custom_call"),
        (lambda p: foreign_call("lapack_spotrf_ffi", p), "custom_call"),
        (lambda p: foreign_call("cu_threefry2x32_ffi", p), "custom_call"),
        (lambda p: foreign_call("Sharding", p), "custom_call"),
        (in_a_function, "custom_call"),
        (in_a_branch, "custom_call"),
        (times(3, in_a_branch), "custom_call"),
        (lambda p: jnp.linalg.cholesky(p[:, :1, None]), "custom_call|cholesky"),
        (lambda p: lax.rng_uniform(p.sum(), 1.0, (3,)), "rng"),
        (lambda p: p.reshape((4,) + (1,) * 20 + (3,)) + 1, "22 dimensions"),
        (lambda p: p.astype(jnp.float16) + 1, "f16"),
        (lambda p: jnp.fft.fft(p).real, "complex"),
        (lambda p: lax.complex(p, p).real, "complex"),
    ],
)
def test_operations_that_no_network_needs_are_refused(silent, extra, named):
    with pytest.raises(Refused, match=named):
        checked(silent, stranger(extra))


def rewritten(program, *lines, functions=""):
    """A program with more lines of StableHLO at the beginning of its main function."""
    original = export.deserialize(bytearray(program))
    with mlir.make_ir_context():
        text = ir.Module.parse(original.mlir_module()).operation.get_asm()
        head, start, rest = text.partition("  func.func private @_wrapped_jax_export_main(")
        first, _, rest = rest.partition("\n")
        text = "\n".join([head + functions + start + first, *lines, rest])
        content = mlir.module_to_bytecode(ir.Module.parse(text))
        content = _jax.mlir.serialize_portable_artifact(
            content, stablehlo.get_current_version(), False
        )
    return forged(program, mlir_module_serialized=content)


SELF = """  func.func private @itself(%x: tensor<i32>) -> tensor<i32> {
    %0 = func.call @itself(%x) : (tensor<i32>) -> tensor<i32>
    return %0 : tensor<i32>
  }
"""
DOUBLING = "".join(
    f"""  func.func private @f{k}(%x: tensor<i32>) -> tensor<i32> {{
    %0 = func.call @f{k + 1}(%x) : (tensor<i32>) -> tensor<i32>
    %1 = func.call @f{k + 1}(%0) : (tensor<i32>) -> tensor<i32>
    return %1 : tensor<i32>
  }}
"""
    for k in range(12)
)
LAST = """  func.func private @f12(%x: tensor<i32>) -> tensor<i32> {
    %0 = stablehlo.custom_call @x(%x) {has_side_effect = true} : (tensor<i32>) -> tensor<i32>
    return %0 : tensor<i32>
  }
"""
TOKEN = "%t = stablehlo.create_token : !stablehlo.token"


@pytest.mark.parametrize(
    ("lines", "functions"),
    [
        (["%zz = func.call @itself(%arg0) : (tensor<i32>) -> tensor<i32>"], SELF),
        (["%zz = func.call @f0(%arg0) : (tensor<i32>) -> tensor<i32>"], DOUBLING + LAST),
        (
            [
                TOKEN,
                '%z = "stablehlo.outfeed"(%arg0, %t) {outfeed_config = ""} : '
                "(tensor<i32>, !stablehlo.token) -> !stablehlo.token",
            ],
            "",
        ),
        (
            [
                TOKEN,
                '%z, %u = "stablehlo.infeed"(%t) : (!stablehlo.token) -> '
                "(tensor<i32>, !stablehlo.token)",
            ],
            "",
        ),
        (
            [
                '%z = stablehlo.composite "a.b" %arg0 {decomposition = @f12} : '
                "(tensor<i32>) -> tensor<i32>"
            ],
            LAST,
        ),
    ],
    ids=["calls itself", "calls 4,096 times", "outfeed", "infeed", "composite"],
)
def test_modules_that_jax_does_not_write_are_refused(silent, lines, functions):
    weights, _, request = silent
    program = exported(stranger(lambda p: p), weights)
    check(request, program)
    with pytest.raises(Refused):
        check(request, rewritten(program, *lines, functions=functions))


def changed(name, change):
    """A program whose result `name` is changed, or absent where `change` is None."""

    def made(run):
        def stranger(weights, image):
            found = dict(run(weights, image))
            if change is None:
                del found[name]
            else:
                found[name] = change(found["au_probabilities"])
            return found

        return stranger

    return made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("au_probabilities", lambda p: p[:, :2]), r"float32 \[b, 2\], expected .*\[b, 3\]"),
        (changed("au_probabilities", lambda p: p[:1]), r"gives au_probabilities as"),
        (changed("au_probabilities", lambda p: p > 0), r"as bool \[b, 3\], expected float32"),
        (changed("au_probabilities", None), "a model of these options gives"),
        (changed("more", lambda p: p), "a model of these options gives"),
        (lambda run: lambda weights, image: [run(weights, image)], "other results than arrays"),
        (lambda run: lambda weights, image: jnp.zeros(3), "other results than arrays"),
    ],
)
def test_other_results_than_the_networks_are_refused(silent, change, message):
    with pytest.raises(Refused, match=message):
        checked(silent, change(stranger(lambda p: p)))


@pytest.mark.parametrize(
    ("of_request", "message"),
    [
        ({"units": 4}, "weights are not of the network"),
        ({"vocabulary": 12}, "weights are not of the network"),
        (
            {"image_size": 32},
            r"takes images uint8 \[b, 16, 16, 3\], expected uint8 \[b, 32, 32, 3\]",
        ),
        ({"max_words": (4, 7)}, "gives global_"),
        ({"platform": "rocm"}, "is for the platforms"),
        ({"weights": {}}, "missing in the file: backbone.* and 7. more$"),
    ],
)
def test_a_program_of_other_options_is_refused(speaking, of_request, message):
    weights, run, request = speaking
    with pytest.raises(Refused, match=message):
        check(request.model_copy(update=of_request), exported(run, weights))


def test_a_program_of_other_weights_is_refused(speaking):
    weights, run, request = speaking
    program = exported(run, weights)
    first, *others = sorted(request.weights)
    for changed, message in (
        (request.weights | {first: ("float16", (4,))}, rf"{first} is float32 \[4\] in the program"),
        ({name: request.weights[name] for name in others}, f"missing in the file: {first}$"),
        (request.weights | {"more": ("float32", ())}, "not in the program: more$"),
    ):
        with pytest.raises(Refused, match=message):
            check(request.model_copy(update={"weights": changed}), program)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"platforms": ("cpu", "rocm")}, "platforms"),
        ({"nr_devices": 2}, "nr_devices 2, expected 1"),
        ({"calling_convention_version": 8}, "calling convention 8"),
        ({"calling_convention_version": 99}, "calling convention 99"),
    ],
)
def test_other_facts_are_refused(silent, facts, message):
    with pytest.raises(Refused, match=message):
        checked(silent, stranger(lambda p: p), **facts)


def test_a_program_for_one_size_of_batches_is_refused(silent):
    weights, run, request = silent
    image = jax.ShapeDtypeStruct((4, SIZE, SIZE, 3), np.uint8)
    program = export.export(jax.jit(run), platforms=["cpu"])(weights, image)
    with pytest.raises(Refused, match=r"takes images uint8 \[4, 16, 16, 3\], expected uint8 \[b"):
        check(request, bytes(program.serialize()))
