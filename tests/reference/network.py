"""VL-FAU in plain PyTorch, written from the paper's description to hold the JAX network against.

It shares no code and no layout with `vlfau_jax.model`: channels first, one module for each action
unit, an LSTM cell stepped in a loop, contexts summed word by word. The backbone is transformers'
own Swin. `options` has the fields of `ModelOptions`; stem "patch" and grid 0 are what is here.
Dropout and drop path are left out: parity is of the network at evaluation.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from transformers import SwinConfig, SwinModel

PAD, START, END, UNK = range(4)


class Backbone(nn.Module):
    """Swin and the four maps that the paper taps."""

    def __init__(self, options):
        super().__init__()
        config = SwinConfig(
            patch_size=options.patch,
            embed_dim=options.backbone_width,
            depths=list(options.depths),
            num_heads=list(options.heads),
            window_size=options.window,
            mlp_ratio=options.mlp_ratio,
        )
        self.swin = SwinModel(config, add_pooling_layer=False)
        self.channels = [options.backbone_width * k for k in (2, 4, 8, 8)]

    def forward(self, image):
        """[b, 3, h, w] -> three patch mergings and the last stage, normalised."""
        answer = self.swin(image, output_hidden_states=True)
        _, *merged, last = answer.reshaped_hidden_states
        final = answer.last_hidden_state.transpose(1, 2).reshape(last.shape)
        return [*merged, final]


class MultiScaleCombination(nn.Module):
    def __init__(self, channels, taps, width, pooling):
        super().__init__()
        self.taps = taps
        self.pool = {"average": F.adaptive_avg_pool2d, "max": F.adaptive_max_pool2d}[pooling]
        self.convs = nn.ModuleList(nn.Conv2d(channels[t - 1], width, 3, padding=1) for t in taps)
        self.linear = nn.Linear(len(taps) * width, width)

    def forward(self, maps):
        grid = maps[-1].shape[-2:]
        scales = [
            conv(self.pool(maps[t - 1], grid))
            for t, conv in zip(self.taps, self.convs, strict=True)
        ]
        fused = torch.cat(scales, dim=1)
        return self.linear(fused.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChannelMLP(nn.Sequential):
    def __init__(self, width, reduction):
        hidden = max(1, width // reduction)
        super().__init__(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))


class DAIR(nn.Module):
    """The refinement of one action unit."""

    def __init__(self, width, options):
        super().__init__()
        kind = options.refinement
        self.has_channel, self.has_spatial = (
            kind in ("both", "channel"),
            kind in ("both", "spatial"),
        )
        self.sigmoid = options.spatial_sigmoid
        if self.has_channel:
            self.max_mlp = ChannelMLP(width, options.reduction)
            if options.channel_mlp == "separate":
                self.average_mlp = ChannelMLP(width, options.reduction)
        self.separate = options.channel_mlp == "separate"
        if self.has_spatial:
            self.conv = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, stem):
        """F [b, d, h, w] -> F_i [b, d, h, w], s [b, h, w]."""
        x = stem
        if self.has_channel:
            average_mlp = self.average_mlp if self.separate else self.max_mlp
            highest, mean = stem.amax((2, 3)), stem.mean((2, 3))
            a = torch.sigmoid(self.max_mlp(highest) + average_mlp(mean))
            x = x * a[:, :, None, None]
        if not self.has_spatial:
            return x, torch.ones_like(x[:, 0])
        s = self.conv(torch.stack([x.amax(1), x.mean(1)], dim=1))
        if self.sigmoid:
            s = torch.sigmoid(s)
        return x * s, s[:, 0]


class Sentence(NamedTuple):
    """Greedy sentence: tokens [b, t], padded after <end>; attention [b, t, h, w], zero after <end>;
    mean log-probability of the words [b]; margin of the closest choice."""

    tokens: torch.Tensor
    attention: torch.Tensor
    score: torch.Tensor
    margin: float


class Captioner(nn.Module):
    """A word-level LSTM with soft attention over the positions of one feature map."""

    def __init__(self, vocabulary_size, width, options, units=0, told=False):
        super().__init__()
        hidden, attention = options.hidden, options.attention
        self.words = nn.Embedding(vocabulary_size, options.word_embedding)
        if units:
            self.units = nn.Embedding(units, options.word_embedding)
        if told:
            self.told = nn.Parameter(torch.empty(options.word_embedding))
        self.score_hidden = nn.Linear(hidden, attention, bias=False)
        self.score_feature = nn.Linear(width, attention)
        self.score = nn.Linear(attention, 1, bias=False)
        self.first_hidden = nn.Linear(width, hidden)
        self.first_cell = nn.Linear(width, hidden)
        self.lstm = nn.LSTMCell(options.word_embedding + width, hidden)
        del self.lstm.bias_hh  # PyTorch's second bias, of which the network has one
        self.lstm.register_buffer("bias_hh", torch.zeros(4 * hidden), persistent=False)
        self.vocabulary = nn.Linear(hidden, vocabulary_size)

    def begin(self, features):
        mean = features.mean(1)
        return self.first_hidden(mean), self.first_cell(mean)

    def added(self, unit=None, logit=None):
        """What is added to every word of a sentence about a unit with logits [b]."""
        added = 0 if unit is None else self.units.weight[unit]
        if logit is None:
            return added
        return added + torch.where(logit < 0, -1.0, 1.0)[:, None] * self.told

    def step(self, features, state, word, added=0):
        """[b, p, d], words [b] -> state, logits [b, v], attention [b, p], context [b, d]."""
        hidden, _ = state
        query = self.score_hidden(hidden)[:, None, :]
        e = self.score(torch.relu(query + self.score_feature(features)))[:, :, 0]
        alpha = torch.softmax(e, dim=1)
        context = (alpha[:, :, None] * features).sum(1)
        word = self.words(word) + added
        state = self.lstm(torch.cat([word, context], dim=1), state)
        return state, self.vocabulary(state[0]), alpha, context

    def teacher_force(self, feature_map, tokens, added=0):
        """Logits [b, t-1, v], attention [b, t-1, h, w], contexts [b, t-1, d] of tokens [b, t]."""
        b, _, h, w = feature_map.shape
        features = feature_map.flatten(2).transpose(1, 2)
        state = self.begin(features)
        steps = []
        for t in range(tokens.shape[1] - 1):
            state, *seen = self.step(features, state, tokens[:, t], added)
            steps.append(seen)
        logits, alpha, contexts = (torch.stack(x, dim=1) for x in zip(*steps, strict=True))
        return logits, alpha.reshape(b, -1, h, w), contexts

    @torch.no_grad()
    def greedy(self, feature_map, max_words, added=0):
        """The likeliest word each time, at last <end>, for feature maps [b, d, h, w]."""
        steps = max_words + 1
        b, _, h, w = feature_map.shape
        features = feature_map.flatten(2).transpose(1, 2)
        state = self.begin(features)
        word = torch.full((b,), START)
        ended = torch.zeros(b, dtype=torch.bool)
        tokens = torch.full((b, steps), PAD)
        attention = torch.zeros(b, steps, h, w)
        total = torch.zeros(b)
        margin = float("inf")
        for t in range(steps):
            if ended.all():
                break
            state, logits, alpha, _ = self.step(features, state, word, added)
            log_p = torch.log_softmax(logits, dim=1)
            log_p[:, [PAD, START, UNK]] = -torch.inf
            best, words = log_p.topk(2, dim=1)
            word = words[:, 0].masked_fill(ended, PAD)
            tokens[:, t] = word
            attention[~ended, t] = alpha.reshape(b, h, w)[~ended]
            total[~ended] += best[~ended, 0]
            margin = min(margin, (best[:, 0] - best[:, 1])[~ended].min().item())
            ended = ended | (word == END)
        return Sentence(tokens, attention, total / (tokens != PAD).sum(1), margin)


@dataclass
class Outputs:
    """Of one pass; stem [b, d, h, w], everything else as `vlfau_jax.model.vlfau.Outputs`."""

    au_logits: torch.Tensor
    spatial_maps: torch.Tensor
    stem: torch.Tensor
    local_logits: torch.Tensor | None = None
    local_attention: torch.Tensor | None = None
    global_logits: torch.Tensor | None = None
    global_attention: torch.Tensor | None = None


class VLFAU(nn.Module):
    def __init__(self, options, au_count, vocabulary_size, max_own_words=63):
        super().__init__()
        if options.stem != "patch" or options.grid:
            raise NotImplementedError("the reference has stem 'patch' and grid 0 only")
        self.options, self.au_count, self.max_own_words = options, au_count, max_own_words
        self.backbone = Backbone(options)
        self.msc = MultiScaleCombination(
            self.backbone.channels, options.taps, options.width, options.pooling
        )
        units = range(au_count)
        self.dair = nn.ModuleList(DAIR(options.width, options) for _ in units)
        self.heads = nn.ModuleList(nn.Linear(options.width, 1) for _ in units)
        if options.global_context:
            self.context_heads = nn.ModuleList(
                nn.Linear(options.width, 1, bias=False) for _ in units
            )
        if options.local_captions:
            embedded = au_count if options.au_embedding else 0
            self.local = nn.ModuleList(
                Captioner(vocabulary_size, options.width, options, embedded, options.told_scores)
                for _ in (units if options.local_captioner == "per_au" else range(1))
            )
        if options.global_captions:
            self.whole = Captioner(vocabulary_size, options.width, options)

    def encode(self, image):
        """The stem, each unit's own features and spatial attention, and its logit."""
        stem = self.msc(self.backbone(image))
        refined, maps = zip(*(dair(stem) for dair in self.dair), strict=True)
        pooled = [x.mean((2, 3)) for x in refined]
        logits = [head(x) for head, x in zip(self.heads, pooled, strict=True)]
        if self.options.global_context:
            context = self.own_context(stem)
            logits = [x + head(context) for x, head in zip(logits, self.context_heads, strict=True)]
        return stem, refined, torch.stack(maps, dim=1), torch.cat(logits, dim=1)

    def own_context(self, stem):
        """Mean context over the words of the global decoder's own sentence, [b, d]."""
        own = self.whole.greedy(stem, self.max_own_words).tokens
        inputs = torch.cat([torch.full_like(own[:, :1], START), own], dim=1)
        _, _, contexts = self.whole.teacher_force(stem, inputs)
        means = []
        for sentence, seen in zip(own, contexts, strict=True):
            words = int((sentence != PAD).sum())
            means.append(seen[:words].mean(0))
        return torch.stack(means)

    def decoder(self, unit, au_logits):
        """The decoder of an action unit, and what is added to its words."""
        o = self.options
        captioner = self.local[unit if o.local_captioner == "per_au" else 0]
        logit = au_logits[:, unit].detach() if o.told_scores else None
        return captioner, captioner.added(unit if o.au_embedding else None, logit)

    def forward(self, image, local_tokens, global_tokens):
        """Image [b, 3, h, w] and true sentences [b, n, t], [b, t'] under teacher forcing."""
        stem, refined, maps, au_logits = self.encode(image)
        outputs = Outputs(au_logits, maps, stem)
        if self.options.local_captions:
            logits, attention = [], []
            for unit, x in enumerate(refined):
                captioner, added = self.decoder(unit, au_logits)
                a, b, _ = captioner.teacher_force(x, local_tokens[:, unit], added)
                logits.append(a)
                attention.append(b)
            outputs.local_logits = torch.stack(logits, dim=1)
            outputs.local_attention = torch.stack(attention, dim=1)
        if self.options.global_captions:
            logits, attention, _ = self.whole.teacher_force(stem, global_tokens)
            outputs.global_logits, outputs.global_attention = logits, attention
        return outputs

    @torch.no_grad()
    def describe(self, image, max_local_words, max_global_words):
        """Greedy sentences: of each unit in turn, and of the face; None where switched off."""
        stem, refined, _, au_logits = self.encode(image)
        local = whole = None
        if self.options.local_captions:
            local = []
            for unit, x in enumerate(refined):
                captioner, added = self.decoder(unit, au_logits)
                local.append(captioner.greedy(x, max_local_words, added))
        if self.options.global_captions:
            whole = self.whole.greedy(stem, max_global_words)
        return local, whole
