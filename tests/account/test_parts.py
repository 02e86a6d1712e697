"""Where operations belong: names as JAX writes them, and everything of real training steps."""

import re
from collections import Counter

import jax
import pytest

from tests.account.networks import TASK, forward, options, train_step
from tests.account.products import equations, products
from vlfau_jax.account.flops import flops
from vlfau_jax.account.parts import PARTS, address
from vlfau_jax.losses.joint import ObjectiveOptions

ENCODE = "jit(step)/jvp(VLFAU)/VLFAU._encode"
BACK = "jit(step)/transpose(jvp(VLFAU))/VLFAU._encode"


@pytest.mark.parametrize(
    ("op_name", "part", "direction"),
    [
        (f"{ENCODE}/backbone/embedding/project/conv_general_dilated", "embedding", "forward"),
        (f"{ENCODE}/backbone/backbone._stage/stage0_block1/attention/output/dot_general",
         "stage 1 attention", "forward"),
        (f"{BACK}/backbone/backbone._stage/stage2_pairs/while/body/second/mlp_in/dot_general",
         "stage 3 mlp", "backward"),
        (f"{BACK}/backbone/backbone._stage/stage3_block0/rematted_computation/norm_attention/sub",
         "stage 4 attention", "backward"),
        (f"{ENCODE}/backbone/backbone._stage/stage1_block1/jit(_roll_static)/slice",
         "stage 2 attention", "forward"),
        (f"{ENCODE}/backbone/backbone._stage/stage1_block1/erfc", "stage 2 mlp", "forward"),
        (f"{ENCODE}/backbone/merge3/reduce/dot_general", "merges", "forward"),
        (f"{ENCODE}/backbone/norm/rsqrt", "merges", "forward"),
        (f"{ENCODE}/fusion/tap0/conv_general_dilated", "MSC", "forward"),
        (f"{BACK}/refinement/refinement._spatial/bnhwc,nc->bnhw/dot_general", "DAIR", "backward"),
        (f"{ENCODE}/classifier/bnd,nd->bn/dot_general", "classifier", "forward"),
        ("jit(step)/jvp(VLFAU)/local_captioner.teacher_force/vmap()/while/body/closed_call/tanh",
         "local captioner", "forward"),
        ("jit(step)/jvp(VLFAU)/VLFAU._encode/VLFAU._own_context/while/body/dot_general",
         "global captioner", "forward"),
        ("jit(step)/transpose(jvp(losses))/mul", "losses", "backward"),
        ("jit(step)/optimizer/mul", "optimizer", "forward"),
        ("state.opt_state[1][0].mu['backbone']['stage0_block0']['mlp_in']['kernel']",
         "optimizer", "forward"),
        ("state.params['backbone']['stage0_block0']['mlp_in']['kernel']",
         "stage 1 mlp", "forward"),
        ("state.params['backbone']['embedding']['project']['bias']", "embedding", "forward"),
        ("state.params['fusion']['tap0']['kernel']", "MSC", "forward"),
        ("batch['image']", "input", "forward"),
        ("jit(step)/jvp(input)/div", "input", "forward"),
        ("jit(f)/add", "other", "forward"),
        ("", "other", "forward"),
    ],
)  # fmt: skip
def test_names(op_name, part, direction):
    assert address(op_name) == (part, direction)
    assert part in PARTS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "objective", "frozen", "parts"),
    [
        ({}, {}, (), 1),
        ({"scan_blocks": True, "depths": (1, 0, 4, 1), "remat": "dots"}, {}, (), 1),
        ({"global_context": True, "au_embedding": True}, {"local_branches": 2}, (), 2),
        ({"stem": "conv", "local_captioner": "per_au", "pooling": "max"}, {}, ("backbone",), 1),
    ],
    ids=["default", "scanned, remat", "branches, micro-batches", "frozen"],
)
def test_everything_of_a_training_step_has_an_address(changed, objective, frozen, parts):
    """But for the count of updates and zeros from which JAX starts to sum gradients."""
    network = options(**changed)
    step, arguments = train_step(network, TASK, ObjectiveOptions(**objective), frozen, parts)
    found, strays = Counter(), set()
    for equation, scope, _ in equations(jax.make_jaxpr(step)(*arguments).jaxpr):
        place = address(scope)
        found[place.part] += 1
        if place.part == "other" and any(result.aval.shape for result in equation.outvars):
            strays.add((equation.primitive.name, scope))
    assert {name for name, _ in strays} <= {"broadcast_in_dim"}, strays
    assert found["other"] < 0.005 * found.total()
    blocks = {f"stage {i + 1}" for i, depth in enumerate(network.depths) if not depth}
    assert found.keys() - {"other"} == {
        part for part in PARTS if part != "other" and not part.startswith(tuple(blocks or "-"))
    }


@pytest.mark.slow
def test_backward_is_what_training_adds():
    network = options()
    step, arguments = train_step(network, TASK)
    counted = products(jax.make_jaxpr(step)(*arguments).jaxpr)
    for part, one in flops(network, TASK).items():
        assert counted[part, "forward"] == pytest.approx(TASK.batch * one.forward)
        added = TASK.batch * (one.training + one.recomputed - one.forward)
        assert counted[part, "backward"] == pytest.approx(added)


@pytest.mark.slow
def test_compiled_programs_keep_the_names():
    """XLA's text of a compiled network names every part that computes products."""
    network = options(depths=(1, 0, 0, 0), taps=(4,))
    function, arguments = forward(network, TASK)
    text = jax.jit(function).lower(*arguments).compile().as_text()
    names = {address(name).part for name in re.findall(r'op_name="([^"]*)"', text)}
    assert names >= {part for part, one in flops(network, TASK).items() if one.forward}
