"""How the tensors of a Swin are named in transformers' files, in timm's and in Microsoft's."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

_BLOCK = r"stage(\d+)_block(\d+)"
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "relative_position_bias": "relative_position_bias_table",
}
_PARTS = ("query", "key", "value")

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Naming:
    """A project's names.

    Attributes:
        whose: in words.
        modules: our module -> theirs ({} stands for the numbers that the pattern finds).
        prefixes: what may stand before all of them.
        merges_first: whether a patch merging belongs to the stage that it begins, not to the one
            that it ends.
        fused: whether queries, keys and values are one tensor.
        ignored: patterns of tensors that are no parameters of the backbone, by what they are.
    """

    whose: str
    modules: Mapping[str, str]
    prefixes: tuple[str, ...]
    merges_first: bool = False
    fused: bool = False
    ignored: Mapping[str, str] = field(default_factory=dict)

    def name(self, ours: str) -> str:
        """Their name of one of our parameters, "stage0_block1/attention/query/kernel".

        Raises:
            ValueError: it has none.
        """
        module, _, leaf = ours.rpartition("/")
        for pattern, theirs in self.modules.items():
            if match := re.fullmatch(pattern, module):
                groups = list(match.groups())
                if module.startswith("merge") and not self.merges_first:
                    groups[0] = str(int(groups[0]) - 1)
                return f"{theirs.format(*groups)}.{_LEAVES[leaf]}"
        raise ValueError(f"{ours} has no counterpart in {self.whose}'s Swin")

    def part(self, ours: str) -> int | None:
        """Which third of their tensor it is, in order; None where it is all of it."""
        module = ours.split("/")[-2] if "/" in ours else ""
        return _PARTS.index(module) if self.fused and module in _PARTS else None

    def prefix(self, names: Collection[str]) -> str:
        """What stands before all names of a file."""
        first = next(iter(self.modules.values())) + ".weight"
        found = [name.removesuffix(first) for name in names if name.endswith(first)]
        known = [prefix for prefix in found if prefix in self.prefixes]
        return known[0] if known else ""


_BUFFERS = {"buffers that follow from the window": r".*\.(relative_position_index|attn_mask)"}

HUGGING_FACE = Naming(
    "Hugging Face",
    {
        r"embedding/project": "embeddings.patch_embeddings.projection",
        r"embedding/norm": "embeddings.norm",
        rf"{_BLOCK}/norm_attention": "encoder.layers.{}.blocks.{}.layernorm_before",
        rf"{_BLOCK}/attention/(query|key|value)": "encoder.layers.{}.blocks.{}.attention.self.{}",
        rf"{_BLOCK}/attention/output": "encoder.layers.{}.blocks.{}.attention.output.dense",
        rf"{_BLOCK}/attention": "encoder.layers.{}.blocks.{}.attention.self",
        rf"{_BLOCK}/norm_mlp": "encoder.layers.{}.blocks.{}.layernorm_after",
        rf"{_BLOCK}/mlp_in": "encoder.layers.{}.blocks.{}.intermediate.dense",
        rf"{_BLOCK}/mlp_out": "encoder.layers.{}.blocks.{}.output.dense",
        r"merge(\d+)/norm": "encoder.layers.{}.downsample.norm",
        r"merge(\d+)/reduce": "encoder.layers.{}.downsample.reduction",
        r"norm": "layernorm",
    },
    prefixes=("", "swin."),
    ignored={"the classifier": r"classifier\..*", **_BUFFERS},
)
_MICROSOFT = {
    r"embedding/project": "patch_embed.proj",
    r"embedding/norm": "patch_embed.norm",
    rf"{_BLOCK}/norm_attention": "layers.{}.blocks.{}.norm1",
    rf"{_BLOCK}/attention/(?:query|key|value)": "layers.{}.blocks.{}.attn.qkv",
    rf"{_BLOCK}/attention/output": "layers.{}.blocks.{}.attn.proj",
    rf"{_BLOCK}/attention": "layers.{}.blocks.{}.attn",
    rf"{_BLOCK}/norm_mlp": "layers.{}.blocks.{}.norm2",
    rf"{_BLOCK}/mlp_in": "layers.{}.blocks.{}.mlp.fc1",
    rf"{_BLOCK}/mlp_out": "layers.{}.blocks.{}.mlp.fc2",
    r"merge(\d+)/norm": "layers.{}.downsample.norm",
    r"merge(\d+)/reduce": "layers.{}.downsample.reduction",
    r"norm": "norm",
}
_PREFIXES = ("", "model.", "module.", "backbone.")
_HEAD = {"the classifier": r"(?:\w+\.)?head\..*", **_BUFFERS}
# timm took Microsoft's names until 0.6; since 0.8 a merging begins the next stage.
MICROSOFT = Naming("Microsoft's own code or timm", _MICROSOFT, _PREFIXES, fused=True, ignored=_HEAD)
TIMM = Naming("timm", _MICROSOFT, _PREFIXES, merges_first=True, fused=True, ignored=_HEAD)

NAMINGS = {one.whose: one for one in (HUGGING_FACE, MICROSOFT, TIMM)}

# The fields of `configuration` that it may lack -> the tensors whose shapes tell them.
TOLD_BY = {
    "embed_dim": "patch_embed.proj.weight",
    "num_heads": "layers.*.blocks.0.attn.relative_position_bias_table",
    "mlp_ratio": "layers.0.blocks.0.mlp.fc1.weight",
}


def configuration(shapes: Shapes) -> dict[str, Any]:
    """The sizes of a Swin in Microsoft's or timm's names, from the shapes of its tensors.

    Returns:
        Hugging Face's fields of config.json, as far as the shapes tell them; others are absent.
    """
    found: dict[str, Any] = {}
    if len(patch := shapes.get("patch_embed.proj.weight", ())) == 4:
        found |= {"embed_dim": patch[0], "num_channels": patch[1], "patch_size": patch[2]}
    blocks = [re.match(r"layers\.(\d+)\.blocks\.(\d+)\.", name) for name in shapes]
    places = {(int(one[1]), int(one[2])) for one in blocks if one}
    stages = range(1 + max((stage for stage, _ in places), default=-1))
    found["depths"] = tuple(sum(stage == own for stage, _ in places) for own in stages)
    tables = [
        shapes.get(f"layers.{own}.blocks.0.attn.relative_position_bias_table", ()) for own in stages
    ]
    if all(len(table) == 2 for table in tables) and tables:
        found["num_heads"] = tuple(table[1] for table in tables)
        found["window_size"] = (max(math.isqrt(table[0]) for table in tables) + 1) // 2
    if len(hidden := shapes.get("layers.0.blocks.0.mlp.fc1.weight", ())) == 2:
        found["mlp_ratio"] = hidden[0] / hidden[1]
    return found
