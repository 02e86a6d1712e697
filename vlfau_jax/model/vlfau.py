"""VL-FAU (arXiv 2408.00644): logits, sentences and attention maps of every facial action unit."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax import Array

from vlfau_jax.data.text.vocabulary import PAD, START
from vlfau_jax.model.captioner import Captioner, Decoder
from vlfau_jax.model.decoding import Generated, search
from vlfau_jax.model.fusion import MultiScaleCombination
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.model.refinement import Refinement
from vlfau_jax.model.remat import rematerialised
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
    """What the training pass returns, by name. k = branches whose sentences were asked for.

    au_logits float32 [b, n]; local_logits float32 [b, k, t-1, v]; global_logits [b, t-1, v];
    spatial_maps (DAIR's s) float32 [b, n, h, w]; local_attention [b, k, t-1, h, w];
    global_attention [b, t-1, h, w]; stem (F) float32 [b, h, w, d]. None for captions switched off.
    """

    au_logits: Array
    spatial_maps: Array
    stem: Array
    local_logits: Array | None = None
    local_attention: Array | None = None
    global_logits: Array | None = None
    global_attention: Array | None = None


@struct.dataclass
class Description:
    """Logits, sentences and maps, from the image alone. None for captions switched off.

    au_logits float32 [b, n]; spatial_maps float32 [b, n, h, w]; local_tokens int32 [b, n, t] and
    global_tokens int32 [b, t], without <start>, padded after <end>, with t the most words a
    sentence may have, and one for <end>; local_attention float32 [b, n, t, h, w] and
    global_attention [b, t, h, w], zero after <end>; local_scores float32 [b, n] and global_scores
    [b], the mean log-probability of a sentence's words, <end> counted.
    """

    au_logits: Array
    spatial_maps: Array
    local_tokens: Array | None = None
    local_attention: Array | None = None
    local_scores: Array | None = None
    global_tokens: Array | None = None
    global_attention: Array | None = None
    global_scores: Array | None = None


class Classifier(nn.Module):
    """Global average pooling of each F_i, then that branch's own linear logit."""

    @nn.compact
    def __call__(self, refined: Array, context: Array | None = None) -> Array:
        """Maps [b, n, h, w, d] -> logits float32 [b, n]; context float32 [b, d] adds a term."""
        _, n, _, _, d = refined.shape
        init = nn.initializers.variance_scaling(
            1.0, "fan_in", "truncated_normal", in_axis=1, out_axis=()
        )
        kernel = self.param("kernel", named(init, "au", "embed"), (n, d))
        bias = self.param("bias", named(nn.initializers.zeros, "au"), (n,))
        pooled = refined.astype(jnp.float32).mean((2, 3))
        logits = jnp.einsum("bnd,nd->bn", pooled, kernel) + bias[None]
        if context is None:
            return logits
        of_context = self.param("context_kernel", named(init, "au", "embed"), (n, d))
        return logits + jnp.einsum("bd,nd->bn", context, of_context)


class VLFAU(nn.Module):
    """The whole network, for `au_count` units and a vocabulary of `vocabulary_size` tokens.

    `max_own_words` is the most words, without <end>, of the sentence that the global decoder
    generates for `options.global_context`. It is fixed, so that the AU logits depend neither on the
    length of a batch's captions nor on how long a sentence `describe` may write; the longest global
    sentence of BP4D's and DISFA's fifteen units has 51, and a longer own one is cut.
    """

    options: ModelOptions
    au_count: int
    vocabulary_size: int
    max_own_words: int = 63

    def setup(self) -> None:
        """Builds the parts; names are the parameter tree's."""
        o = self.options
        dtype = jnp.dtype(o.dtype)
        self.backbone = Swin(
            width=o.backbone_width,
            depths=o.depths,
            heads=o.heads,
            window=o.window,
            patch=o.patch,
            stem=o.stem,
            mlp_ratio=o.mlp_ratio,
            drop_path_rate=o.drop_path,
            scan_blocks=o.scan_blocks,
            remat=o.remat,
            window_attention=o.window_attention,
            dtype=dtype,
        )
        self.fusion = MultiScaleCombination(
            width=o.width, grid=o.grid, taps=o.taps, pooling=o.pooling, dtype=dtype
        )
        self.refinement = rematerialised(Refinement, o.remat)(
            branches=self.au_count,
            reduction=o.reduction,
            attention=o.refinement,
            channel_mlp=o.channel_mlp,
            spatial_sigmoid=o.spatial_sigmoid,
            dtype=dtype,
        )
        self.classifier = Classifier()
        if o.local_captions:
            self.local_captioner = self._captioner(
                decoders=self.au_count if o.local_captioner == "per_au" else 0,
                au_embeddings=self.au_count if o.au_embedding else 0,
                told=o.told_scores,
            )
        if o.global_captions:
            self.global_captioner = self._captioner()

    def _captioner(self, **units: int | bool) -> Captioner:
        o = self.options
        return Captioner(
            vocabulary_size=self.vocabulary_size,
            feature_width=o.width,
            embedding=o.word_embedding,
            hidden=o.hidden,
            attention=o.attention,
            dropout=o.dropout,
            dtype=jnp.dtype(o.dtype),
            **units,
        )

    def _encode(
        self, image: Array, train: bool, rows: Array | None = None
    ) -> tuple[Array, Array, Array, Array]:
        """Image -> stem F, refined F_i, spatial maps s, AU logits; captions are no input here."""
        stem = self.fusion(self.backbone(image, train, rows))
        refined, maps = self.refinement(stem)
        context = self._own_context(stem) if self.options.global_context else None
        return stem, refined, maps, self.classifier(refined, context)

    def _own_context(self, stem: Array) -> Array:
        """The global decoder's mean context over the words of its own greedy sentence.

        The true sentence names the active units: its contexts would leak the labels. The choice of
        words has no gradient; the attention over those words has one.

        Args:
            stem: F, float32 [b, h, w, d].

        Returns:
            mean_t z_t, float32 [b, d], <end> counted as a word, without dropout.
        """
        decoder = self.global_captioner.bind(_maps(stem[:, None]))
        (own,) = _generate([jax.lax.stop_gradient(decoder)], [self.max_own_words])
        start = jnp.full_like(own.tokens[..., :1], START)
        _, attention = decoder.unroll(jnp.concatenate([start, own.tokens[..., :-1]], -1))
        generated = (own.tokens != PAD)[..., None]
        # z_t = attention_t . F is linear, so the mean context is that of the mean attention.
        attention = jnp.where(generated, attention, 0.0).sum(2) / generated.sum(2)
        return jnp.einsum("bp,bpd->bd", attention[:, 0], _maps(stem))

    def __call__(
        self,
        image: Array,
        local_tokens: Array,
        global_tokens: Array,
        train: bool = False,
        branches: Array | None = None,
        rows: Array | None = None,
        told: Array | None = None,
    ) -> Outputs:
        """The training pass: AU logits from the image, captions under teacher forcing.

        Args:
            image: normalised float32 [b, h, w, 3].
            local_tokens: int32 [b, n, t].
            global_tokens: int32 [b, t'].
            train: whether dropout and drop path act (streams "dropout" and "drop_path").
            branches: int32 [k], the AU branches whose sentences get logits; None for all.
            rows: int32 [b], the examples' places in the whole batch, to which their random draws
                belong; None counts them from 0.
            told: float32 [b, n], what each local sentence hears of its unit where
                `options.told_scores`: 1 active, -1 inactive, 0 nothing; None for what is scored.
        """
        stem, refined, maps, au_logits = self._encode(image, train, rows)
        outputs = Outputs(au_logits=au_logits, spatial_maps=maps, stem=stem)
        h, w = stem.shape[1:3]
        if self.options.local_captions:
            told = _scored_active(au_logits) if told is None else told
            if branches is not None:
                refined, local_tokens, told = (
                    jnp.take(x, branches, axis=1) for x in (refined, local_tokens, told)
                )
            logits, attention = self.local_captioner.teacher_force(
                _maps(refined), local_tokens, train, branches, rows, told
            )
            attention = attention.reshape(*attention.shape[:-1], h, w)
            outputs = outputs.replace(local_logits=logits, local_attention=attention)
        if self.options.global_captions:
            logits, attention = self.global_captioner.teacher_force(
                _maps(stem[:, None]), global_tokens[:, None], train, rows=rows
            )
            attention = attention[:, 0].reshape(len(image), -1, h, w)
            outputs = outputs.replace(global_logits=logits[:, 0], global_attention=attention)
        return outputs

    def score(self, image: Array, train: bool = False, rows: Array | None = None) -> Array:
        """AU logits float32 [b, n] of normalised images [b, h, w, 3], without sentences.

        They are those of `__call__`, which also documents `train` and `rows`.
        """
        return self._encode(image, train, rows)[3]

    def describe(
        self, image: Array, max_local_words: int, max_global_words: int, beams: int = 1
    ) -> Description:
        """AU logits, sentences and maps of normalised images [b, h, w, 3].

        The sentences have at most so many words, without <end>. `beams` is the width of the search;
        1 is greedy.
        """
        stem, refined, maps, au_logits = self._encode(image, train=False)
        b, n, h, w, _ = refined.shape
        decoders, max_words = {}, []
        if self.options.local_captions:
            told = _scored_active(au_logits)
            decoders["local"] = self.local_captioner.bind(_maps(refined), scores=told)
            max_words.append(max_local_words)
        if self.options.global_captions:
            decoders["global"] = self.global_captioner.bind(_maps(stem[:, None]))
            max_words.append(max_global_words)
        generated = dict(
            zip(decoders, _generate([*decoders.values()], max_words, beams), strict=True)
        )
        fields: dict[str, Array] = {}
        for name, rows in (("local", (b, n)), ("global", (b,))):
            if name in generated:
                best: Generated = generated[name]
                fields |= {
                    f"{name}_tokens": best.tokens.reshape(*rows, -1),
                    f"{name}_attention": best.attention.reshape(*rows, -1, h, w),
                    f"{name}_scores": best.scores.reshape(rows),
                }
        return Description(au_logits=au_logits, spatial_maps=maps, **fields)


def _generate(
    decoders: Sequence[Decoder], max_words: Sequence[int], beams: int = 1
) -> list[Generated]:
    """Sentences of at most `max_words` words a decoder, which one more step ends with <end>."""
    return search(decoders, [words + 1 for words in max_words], beams)


def _scored_active(au_logits: Array) -> Array:
    """What a sentence hears of its unit: 1 where it is scored active (p >= 0.5), else -1."""
    return jnp.where(au_logits >= 0, 1.0, -1.0)


def _maps(features: Array) -> Array:
    """Flattens positions for the captioners: [..., h, w, d] -> [..., p, d]."""
    *rows, h, w, d = features.shape
    return features.reshape(*rows, h * w, d)
