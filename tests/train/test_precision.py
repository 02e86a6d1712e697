"""model.dtype=bfloat16 in the whole training step, backward pass and update included, as traced."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from vlfau_jax.sharding.mesh import MeshOptions
from vlfau_jax.train.experiment import build_experiment
from vlfau_jax.train.step import abstract_batch

BLOCK = re.compile(r"stage\d_block\d$")


def equations(jaxpr, outer=""):
    """All equations with their name stacks; jax 0.12 gives some inner ones none of their own."""
    for eqn in jaxpr.eqns:
        where = str(eqn.source_info.name_stack) or outer
        yield eqn, where
        for value in eqn.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from equations(inner, where)


def may_be_low(eqn, where):
    """Whether these bfloat16 operands belong to no norm, softmax or loss, nor to the update."""
    kind = eqn.primitive.name
    if kind == "exp":
        return BLOCK.search(where)  # the gradient of gelu
    if kind == "reduce_max":
        return "refinement" in where  # exact
    if kind == "reduce_sum":
        x = eqn.invars[0].aval
        # Cotangents of broadcasts over rows; in refinement, how many features are the largest.
        return "norm" not in where and (x.ndim - 1 not in eqn.params["axes"] or "refine" in where)
    return kind not in ("log", "log1p", "rsqrt", "sqrt")


MODES = {
    "shared decoder and context": {"global_context": True},
    "own decoders": {"local_captioner": "per_au"},
}


@pytest.mark.parametrize("mode", MODES)
def test_bfloat16_computes_products_alone(tiny, mode):
    s = tiny(MeshOptions(1, 1, 1), device_batch=4)
    model = replace(s.model, dtype="bfloat16", depths=(0, 2, 0, 0), taps=(2,), grid=2)
    e = build_experiment(replace(s, model=replace(model, **MODES[mode])))
    low = jnp.dtype("bfloat16")
    assert low not in {leaf.dtype for leaf in jax.tree.leaves(e.abstract)}
    traced = e.train_step().trace(e.abstract, abstract_batch(e.spec, e.mesh))
    products = set()
    for eqn, where in equations(traced.jaxpr.jaxpr):
        kind = eqn.primitive.name
        dtypes = {v.aval.dtype for v in eqn.invars if hasattr(v.aval, "dtype")}
        if kind in ("dot_general", "conv_general_dilated"):
            # float32: the few numbers a face that tell units apart, from pooled features.
            if not re.search("classifier|refinement|_own_context/bp,bpd->bd", where):
                assert dtypes == {low}, (where, dtypes, eqn)
            products.add(where)
        elif low in dtypes:
            assert may_be_low(eqn, where), (kind, where)
    for part in ("attention", "mlp_in", "local_captioner", "global_captioner"):
        ways = {where.startswith("transpose") for where in products if part in where}
        assert ways == {False, True}, (part, products)
