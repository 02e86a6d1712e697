"""The options of the network: one field for every size and switch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from vlfau_jax.errors import UserError
from vlfau_jax.options import FilePath, Options

# Swin's four sizes (arXiv 2103.14030, section 3.3) with the drop path of ME-GraphAU's recipe, which
# has none for Swin-L: there it is Swin-B's.
SIZES: Mapping[str, Mapping[str, Any]] = {
    name: {"backbone_width": width, "depths": depths, "heads": heads, "drop_path": drop_path}
    for name, width, depths, heads, drop_path in (
        ("swin_t", 96, (2, 2, 6, 2), (3, 6, 12, 24), 0.2),
        ("swin_s", 96, (2, 2, 18, 2), (3, 6, 12, 24), 0.3),
        ("swin_b", 128, (2, 2, 18, 2), (4, 8, 16, 32), 0.5),
        ("swin_l", 192, (2, 2, 18, 2), (6, 12, 24, 48), 0.5),
    )
}

_Width = Annotated[int, Field(ge=1, le=8192)]
_DropRate = Annotated[float, Field(ge=0, le=0.99)]
_Depth = Annotated[int, Field(ge=0, le=64)]  # Swin V2's largest has 42 blocks in a stage
_Heads = Annotated[int, Field(ge=1, le=4096)]
_FOUR = Field(min_length=4, max_length=4)


def scanned(depth: int) -> bool:
    """Whether `scan_blocks` stacks a stage of this depth: where two pairs or more share a body."""
    return depth >= 4 and depth % 2 == 0


@dataclass(frozen=True)
class ModelOptions(Options):
    """Sizes of the network; the defaults are Swin-B and the paper's widths.

    Attributes:
        backbone_width: channels of stage 1; each later stage doubles them.
        depths: blocks of each stage.
        heads: attention heads of each stage.
        window: cells along a window's side; a later stage's map that is smaller is one window, as
            in the reference (training refuses a window larger than the first).
        patch: pixels along a patch's side.
        stem: how patches become tokens, "patch" (Swin) or "conv" (learns sooner from scratch).
        scan_blocks: whether equal pairs of blocks are one `nn.scan`, which compiles sooner; their
            parameters are then stacked (`layouts.stack_blocks`). With the kernel of
            `window_attention` all blocks of a stage share one body.
        window_attention: how a window's attention is computed: "plain" by products of arrays;
            "auto" by one kernel (`model.window_kernel`) on TPUs, elsewhere plainly; "fused" as
            "auto", and the log says where that is not possible.
        mlp_ratio: hidden width of a block over its width.
        drop_path: drop rate of the last residual branch; the first has 0, linear between.
        width: D, channels of the stem feature map.
        grid: H = W of the stem feature map; 0 for the last stage's own.
        reduction: D over the hidden width of channel attention.
        taps: which of the backbone's four taps MSC fuses, 1 to 4.
        pooling: how MSC pools the finer taps to the stem grid, "average" or "max".
        refinement: which attentions DAIR has, "both", "channel", "spatial" or "none".
        channel_mlp: whether the max- and the average-pooled features pass one MLP ("shared") or
            each its own ("separate").
        spatial_sigmoid: whether DAIR's spatial maps pass a sigmoid.
        local_captions: whether every action unit gets a sentence.
        global_captions: whether the whole face gets one.
        local_captioner: one decoder for all action units ("shared") or one for each ("per_au").
        au_embedding: whether a shared decoder gets a learned vector for the action unit that its
            sentence describes, added to every word's embedding.
        told_scores: whether a local sentence is told whether its unit is scored active, so that it
            says what the score says: a learned vector is added to every word's embedding, or
            subtracted where p < 0.5. In training, half of the sentences are told their label
            instead, the others nothing: those must be seen in the picture.
        global_context: whether AU logits also use the global decoder's mean context over its own
            generated sentence (never the true one: that would leak the labels).
        word_embedding: width of a word's embedding.
        hidden: width of the LSTM's state.
        attention: width of the soft attention's scores.
        dropout: rate before the vocabulary layer.
        remat: what the backward pass recomputes instead of keeping it, in backbone blocks and
            refinement (`model.remat`): "none"; "dots", all but products with weights that action
            units share; "full", all but their inputs. The captioners always keep states, gates and
            attention weights alone (`model.recurrence`).
        dtype: compute dtype; parameters, norms, softmax and logits are float32 always.
        backbone_weights: file of `import_backbone` with the backbone's initial parameters for
            training; empty for random ones.
    """

    group: ClassVar[str] = "model"

    backbone_width: Annotated[int, Field(ge=1, le=4096)] = 128
    depths: Annotated[tuple[_Depth, ...], _FOUR] = (2, 2, 18, 2)
    heads: Annotated[tuple[_Heads, ...], _FOUR] = (4, 8, 16, 32)
    window: Annotated[int, Field(ge=1, le=64)] = 7
    patch: Annotated[int, Field(ge=2, le=64)] = 4
    stem: Literal["patch", "conv"] = "patch"
    scan_blocks: bool = False
    window_attention: Literal["auto", "plain", "fused"] = "auto"
    mlp_ratio: Annotated[float, Field(ge=0.1, le=16)] = 4.0
    drop_path: _DropRate = 0.5
    width: _Width = 512
    grid: Annotated[int, Field(ge=0, le=256)] = 0
    reduction: _Width = 16
    taps: Annotated[
        tuple[Annotated[int, Field(ge=1, le=4)], ...], Field(min_length=1, max_length=4)
    ] = (1, 2, 3, 4)
    pooling: Literal["average", "max"] = "average"
    refinement: Literal["both", "channel", "spatial", "none"] = "both"
    channel_mlp: Literal["shared", "separate"] = "shared"
    spatial_sigmoid: bool = True
    local_captions: bool = True
    global_captions: bool = True
    local_captioner: Literal["shared", "per_au"] = "shared"
    au_embedding: bool = False
    told_scores: bool = False
    global_context: bool = False
    word_embedding: _Width = 512
    hidden: _Width = 512
    attention: _Width = 512
    dropout: _DropRate = 0.5
    remat: Literal["none", "dots", "full"] = "none"
    dtype: Literal["float32", "bfloat16"] = "float32"
    backbone_weights: FilePath = ""

    def __post_init__(self) -> None:
        """Refuses an impossible model, naming field and value."""
        super().__post_init__()
        if self.patch & (self.patch - 1):
            raise UserError(f"model.patch={self.patch}: give a power of two")
        if self.stem == "conv" and self.backbone_width < self.patch // 2:
            raise UserError(
                f"model.backbone_width={self.backbone_width}: its halves leave the convolutions of "
                f"model.stem='conv' no channel at model.patch={self.patch}; give {self.patch // 2} "
                "or more"
            )
        if sorted({*self.taps}) != list(self.taps):
            raise UserError(f"model.taps={self.taps}: give some of 1, 2, 3, 4, ascending")
        if int(self.backbone_width * self.mlp_ratio) < 1:
            raise UserError(
                f"model.mlp_ratio={self.mlp_ratio}: leaves a block's MLP no hidden unit at "
                f"model.backbone_width={self.backbone_width}; give 1 / model.backbone_width or more"
            )
        self._check_switches()
        for stage, heads in enumerate(self.heads):
            width = self.backbone_width << stage
            if width % heads:
                raise UserError(
                    f"model.heads={self.heads}: {heads} does not divide the width {width} of stage "
                    f"{stage + 1} (model.backbone_width={self.backbone_width} * 2**{stage})"
                )

    @property
    def captions(self) -> tuple[str, ...]:
        """Which captions the network has: "local", "global", both or neither."""
        there = {"local": self.local_captions, "global": self.global_captions}
        return tuple(name for name, given in there.items() if given)

    def _check_switches(self) -> None:
        """Refuses switches that would have no effect."""
        if self.scan_blocks and not any(map(scanned, self.depths)):
            raise UserError(
                f"model.scan_blocks=True: no stage of model.depths={self.depths} has an even "
                "number of blocks, four or more; give False"
            )
        if self.pooling == "max" and not self.grid and {*self.taps} <= {3, 4}:
            raise UserError(
                f"model.pooling=max: model.taps={self.taps} have the stem grid already "
                "(model.grid=0), nothing is pooled; give average"
            )
        if self.channel_mlp == "separate" and self.refinement in ("spatial", "none"):
            raise UserError(
                f"model.channel_mlp=separate: model.refinement={self.refinement} has no channel "
                "attention; give shared"
            )
        if not self.spatial_sigmoid and self.refinement in ("channel", "none"):
            raise UserError(
                f"model.spatial_sigmoid=False: model.refinement={self.refinement} has no spatial "
                "attention; give True"
            )
        if self.global_context and not self.global_captions:
            raise UserError("model.global_context=True: model.global_captions=False has no decoder")
        for name, given in (
            ("local_captioner", "per_au"),
            ("au_embedding", True),
            ("told_scores", True),
        ):
            if getattr(self, name) == given and not self.local_captions:
                raise UserError(f"model.{name}={given}: model.local_captions=False has no decoder")
        if self.au_embedding and self.local_captioner == "per_au":
            raise UserError(
                "model.au_embedding=True: only a shared decoder needs to know its unit; "
                "give model.local_captioner=shared"
            )
