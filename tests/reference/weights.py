"""Our parameter tree as the reference's state_dict, and random parameters that hide nothing.

The map is linear and uses every tensor of ours once, so that it carries gradients, too.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from tests.reference.network import END, PAD, START, UNK
from vlfau_jax.train.huggingface import hugging_face_name

# Hugging Face's name in a file -> in memory.
_IN_MEMORY = (
    ("attention.self.query", "attention.q_proj"),
    ("attention.self.key", "attention.k_proj"),
    ("attention.self.value", "attention.v_proj"),
    ("attention.self.relative", "attention.relative_position_bias.relative"),
    ("attention.output.dense", "attention.o_proj"),
    ("intermediate.dense", "mlp.fc1"),
)
_LINEAR = {  # the captioner's; our matrices are [in, out]
    "score_hidden.weight": "hidden_to_attention",
    "score_feature.weight": "features_to_attention",
    "score_feature.bias": "attention_bias",
    "first_hidden.weight": "mean_to_hidden",
    "first_hidden.bias": "hidden_bias",
    "first_cell.weight": "mean_to_cell",
    "first_cell.bias": "cell_bias",
    "vocabulary.weight": "hidden_to_logits",
    "vocabulary.bias": "logits_bias",
    "lstm.weight_hh": "hidden_to_gates",
    "lstm.bias_ih": "gates_bias",
}


def random_params(model, rng, height, width):
    """Parameters of our `model` for images of that size, float32: no bias is zero, no scale one.

    Gains are such that attentions and vocabularies are far from uniform; <end> and the words that
    must never be generated are often the likeliest.
    """
    tokens = (jnp.zeros((1, model.au_count, 3), jnp.int32), jnp.zeros((1, 3), jnp.int32))
    tree = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, height, width, 3)), *tokens)[
        "params"
    ]
    shapes = {name: x.shape for name, x in flatten_dict(nn.unbox(tree), sep="/").items()}
    params = {name: _draw(name, shape, rng) for name, shape in shapes.items()}
    for name, value in params.items():
        if name.endswith("logits_bias"):
            value[..., [PAD, START, END, UNK]] += 1.0
    return unflatten_dict(params, sep="/")


def _draw(name, shape, rng):
    noise = rng.normal(size=shape).astype(np.float32)
    room, _, leaf = name.rpartition("/")
    if leaf == "scale":
        return 1 + 0.3 * noise
    if leaf in ("relative_position_bias", "words", "aus", "score"):
        return noise
    if leaf.endswith("bias"):
        return 0.3 * noise
    if leaf.endswith("spatial"):
        inputs, gain = np.prod(shape[1:]), 2.0
    elif room == "classifier" or leaf == "attention_to_score":
        inputs, gain = shape[-1], 3.0
    elif leaf == "kernel":
        inputs, gain = np.prod(shape[:-1]), 1.2
    else:
        inputs, gain = shape[-2], 5.0 if leaf == "hidden_to_logits" else 1.5
    return (gain * inputs**-0.5 * noise).astype(np.float32)


def reference_state(params, model):
    """Our parameters (or their gradients) under the reference's names, float32 tensors.

    Args:
        params: nested, as `model.init` makes them, without boxes.
        model: our `VLFAU`.

    Raises:
        AssertionError: a tensor of ours has no counterpart.
    """
    ours = {name: np.asarray(x) for name, x in flatten_dict(params, sep="/").items()}
    options, units = model.options, range(model.au_count)
    theirs = {}
    for name in [name for name in ours if name.startswith("backbone/")]:
        value = ours.pop(name)
        name = name.removeprefix("backbone/")
        theirs["backbone.swin." + _in_memory(hugging_face_name(name))] = _kernel(name, value)
    for place, tap in enumerate(options.taps):
        of_tap = f"fusion/tap{tap - 1}"
        theirs[f"msc.convs.{place}.weight"] = ours.pop(f"{of_tap}/kernel").transpose(3, 2, 0, 1)
        theirs[f"msc.convs.{place}.bias"] = ours.pop(f"{of_tap}/bias")
    theirs["msc.linear.weight"] = ours.pop("fusion/fuse/kernel").T
    theirs["msc.linear.bias"] = ours.pop("fusion/fuse/bias")
    stacked = _pop_room(ours, "refinement")
    for unit in units:
        theirs |= _dair(f"dair.{unit}.", {name: x[unit] for name, x in stacked.items()})
    stacked = _pop_room(ours, "classifier")
    for unit in units:
        theirs[f"heads.{unit}.weight"] = stacked["kernel"][unit][None]
        theirs[f"heads.{unit}.bias"] = stacked["bias"][unit][None]
        if "context_kernel" in stacked:
            theirs[f"context_heads.{unit}.weight"] = stacked["context_kernel"][unit][None]
    if local := _pop_room(ours, "local_captioner"):
        if options.local_captioner == "per_au":
            for unit in units:
                one = {name: x[unit] for name, x in local.items()}
                theirs |= _captioner(f"local.{unit}.", one)
        else:
            theirs |= _captioner("local.0.", local)
    if whole := _pop_room(ours, "global_captioner"):
        theirs |= _captioner("whole.", whole)
    assert not ours, f"no counterpart: {sorted(ours)}"
    return {name: torch.from_numpy(np.array(x, np.float32)) for name, x in theirs.items()}


def _pop_room(ours, room):
    names = [name for name in ours if name.startswith(room + "/")]
    return {name.removeprefix(room + "/"): ours.pop(name) for name in names}


def _in_memory(name):
    for disk, memory in _IN_MEMORY:
        name = name.replace(disk, memory)
    if ".output.dense" in name:  # the MLP's; the attention's has its name by now
        name = name.replace("output.dense", "mlp.fc2")
    return name


def _kernel(name, value):
    if not name.endswith("kernel"):
        return value
    return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T


def _dair(prefix, p):
    theirs = {}
    for ours, mlp in (("", "max_mlp"), ("average_", "average_mlp")):
        for layer, name in ((0, "squeeze"), (2, "excite")):
            if ours + name in p:
                theirs[f"{prefix}{mlp}.{layer}.weight"] = p.pop(ours + name).T
                theirs[f"{prefix}{mlp}.{layer}.bias"] = p.pop(f"{ours}{name}_bias")
    if "spatial" in p:
        theirs[prefix + "conv.weight"] = p.pop("spatial").transpose(2, 0, 1)[None]
        theirs[prefix + "conv.bias"] = p.pop("spatial_bias")[None]
    assert not p, f"no counterpart: {prefix} {sorted(p)}"
    return theirs


def _captioner(prefix, p):
    theirs = {"words.weight": p.pop("words"), "score.weight": p.pop("attention_to_score")[None]}
    if "aus" in p:
        theirs["units.weight"] = p.pop("aus")
    if "score" in p:
        theirs["told"] = p.pop("score")
    inputs = np.concatenate([p.pop("words_to_gates"), p.pop("context_to_gates")])
    theirs["lstm.weight_ih"] = inputs.T
    theirs |= {name: p.pop(ours).T for name, ours in _LINEAR.items()}
    assert not p, f"no counterpart: {prefix} {sorted(p)}"
    return {prefix + name: value for name, value in theirs.items()}
