"""VL-FAU (arXiv 2408.00644): scores, sentences and maps of every facial action unit."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax import Array

from vlfau_jax.model.captioner import Captioner, Spoken
from vlfau_jax.model.fusion import MultiScaleCombination
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.model.refinement import Refinement
from vlfau_jax.model.swin import Swin, named

# Mean and standard deviation of ImageNet's RGB values (0-1), which pre-trained Swins expect.
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


def normalise(image: Array) -> Array:
    """RGB uint8 [b, h, w, 3] -> float32 of zero mean and unit deviation, per channel."""
    mean, std = jnp.asarray(IMAGE_MEAN), jnp.asarray(IMAGE_STD)
    return (image.astype(jnp.float32) / 255.0 - mean[None, None, None]) / std[None, None, None]


@struct.dataclass
class Outputs:
    """What one pass computes, by name. k = branches whose sentences were asked for.

    au_logits float32 [b, n]; local_logits float32 [b, k, t-1, v]; global_logits [b, t-1, v];
    spatial_maps (DAIR's s) float32 [b, n, h, w]; local_attention [b, k, t-1, h, w];
    global_attention [b, t-1, h, w]; stem (F) float32 [b, h, w, d].
    """

    au_logits: Array
    spatial_maps: Array
    stem: Array
    local_logits: Array
    local_attention: Array
    global_logits: Array
    global_attention: Array


@struct.dataclass
class Description:
    """Scores, sentences and maps, from the image alone.

    au_logits float32 [b, n]; spatial_maps float32 [b, n, h, w]; local_tokens int32 [b, n, t] and
    global_tokens int32 [b, t], without <start>, padded after <end>; local_attention
    float32 [b, n, t, h, w] and global_attention [b, t, h, w], zero after <end>.
    """

    au_logits: Array
    spatial_maps: Array
    local_tokens: Array
    local_attention: Array
    global_tokens: Array
    global_attention: Array


class Classifier(nn.Module):
    """Global average pooling of each F_i, then that branch's own linear logit."""

    @nn.compact
    def __call__(self, refined: Array) -> Array:
        """[b, n, h, w, d] -> logits float32 [b, n]."""
        _, n, _, _, d = refined.shape
        init = nn.initializers.variance_scaling(
            1.0, "fan_in", "truncated_normal", in_axis=1, out_axis=()
        )
        kernel = self.param("kernel", named(init, "au", "embed"), (n, d))
        bias = self.param("bias", named(nn.initializers.zeros, "au"), (n,))
        pooled = refined.astype(jnp.float32).mean((2, 3))
        return jnp.einsum("bnd,nd->bn", pooled, kernel) + bias[None]


class VLFAU(nn.Module):
    """The whole network, for `au_count` units and a vocabulary of `vocabulary_size` words."""

    options: ModelOptions
    au_count: int
    vocabulary_size: int

    def setup(self) -> None:
        """Builds the parts; names are the parameter tree's."""
        o = self.options
        dtype = jnp.dtype(o.dtype)
        self.backbone = Swin(
            o.backbone_width,
            o.depths,
            o.heads,
            o.window,
            o.patch,
            o.stem,
            o.mlp_ratio,
            o.drop_path,
            dtype,
            scan_blocks=o.scan_blocks,
        )
        self.fusion = MultiScaleCombination(o.width, o.grid, dtype)
        self.refinement = Refinement(self.au_count, o.reduction, o.spatial_sigmoid, dtype)
        self.classifier = Classifier()
        self.local_captioner, self.global_captioner = (
            Captioner(
                self.vocabulary_size,
                o.width,
                o.word_embedding,
                o.hidden,
                o.attention,
                o.dropout,
                dtype,
            )
            for _ in range(2)
        )

    def _look(self, image: Array, train: bool) -> tuple[Array, Array, Array, Array]:
        """Image -> stem F, refined F_i, spatial maps s, AU logits; no words are seen here."""
        stem = self.fusion(self.backbone(image, train))
        refined, maps = self.refinement(stem)
        return stem, refined, maps, self.classifier(refined)

    def __call__(
        self,
        image: Array,
        local_tokens: Array,
        global_tokens: Array,
        train: bool = False,
        branches: Array | None = None,
    ) -> Outputs:
        """The training pass: AU logits from the image, sentences under teacher forcing.

        Args:
            image: normalised float32 [b, h, w, 3].
            local_tokens: int32 [b, n, t].
            global_tokens: int32 [b, t'].
            train: whether dropout and drop path act (streams "dropout" and "drop_path").
            branches: int32 [k], the AU branches whose sentences are scored; None for all.
        """
        stem, refined, maps, au_logits = self._look(image, train)
        if branches is not None:
            refined = jnp.take(refined, branches, axis=1)
            local_tokens = jnp.take(local_tokens, branches, axis=1)
        b, k, h, w, d = refined.shape
        local_logits, local_attention = self.local_captioner.teacher_force(
            refined.reshape(b * k, h * w, d), local_tokens.reshape(b * k, -1), train
        )
        global_logits, global_attention = self.global_captioner.teacher_force(
            stem.reshape(b, h * w, d), global_tokens, train
        )
        return Outputs(
            au_logits=au_logits,
            spatial_maps=maps,
            stem=stem,
            local_logits=local_logits.reshape(b, k, *local_logits.shape[1:]),
            local_attention=local_attention.reshape(b, k, -1, h, w),
            global_logits=global_logits,
            global_attention=global_attention.reshape(b, -1, h, w),
        )

    def score(self, image: Array) -> Array:
        """AU logits float32 [b, n] of normalised images [b, h, w, 3]; nothing is said."""
        return self._look(image, train=False)[3]

    def describe(self, image: Array, local_length: int, global_length: int) -> Description:
        """Scores and greedy sentences of normalised images [b, h, w, 3].

        The lengths are the most words a sentence may take, <end> included.
        """
        stem, refined, maps, au_logits = self._look(image, train=False)
        b, n, h, w, d = refined.shape
        local = self.local_captioner.greedy(refined.reshape(b * n, h * w, d), local_length)
        whole: Spoken = self.global_captioner.greedy(stem.reshape(b, h * w, d), global_length)
        return Description(
            au_logits=au_logits,
            spatial_maps=maps,
            local_tokens=local.tokens.reshape(b, n, -1),
            local_attention=local.attention.reshape(b, n, -1, h, w),
            global_tokens=whole.tokens,
            global_attention=whole.attention.reshape(b, -1, h, w),
        )
