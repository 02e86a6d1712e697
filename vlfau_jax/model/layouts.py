"""How the parameters of Swin's blocks are kept: looped or scanned, and the way between.

Looped: `stage2_block5/mlp_in/kernel`. Scanned, in every stage that `scanned` names:
`stage2_pairs/first/mlp_in/kernel` holds blocks 0, 2, 4, ... and `stage2_pairs/second/...` blocks
1, 3, 5, ... of the stage along a new axis 0; what follows is named alike. Weight files
(`import_backbone`, warm starts, exports) are always looped, a run's checkpoints as it is.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlfau_jax.model.options import scanned


def stack_blocks(backbone: Mapping[str, Any]) -> dict[str, Any]:
    """Converts parameters of a looped Swin, unboxed, to those of a scanned one.

    NumPy stays NumPy, and what is stacked already stays as it is.
    """
    stages, stacked = defaultdict(dict), {}
    for name, value in backbone.items():
        if match := re.fullmatch(r"(stage\d+)_block(\d+)", name):
            stages[match[1]][int(match[2])] = value
        else:
            stacked[name] = value
    for stage, numbered in stages.items():
        blocks = [numbered[i] for i in range(len(numbered))]
        if scanned(len(blocks)):
            pairs = {"first": blocks[0::2], "second": blocks[1::2]}
            stacked[f"{stage}_pairs"] = {
                place: jax.tree.map(_stack, *equal) for place, equal in pairs.items()
            }
        else:
            stacked |= {f"{stage}_block{i}": block for i, block in enumerate(blocks)}
    return stacked


def unstack_blocks(backbone: Mapping[str, Any]) -> dict[str, Any]:
    """Undoes `stack_blocks`; what is looped already stays as it is."""
    looped = {}
    for name, value in backbone.items():
        stage, pairs, _ = name.partition("_pairs")
        if not pairs:
            looped[name] = value
            continue
        for place, stacked in enumerate((value["first"], value["second"])):
            for pair in range(len(jax.tree.leaves(stacked)[0])):
                block = jax.tree.map(lambda leaf, pair=pair: leaf[pair], stacked)
                looped[f"{stage}_block{2 * pair + place}"] = block
    return looped


def looped_shapes(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of the network, or parts of it, the backbone's as shapes in the looped layout."""
    shapes = dict(params)
    if "backbone" in params:
        shapes["backbone"] = jax.eval_shape(unstack_blocks, params["backbone"])
    return shapes


def laid_out_like(looped: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters laid out as `looped_shapes`, their backbone stacked where that of `like` is."""
    if "backbone" in like and looped["backbone"].keys() != like["backbone"].keys():
        return {**looped, "backbone": stack_blocks(looped["backbone"])}
    return dict(looped)


def _stack(*leaves: Any) -> Any:
    return (np if isinstance(leaves[0], np.ndarray) else jnp).stack(leaves)
