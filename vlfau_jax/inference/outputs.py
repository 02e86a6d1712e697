"""The arrays that a trained network gives for a batch of faces, live or exported."""

from __future__ import annotations

from vlfau_jax.model.options import ModelOptions

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
