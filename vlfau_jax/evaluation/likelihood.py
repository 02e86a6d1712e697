"""How likely a model finds the true sentences: what perplexity is computed from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from vlfau_jax.inference.trained import Trained
from vlfau_jax.losses.joint import known_labels, token_cross_entropy
from vlfau_jax.model.vlfau import normalise
from vlfau_jax.sharding.arrays import batch_sharding, known_mesh, replicated

# A batch on the devices -> `LIKELIHOOD_ARRAYS` of the captioners that there are, float32 [b].
Likelihood = Callable[[Mapping[str, jax.Array]], dict[str, jax.Array]]

# Of the true sentences of a face: the sum of their tokens' negative log-probabilities, under
# teacher forcing, and how many tokens that are, <end> counted; 0 where a label is unknown.
LIKELIHOOD_ARRAYS = {
    kind: (f"surprise_{kind}", f"true_tokens_{kind}") for kind in ("local", "global")
}


def compile_likelihood(trained: Trained, mesh: Mesh) -> Likelihood:
    """How surprised the captioners are by the true sentences of a batch's faces."""
    params = jax.device_put(trained.params, replicated(mesh))
    split = batch_sharding(mesh)
    taught = ~np.isin(trained.aus, list(trained.untaught))

    def surprise(params: Any, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        outputs = trained.model.apply(
            {"params": params},
            normalise(batch["image"]),
            batch["local_tokens"],
            batch["global_tokens"],
        )
        counted = {"local": known_labels(batch) & taught[None], "global": batch["valid"]}
        found = {}
        for kind in trained.captions:
            logits, tokens = getattr(outputs, f"{kind}_logits"), batch[f"{kind}_tokens"]
            terms = jax.vmap(token_cross_entropy)(logits, tokens, counted[kind])
            found |= dict(zip(LIKELIHOOD_ARRAYS[kind], terms, strict=True))
        return found

    if not trained.captions:
        return lambda batch: {}
    run = jax.jit(
        known_mesh(surprise, mesh), in_shardings=(replicated(mesh), split), out_shardings=split
    )
    names = ("image", "local_tokens", "global_tokens", "au_known", "valid")
    return lambda batch: run(params, {name: batch[name] for name in names})


def likelihood_of(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those of `LIKELIHOOD_ARRAYS` that a batch has."""
    names = (name for pair in LIKELIHOOD_ARRAYS.values() for name in pair)
    return {name: arrays[name] for name in names if name in arrays}


def sums(batches: Sequence[Mapping[str, np.ndarray]]) -> dict[str, tuple[float, float]]:
    """The sums over all batches of each kind's two arrays, in float64."""
    return {
        kind: tuple(
            float(sum(batch[name].sum(dtype=np.float64) for batch in batches)) for name in names
        )
        for kind, names in LIKELIHOOD_ARRAYS.items()
        if batches and names[0] in batches[0]
    }
