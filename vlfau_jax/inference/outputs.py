"""The arrays that a trained network gives for a batch of faces, live or exported."""

from __future__ import annotations

from typing import Any

import jax

from vlfau_jax.model.options import ModelOptions
from vlfau_jax.model.vlfau import VLFAU, normalise

# Name -> dtype, shape and meaning. config.json of every model folder holds these texts.
OUTPUTS = {
    "au_probabilities": "float32 [b, n], 0-1: probability that each unit of `aus` is present",
    "local_tokens": "int32 [b, n, t]: one sentence a unit, <end> kept, then <pad>",
    "local_scores": "float32 [b, n]: mean log-probability of each sentence's words, <end> counted",
    "global_tokens": "int32 [b, t']: the sentence about the whole face",
    "global_scores": "float32 [b]: mean log-probability of its words",
    "spatial_maps": "float32 [b, n, h, w]: where each unit's branch looks",
    "local_attention": "float32 [b, n, t, h, w]: where each word of each sentence looks",
    "global_attention": "float32 [b, t', h, w]",
}


def outputs_of(options: ModelOptions) -> dict[str, str]:
    """The part of `OUTPUTS` that a network of these options gives.

    Without spatial attention there are no spatial maps: the network's are then 1 everywhere, which
    would pass for a result.
    """
    present = {
        "local": "local" in options.captions,
        "global": "global" in options.captions,
        "spatial": options.refinement in ("both", "spatial"),
    }
    return {name: text for name, text in OUTPUTS.items() if present.get(name.split("_")[0], True)}


def describe(
    model: VLFAU, params: Any, image: jax.Array, max_words: tuple[int, int], beams: int
) -> dict[str, jax.Array]:
    """The arrays that `outputs_of` lists, by name.

    Args:
        model: the network.
        params: its parameters.
        image: uint8 RGB [b, h, w, 3].
        max_words: the most words of a local and of the global sentence, without <start> and <end>.
        beams: width of the search for sentences; 1 is greedy.
    """
    generated = model.apply(
        {"params": params}, normalise(image), *max_words, beams, method=VLFAU.describe
    )
    names = outputs_of(model.options).keys() - {"au_probabilities"}
    outputs = {name: getattr(generated, name) for name in sorted(names)}
    return {"au_probabilities": jax.nn.sigmoid(generated.au_logits), **outputs}
