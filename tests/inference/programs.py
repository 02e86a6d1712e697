"""Networks of one switch each, exported without a run, and the requests that describe them."""

from dataclasses import asdict, replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import export

from tests.tiny import TINY_MODEL
from vlfau_jax.inference.model_folder import PLATFORMS
from vlfau_jax.inference.outputs import describe
from vlfau_jax.inference.program_check import Request
from vlfau_jax.model.vlfau import VLFAU

UNITS, WORDS, MAX_WORDS, SIZE = 3, 11, (4, 6), 16
SWITCHES = {
    "all": {},
    "patch": {"stem": "patch"},
    "blocks": {"depths": (0, 0, 2, 1)},
    "one tap": {"taps": (4,)},
    "grid": {"grid": 2, "pooling": "max"},
    "channel": {"refinement": "channel", "channel_mlp": "separate"},
    "spatial": {"refinement": "spatial", "spatial_sigmoid": False},
    "none": {"refinement": "none"},
    "local": {"global_captions": False, "au_embedding": True},
    "told": {"told_scores": True},
    "per_au": {"local_captioner": "per_au"},
    "global": {"local_captions": False, "global_context": True},
    "silent": {"local_captions": False, "global_captions": False, "refinement": "none"},
    "remat": {"remat": "full"},
    "bfloat16": {"dtype": "bfloat16"},
}


def network(beams=1, **changes):
    """A network's weights, its function of (weights, image), and its request."""
    options = replace(TINY_MODEL, **changes)
    model = VLFAU(options, UNITS, WORDS)
    image = jnp.zeros((1, SIZE, SIZE, 3))
    rows = jnp.ones((1, UNITS, 6), jnp.int32), jnp.ones((1, 8), jnp.int32)
    params = jax.eval_shape(lambda key: model.init(key, image, *rows), jax.random.key(0))["params"]
    weights = flatten_dict(nn.unbox(params), sep="/")

    def run(weights, image):
        return describe(model, unflatten_dict(weights, sep="/"), image, MAX_WORDS, beams)

    request = Request(
        options=asdict(options),
        units=UNITS,
        vocabulary=WORDS,
        max_words=MAX_WORDS,
        beams=beams,
        image_size=SIZE,
        batch_size=4,
        platform="cpu",
        weights={name: (str(w.dtype), w.shape) for name, w in weights.items()},
    )
    return weights, run, request


def exported(function, weights, platforms=PLATFORMS, checks=()):
    """A function of (weights, image), exported for any batch size; returns the program's bytes."""
    (batch,) = export.symbolic_shape("b")
    image = jax.ShapeDtypeStruct((batch, SIZE, SIZE, 3), np.uint8)
    make = export.export(jax.jit(function), platforms=platforms, disabled_checks=checks)
    return bytes(make(weights, image).serialize())


CALLS = ("xla_ffi_python_cpu_callback", "lapack_spotrf_ffi", "cu_threefry2x32_ffi", "Sharding")


def stranger(extra):
    """A program with the signature of the silent network that computes `extra` of [b, 3] floats.

    That is added as 0, or JAX would leave it out.
    """

    def run(weights, image):
        p = image[:, :3, 0, 0] / 255
        return {"au_probabilities": p + 0 * extra(p).astype(jnp.float32).sum()}

    return run


def forged(program, **facts):
    """A program that says other facts of itself."""
    original = export.deserialize(bytearray(program))
    return bytes(replace(original, **facts).serialize())


def foreign_call(name, p):
    return jax.ffi.ffi_call(name, jax.ShapeDtypeStruct(p.shape, p.dtype), has_side_effect=True)(p)
